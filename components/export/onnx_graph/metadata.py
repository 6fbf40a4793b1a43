"""The facts that an ONNX file carries about itself: it may be found without its export.json."""

import json
from typing import Any

from components.export.config import OnnxOptions
from components.export.onnx_graph.specs import meaning_of_input, meaning_of_output
from shared.contracts.model import ModelCard
from shared.deployed.form import Form
from shared.deployed.synthesiser import input_names


def facts_of(form: Form, card: ModelCard, options: OnnxOptions) -> dict[str, str]:
    """Texts by key: words as they are, all else as JSON; nothing of when and where it was made, so
    that the same model gives the same bytes.

    card: Of the model."""
    reads, graph = card.architecture, form.graph
    names = input_names(reads, graph)
    facts = {
        "format": 1,  # of these keys
        # What it reads and writes.
        "inputs": {name: meaning_of_input(name, graph, reads.num_labels) for name in names},
        "output": meaning_of_output(graph, reads.output_nc),
        "size": list(form.size) if form.size else "dynamic",
        "num_labels": reads.num_labels,
        "labels": [label.model_dump() for label in card.labels],
        "raw": card.raw.model_dump(),
        "style": form.style.by_label.tolist() if form.style else [],
        "graph": graph.model_dump(),
        # What computes it.
        "architecture": reads.model_dump(),
        "precision": options.precision,
        "batch_norm": options.batch_norm,
        "dropout": options.dropout,
        # Of what it was made.
        "model_digest": card.digest,
        "dataset_digest": card.dataset_digest,
        "test_digest": card.test_digest,
    }
    return {key: _text(value) for key, value in facts.items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

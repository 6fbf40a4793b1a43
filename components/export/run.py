"""Trained generator -> a deployable ONNX file that provably equals it: integer maps in, picture out."""

from pathlib import Path

import onnx
import onnxruntime
import torch

from components.export.config import ExportConfig
from components.export.maps import generated_maps, real_maps
from components.export.norm import with_precise_norm
from components.export.onnx_file import OUTPUT, to_onnx
from components.export.parity import measure_parity
from shared import tracking
from shared.checkpoint import load_generator
from shared.contracts import ClusterTable, ExportCard, ModelCard, TensorSpec, write_atomically
from shared.errors import InputError
from shared.layers import with_picture_statistics
from shared.networks import Synthesiser

FILE = "generator.onnx"
MEANINGS = {
    "labels": "label ids, 0 .. {last_label}; others have no channel",
    "image": "picture of 0 .. 255",
    "instances": "instance ids, any integers: only where neighbours differ matters",
    OUTPUT: "RGB picture in [-1, 1]",
}


def run(
    model: Path,
    exported: Path,
    dataset: Path | None = None,
    clusters: Path | None = None,
    *,
    config: ExportConfig,
) -> dict[str, float]:
    """Export a trained generator to ONNX and prove on label maps that the file equals the PyTorch model.

    Args:
        model: Folder of the train step.
        exported: Folder to write.
        dataset: Folder of the prepare step, on whose maps the file is proven; without it maps are generated.
        clusters: Folder of the cluster step; a model with instance features needs it.
    """
    # The deployed function: one-hot, edges and painting of instance features are inside it.
    card, generator = load_generator(model)
    if config.batch_norm == "picture":
        generator = with_picture_statistics(generator)
    style = load_style(model, card, clusters)
    synthesiser = Synthesiser(generator, card.architecture, style).eval()

    # What it is proven on.
    if dataset:
        maps, source = real_maps(dataset, card, config.parity_samples), f"real label maps of {dataset}"
    else:
        maps, source = generated_maps(card, config.parity_samples), "generated label maps, as no --dataset was given"

    # Export. What an earlier run left goes first: it must not look like the result of this one.
    for name in (ExportCard.FILE, FILE):
        (exported / name).unlink(missing_ok=True)
    example = {name: torch.from_numpy(array[:1]) for name, array in maps.items()}
    deployed = with_precise_norm(synthesiser) if config.instance_norm == "precise" else synthesiser
    onnx_file = to_onnx(deployed, example, config.opset)
    print(f"export: opset {config.opset}, {len(onnx_file) / 2**20:.1f} MB, inputs {', '.join(maps)}", flush=True)

    # Proof, and only then the file.
    parity = measure_parity(onnx_file, synthesiser, maps, config.parity_limit)
    found = (
        f"max abs error {parity.max_abs_error:.2e}, mean {parity.mean_abs_error:.2e}, limit {parity.limit:g}, "
        f"on {parity.samples} {source}"
    )
    if not parity.max_abs_error <= parity.limit:  # also when it is nan
        raise RuntimeError(f"the ONNX file differs from the PyTorch model and was not kept: {found}.")
    write_atomically(exported / FILE, onnx_file)
    ExportCard(
        file=FILE,
        opset=config.opset,
        precision="fp32",
        batch_norm=config.batch_norm,
        inputs=[tensor_spec(name, str(array.dtype), card, list(array.shape[1:-2])) for name, array in maps.items()],
        outputs=[tensor_spec(OUTPUT, "float32", card, [3])],
        style=[] if style is None else style.tolist(),
        parity=parity,
        model_digest=card.digest,
        versions={"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    ).write(exported)
    print(f"export: equal to PyTorch: {found}")
    print(f"export: {exported / FILE}")

    figures = {
        "parity/max_abs_error": parity.max_abs_error,
        "parity/mean_abs_error": parity.mean_abs_error,
        "onnx_mb": len(onnx_file) / 2**20,
    }
    tracking.log_figures(figures)
    tracking.log_files(exported)
    return figures


def load_style(model: Path, card: ModelCard, clusters: Path | None) -> torch.Tensor | None:
    """Features (num_labels + 1, feat_num) in [-1, 1] that the file paints by label; None where the model has none."""
    feat_num = card.architecture.feat_num
    if not feat_num and clusters is None:
        return None
    if not feat_num:
        raise InputError(
            f"--clusters {clusters} was given but --model {model} takes no instance features: leave it out."
        )
    if clusters is None:
        raise InputError(
            f"--model {model} takes {feat_num} instance features but --clusters was not given: "
            f"give the folder that `python -m components.cluster` wrote."
        )
    table = ClusterTable.read(clusters)
    # Features are clustered after stage one; the enhancer of stage two is trained from that model on the same features.
    if table.model_digest not in (card.digest, card.parent_digest) or table.feat_num != feat_num:
        raise InputError(
            f"--clusters {clusters} belongs to model {table.model_digest} ({table.feat_num} features), not to "
            f"--model {model}, which is {card.digest} ({feat_num} features) from {card.parent_digest or 'scratch'}: "
            f"cluster the features of this model or of its parent."
        )
    return torch.from_numpy(table.default_style(card.architecture.num_labels))


def tensor_spec(name: str, dtype: str, card: ModelCard, channels: list[int]) -> TensorSpec:
    meaning = MEANINGS[name].format(last_label=card.architecture.num_labels - 1)
    return TensorSpec(name=name, dtype=dtype, shape=["batch", *channels, card.height, card.width], meaning=meaning)

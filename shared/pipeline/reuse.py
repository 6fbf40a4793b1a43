"""What a step is made of, so that an earlier run's output of the same is taken over."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from shared import registry
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard
from shared.contracts.measured import BenchmarkReport
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.files.digests import digest_files
from shared.networks.chosen import promise_of
from shared.pipeline.runs import Run, runs_in

Reuse = Literal["on", "data", "off"]

# Parameters of a task that say where, and not what: `files_version` says what.
PLACES = {"raw_data": "files_version", "workspace": "files_version"}


def step_key(component: str, parameters: Mapping[str, Any], inputs: Mapping[str, Path]) -> str:
    """Digest of what decides a step's output: component, config, code and what its inputs hold.

    Args:
        parameters: The task's parameters, such as `config`, `given` over it, and `code_version`.
        inputs: Folders of earlier steps, by name.
    """
    known = {name: value for name, value in parameters.items() if name not in PLACES}
    known["config"] = known.pop("config", {}) | known.pop("given", {})
    if any(place in parameters and what not in parameters for place, what in PLACES.items()):
        known["never the same"] = uuid.uuid4().hex
    digests = {name: digest_of(folder) for name, folder in inputs.items()}
    text = json.dumps([component, known, digests], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of(folder: Path) -> str:
    """Digest of what the next steps read in a folder, wherever it lies."""
    if (folder / DatasetManifest.FILE).is_file():
        manifest = DatasetManifest.read(folder)
        described = manifest.model_dump_json(exclude={"source", "source_digest", "config"})
    elif (folder / ModelCard.FILE).is_file():
        measured = {"metrics": True, "weights": {"__all__": {"metrics"}}}
        described = ModelCard.read(folder).model_dump_json(exclude=measured)
    elif (folder / ClusterTable.FILE).is_file():
        table = ClusterTable.read(folder)
        described = table.model_dump_json()
        if not table.files:  # of an earlier version
            described += digest_files([folder / ClusterTable.FEATURES])
    else:
        card = ExportCard.read(folder)
        described = card.model_dump_json(exclude={"parity", "int8"})
        if not card.files:
            files = [card.file, *(om.file for om in card.om)]
            described += digest_files([folder / file for file in files])
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def listing_of(folder: Path) -> str:
    """Digest of the names and sizes of all files in a folder: whether it is still whole."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder)} {path.stat().st_size}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def find_same(runs: Path, key: str, step: str) -> Run | None:
    """The newest run that made this output of a step and still has it whole.

    Args:
        key: Of the step, from `step_key`.
    """
    for run in runs_in(runs):
        state = run.record.steps.get(step)
        if state and state.is_done and state.key == key:
            folder = run.folder / step.replace("_", "-")
            if listing_of(folder) == state.files and _is_as_written(
                folder, f"{step} of {run.name}"
            ):
                return run
    return None


def _is_as_written(folder: Path, called: str) -> bool:
    """Whether the files in a step's folder are those that were written; where not, a line says so.

    called: the output in words."""
    try:
        for card in folder.glob(f"*/{ModelCard.FILE}"):
            with promise_of(card.parent, ModelCard.read(card.parent)).kept():
                pass
        for contract in (ClusterTable, ExportCard):
            for card in folder.glob(f"*/{contract.FILE}"):
                with contract.read(card.parent).promise(card.parent).kept():
                    pass
    except InputError as changed:
        print(f"{called} is not taken over: {changed}", flush=True)
        return False
    return True


def verdict_holds(run: Run) -> bool:
    """Whether a run's model was compared with today's champion, or is that: else another verdict
    may be due. A registry that does not answer could not give one."""
    report = BenchmarkReport.read(run.report)
    name = run.record.config["benchmark"].get("registered_model")
    if not name or report.verdict is None:
        return True
    try:
        with registry.connected() as client:
            champion = registry.with_alias(registry.versions(client, name), registry.CHAMPION)
    except registry.RegistryError:
        return True
    digest = champion.tags.get("model_digest") if champion else None
    return digest in (report.verdict.champion, report.model_digest)

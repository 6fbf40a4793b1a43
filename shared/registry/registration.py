"""A measured export becomes a version of a registered model, and gets the alias that its verdict
deserves. What MLflow does not take now waits in the run's journal."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from shared import tracking
from shared.contracts.exported import ExportCard
from shared.contracts.folder import Folder
from shared.contracts.measured import BenchmarkReport, Verdict
from shared.errors import WorkFailed
from shared.files.digests import NotAsWritten
from shared.files.writing import link_or_copy
from shared.registry import (
    CHALLENGER,
    CHAMPION,
    RegistryError,
    Version,
    connected,
    crown,
    registered_model,
    set_alias,
    set_tag,
    versions,
    with_alias,
)
from shared.registry.mlflow_model import add_example, write_mlmodel
from shared.tracking.journal import warn

PENDING = "registration"  # folder in the journal


class Candidate(Folder):
    """An export that was measured and is to be a version: beside the card, in `model/`, its
    files."""

    FILE: ClassVar[str] = "candidate.json"
    FLAG: ClassVar[str] = "--journal"
    MADE_BY: ClassVar[str] = "python -m components.benchmark"
    FILES: ClassVar[str] = "model"

    name: str  # of the registered model
    run: str  # what it was made in: a pipeline's run by its name, else by MLflow's id, or a step's
    verdict: Verdict
    model_digest: str
    weights: str = ""  # in words, as a report's
    dataset_digest: str
    figures: dict[str, float]

    def description(self) -> str:
        """What the UI shows with the version, in Markdown."""
        of = f", weights {self.weights}" if self.weights else ""
        lines = [f"**{self.verdict.outcome}**, run `{self.run}`{of}", ""]
        lines += [f"- {reason}" for reason in self.verdict.reasons] + [""]
        lines += ["| figure | value |", "|---|---|"]
        lines += [f"| {name} | {value:.5g} |" for name, value in sorted(self.figures.items())]
        return "\n".join(lines)


def register(
    name: str, exported: Path, report: Path, example: Mapping[str, np.ndarray]
) -> Version | None:
    """Make a measured export a version of a registered model, and give it the alias that its
    verdict deserves: see `settle`.

    Args:
        name: Of the registered model; made where it is not there.
        exported, report: Folders of the export and of its benchmark, whose report holds a verdict.
        example: One input of the file, arrays (1, ...) by name.

    What MLflow does not take now it gets later, from the run's journal: None then.
    """
    run, run_id = tracking.handle(), tracking.run_id()
    if run is None:
        print(f"registry: {name} gets no version: no MLFLOW_TRACKING_URI is set", flush=True)
        return None

    # All that it takes, in one place.
    measured = BenchmarkReport.read(report)
    of_pipeline = (os.environ.get(variable) for variable in (tracking.PIPELINE, tracking.PARENT))
    candidate = Candidate(
        name=name,
        run=next(filter(None, of_pipeline), run_id or str(run.journal)),
        verdict=measured.verdict,
        model_digest=measured.model_digest,
        weights=measured.weights,
        dataset_digest=measured.dataset_digest,
        figures=measured.headline(),
    )
    package = run.journal / PENDING
    pack(package, candidate, exported, report, example)

    # Now, or later.
    problem = "MLflow does not answer."
    if run_id:
        try:
            with connected() as client:
                return deliver(client, run_id, str(package))
        except RegistryError as error:
            problem = str(error)
    warn(f"the version of {name} waits in {package}: {problem}")
    tracking.call_later(__name__, deliver.__name__, package=str(package))
    return None


def pack(
    package: Path,
    candidate: Candidate,
    exported: Path,
    report: Path,
    example: Mapping[str, np.ndarray],
) -> None:
    """Put all that a version consists of into one folder; on one disk its files cost no bytes."""
    shutil.rmtree(package, ignore_errors=True)
    files = package / Candidate.FILES
    files.mkdir(parents=True)
    kept = [path for path in exported.iterdir() if path.is_file() and path.name[0] != "."]
    kept += [path for path in report.iterdir() if path.suffix in (".json", ".html")]
    try:
        with ExportCard.read(exported).promise(exported).kept():
            for path in kept:
                link_or_copy(path, files / path.name)
    except NotAsWritten as changed:  # since it was measured
        raise WorkFailed(str(changed)) from None
    add_example(files, example)
    candidate.write(package)  # last: without it the package is not whole


def deliver(client, run_id: str, package: str) -> Version | None:
    """Register what `pack` has put together, once, and remove that; whatever `client` raises comes
    through, and then it is still there. None where it is not.

    Args:
        run_id: Of the benchmark in MLflow.
    """
    folder = Path(package)
    if not (folder / Candidate.FILE).is_file():
        return None
    candidate = Candidate.read(folder)
    version = _registered_before(client, candidate) or _upload(client, run_id, folder, candidate)
    settle(client, version, candidate)
    shutil.rmtree(folder)
    return version


def _registered_before(client, candidate: Candidate) -> Version | None:
    """The version that an earlier attempt made of it."""
    same = {"run": candidate.run, "model_digest": candidate.model_digest}
    for version in versions(client, candidate.name):
        if same.items() <= version.tags.items():
            return version
    return None


def _upload(client, run_id: str, package: Path, candidate: Candidate) -> Version:
    """Create the version, with its files."""
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    # MLflow's model, which has the files, beside the run.
    experiment_id = client.get_run(run_id).info.experiment_id
    digests = candidate.model_dump(include={"model_digest", "dataset_digest"})
    model = client.create_logged_model(
        experiment_id, candidate.name, source_run_id=run_id, params=digests, model_type="onnx"
    )
    write_mlmodel(package / Candidate.FILES, model.model_id, run_id)
    client.log_model_artifacts(model.model_id, str(package / Candidate.FILES))
    client.finalize_logged_model(model.model_id, "READY")

    # Its figures, which the list of models shows.
    now, figures = int(time.time() * 1000), candidate.figures.items()
    metrics = [Metric(key, value, now, 0, model_id=model.model_id) for key, value in figures]
    client.log_batch(run_id, metrics=metrics)

    # The version of the registered model.
    if registered_model(client, candidate.name) is None:
        with contextlib.suppress(MlflowException):  # another was faster
            client.create_registered_model(candidate.name)
    tags = digests | {"run": candidate.run, "outcome": candidate.verdict.outcome}
    tags["weights"] = candidate.weights
    tags["figures"] = json.dumps(candidate.figures)
    made = client.create_model_version(
        candidate.name,
        f"models:/{model.model_id}",
        run_id,
        tags=tags,
        description=candidate.description(),
        model_id=model.model_id,
    )
    return Version(candidate.name, int(made.version), tags)


def settle(client, version: Version, candidate: Candidate) -> None:
    """Give a new version the alias that its verdict deserves, and say so; once, whatever people did
    with the aliases since.

    The first one becomes the champion, and one that is better than the champion. One as good is
    the challenger, and so is one that was better than a champion that is none any more: a person
    decides. A refused one gets no alias but the tag `refused`, which says why.
    """
    if "settled" in version.tags:
        return
    verdict = candidate.verdict
    champion = with_alias(versions(client, version.name), CHAMPION)
    is_same = champion is None or champion.tags.get("model_digest") == verdict.champion
    match verdict.outcome:
        case "first" | "better" if champion and champion.number == version.number:
            line = f"{version} is the champion now"  # an earlier attempt came this far
        case "first" | "better" if is_same:
            crown(client, version)
            line = f"{version} is the champion now" + (f", before: {champion}" if champion else "")
        case "worse" | "not comparable":
            set_tag(client, version, "refused", " ".join(verdict.reasons) or verdict.outcome)
            line = f"{version} is refused, the champion stays {champion or 'none'}"
        case _:
            set_alias(client, version, CHALLENGER)
            line = f"{version} is the challenger, the champion stays {champion or 'none'}"
    set_tag(client, version, "settled", "true")
    print(f"registry: {line}", flush=True)

"""A measured export becomes a version of a registered model, and gets the alias that its
verdict deserves. What MLflow does not take waits in the journal of the run."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from shared import tracking
from shared.contracts.folder import Folder
from shared.contracts.measured import BenchmarkReport, Verdict
from shared.registry import (
    CHALLENGER,
    CHAMPION,
    RegistryError,
    Version,
    asking,
    crown,
    registered_model,
    set_alias,
    set_tag,
    temporary_folder,
    versions,
    with_alias,
)
from shared.registry.mlflow_model import add_example, write_mlmodel

JOURNAL, PENDING = "PIPELINE_JOURNAL", "registration"  # folder of the journal, and in it
RUN = "PIPELINE_RUN"


class Candidate(Folder):
    """An export that was measured and is to be a version: beside the card, in `model/`, its
    files."""

    FILE: ClassVar[str] = "candidate.json"
    FLAG: ClassVar[str] = "--journal"
    MADE_BY: ClassVar[str] = "benchmark"
    FILES: ClassVar[str] = "model"

    name: str  # of the registered model
    run: str  # what it was made in, by its name, else by its id in MLflow
    run_id: str  # of the step in MLflow, '' = it has none
    verdict: Verdict
    model_digest: str
    dataset_digest: str
    figures: dict[str, float]

    def description(self) -> str:
        """What the UI shows with the version, in Markdown."""
        lines = [f"**{self.verdict.outcome}**, run `{self.run}`", ""]
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

    A server that does not answer costs a warning: None then, and the journal has what is needed.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        print("registry: nothing is registered where MLFLOW_TRACKING_URI is not set", flush=True)
        return None
    journal = Path(os.environ[JOURNAL]) if os.environ.get(JOURNAL) else temporary_folder()
    measured = BenchmarkReport.read(report)
    candidate = Candidate(
        name=name,
        run=os.environ.get(RUN) or os.environ.get(tracking.PARENT) or tracking.run_id() or "",
        run_id=tracking.run_id() or "",
        verdict=measured.verdict,
        model_digest=measured.model_digest,
        dataset_digest=measured.dataset_digest,
        figures=measured.headline(),
    )
    pack(journal / PENDING, candidate, exported, report, example)
    try:
        return send_pending(journal)
    except RegistryError as error:
        later = "`python pipeline.py sync` registers it later" if os.environ.get(JOURNAL) else ""
        print(f"warning: registry: not registered: {error} {later}".strip(), file=sys.stderr)
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
    for path in kept:
        try:
            os.link(path, files / path.name)
        except OSError:
            shutil.copyfile(path, files / path.name)
    add_example(files, example)
    candidate.write(package)  # last: without it the package is not whole


def send_pending(journal: Path) -> Version | None:
    """Register what a journal holds, and take it out; None where it holds nothing. Raises
    RegistryError, and then the journal stays as it is."""
    package = journal / PENDING
    if not (package / Candidate.FILE).is_file():
        return None
    candidate = Candidate.read(package)
    with asking() as mlflow:
        version = _registered_before(candidate) or _upload(mlflow, package, candidate)
        settle(version, candidate)
    shutil.rmtree(package)
    return version


def _registered_before(candidate: Candidate) -> Version | None:
    """The version that an earlier attempt made of it."""
    same = ("run", "model_digest")
    wanted = candidate.model_dump(include=set(same))
    for version in versions(candidate.name):
        if {key: version.tags.get(key) for key in same} == wanted:
            return version
    return None


def _upload(mlflow, package: Path, candidate: Candidate) -> Version:
    """Create the version, with its files."""
    client = mlflow.MlflowClient()
    run_id = candidate.run_id or None
    if run_id:
        experiment_id = client.get_run(run_id).info.experiment_id
    else:
        experiment = client.get_experiment_by_name(os.environ.get(tracking.EXPERIMENT, "Default"))
        experiment_id = experiment.experiment_id if experiment else "0"

    # MLflow's model, which has the files.
    digests = candidate.model_dump(include={"model_digest", "dataset_digest"})
    model = client.create_logged_model(
        experiment_id, candidate.name, source_run_id=run_id, params=digests, model_type="onnx"
    )
    files = package / Candidate.FILES
    write_mlmodel(files, model.model_id, run_id)
    client.log_model_artifacts(model.model_id, str(files))
    client.finalize_logged_model(model.model_id, "READY")
    if run_id:
        mlflow.log_metrics(candidate.figures, run_id=run_id, model_id=model.model_id)

    # The version of the registered model.
    if registered_model(client, candidate.name) is None:
        with contextlib.suppress(mlflow.exceptions.MlflowException):  # another was faster
            client.create_registered_model(candidate.name)
    tags = digests | {"run": candidate.run, "outcome": candidate.verdict.outcome}
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


def settle(version: Version, candidate: Candidate) -> None:
    """Give a new version the alias that its verdict deserves, and say so; once, whatever people did
    with the aliases since.

    The first one becomes the champion, and one that is better than the champion. One as good is
    the challenger, and so is one that was better than a champion that is none any more: a person
    decides. A refused one gets no alias but the tag `refused`, which says why.
    """
    if "settled" in version.tags:
        return
    champion, verdict = with_alias(versions(version.name), CHAMPION), candidate.verdict
    is_same = champion is None or champion.tags.get("model_digest") == verdict.champion
    match verdict.outcome:
        case "first" | "better" if champion and champion.number == version.number:
            line = f"{version} is the champion now"  # an earlier attempt came this far
        case "first" | "better" if is_same:
            crown(version)
            line = f"{version} is the champion now" + (f", before: {champion}" if champion else "")
        case "worse" | "not comparable":
            set_tag(version, "refused", " ".join(verdict.reasons) or verdict.outcome)
            line = f"{version} is refused, the champion stays {champion}"
        case _:
            set_alias(version, CHALLENGER)
            line = f"{version} is the challenger, the champion stays {champion}"
    set_tag(version, "settled", "true")
    print(f"registry: {line}", flush=True)

"""What MLflow missed of earlier runs is delivered: figures, pictures, files, and versions of
registered models."""

import os
import sys
from pathlib import Path

from shared import tracking
from shared.errors import InputError
from shared.pipeline.runs import JOURNAL, find
from shared.secrets import HIDDEN
from shared.tracking.journal import journals_in
from shared.tracking.replay import Delivered, is_delivered, replay, uri_of

ALL = "all"


def sync(run: str = ALL, runs: Path = Path("runs")) -> None:
    """Deliver to MLflow what it missed of runs, and close runs whose processes died.

    To where MLFLOW_TRACKING_URI points, else to where the run was to be logged. Exit code 1 where
    something is left.

    Args:
        run: Name of a run, `latest`, `all`, or the folder of a step's journal.
        runs: Folder of the runs.

    Example:
        python pipeline.py sync --run latest
    """
    journals = _journals(run, runs)
    left = 0
    for journal in journals:
        name = journal.parent.name if journal.name == JOURNAL else journal.name
        if is_delivered(journal):
            if len(journals) == 1:
                print(f"{name}: MLflow has everything")
            continue
        done = _deliver(journal, runs)
        left += done.left
        line = f"{name}: {done.delivered} entries delivered, {done.left} left"
        print(f"{line}: {'; '.join(done.reasons)}" if done.left else line, flush=True)
    if not left and len(journals) > 1:
        print(f"MLflow has everything of {len(journals)} runs")
    if left:
        sys.exit(1)


def _journals(run: str, runs: Path) -> list[Path]:
    """Raises InputError where there is no such run."""
    if run == ALL:
        return sorted(runs.resolve().glob(f"*/{JOURNAL}"))
    if journals_in(Path(run)):
        return [Path(run).resolve()]
    return [find(runs, run, "--run").folder / JOURNAL]


def _deliver(journal: Path, runs: Path) -> Delivered:
    """Raises InputError where the address of MLflow had a password, which was not kept."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri_of(journal) or tracking.store_uri(runs)
    if HIDDEN in uri:
        raise InputError(
            f"{journal} was logged to {uri}, whose password was not kept: set MLFLOW_TRACKING_URI."
        )
    return replay(journal, uri)

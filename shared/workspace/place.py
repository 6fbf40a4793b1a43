"""Where a run's folder is on a workspace."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError
from shared.files.room import REMEDIES

RUN_ID = "KFP_RUN_ID"  # environment: the label of a pod that says of which run it is
RUN_LABEL = "metadata.labels['pipeline/runid']"  # where Kubernetes has it
PREPARED = ".prepared"  # on a workspace: which data sets were made there


def mounted(workspace: str) -> Path:
    """Raises InputError where the workspace is not there: a folder that was made in its place would
    be gone with the pod."""
    if not os.path.isdir(workspace):
        raise InputError(
            f"the workspace {workspace} is not there: let the cluster file name a volume that can "
            "be mounted into every pod."
        )
    return Path(workspace)


def run_id() -> str:
    """The run that this pod belongs to. Raises InputError where nothing says so."""
    run = os.environ.get(RUN_ID, "")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run):
        raise InputError(
            f"{RUN_ID} {run!r} names no run, whose folder on the workspace is to be written: let "
            f"it be {RUN_LABEL} of the pod, as `pipeline.py compile --cluster` does."
        )
    return run


@contextlib.contextmanager
def refused_if_unwritable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        number = error.errno
        remedy = REMEDIES.get(number, "let the user or the group of the pod (fsGroup) write to it")
        raise InputError(
            f"the workspace {root} cannot be written ({os.strerror(number) if number else error}): "
            f"{remedy}."
        ) from None

"""A step of a cluster that was refused is refused at once in its next attempt.

KFP takes over count and pauses of a retry from the graph, but neither Argo's policy nor its
expression, such as `lastRetry.exitCode != 2` (kubeflow/pipelines, argocompiler/container.go of
2.17): a pod that says that its input is wrong is started again. On a workspace it leaves a note."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError
from shared.files.writing import make_folder, write_atomically
from shared.workspace.place import run_id

POD = "KFP_POD_NAME"  # environment: the name of the pod; another one for each attempt
NOTE = "refused.txt"  # in the folder of a step: the pod, and what it said


@contextlib.contextmanager
def refused_once(workspace: str, step: str) -> Iterator[None]:
    """Inside, a refusal is noted for the pods that come after this one.

    Whoever lets KFP do a failed run again gets the first attempt of it once more, under its name:
    it works anew.

    workspace: Folder that all pods share, "" = there is none.
    Raises InputError at once where an earlier attempt was refused.
    """
    try:
        note = Path(workspace, run_id(), step, NOTE) if os.path.isdir(workspace) else None
    except InputError:  # of no run; who writes there says so
        note = None
    pod = os.environ.get(POD) or platform.node()
    earlier = said = ""
    with contextlib.suppress(OSError):
        earlier, _, said = (note.read_text("utf-8", "replace") if note else "").partition("\n")
    if said and earlier != pod:
        print(f"refused as in the attempt of pod {earlier}: nothing was tried", flush=True)
        raise InputError(said)

    # This one.
    try:
        if said:
            with contextlib.suppress(OSError):
                note.unlink()
        yield
    except InputError as refusal:
        with contextlib.suppress(OSError):
            if note:
                make_folder(note.parent)
                write_atomically(note, f"{pod}\n{refusal}".encode())
        raise

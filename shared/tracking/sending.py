"""What each kind of entry is in MLflow's own calls. They raise whatever MLflow raises, and may be
made twice: the second time changes nothing."""

import contextlib
import importlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from shared.files.names import inside
from shared.tracking.journal import Entry
from shared.tracking.store import Unreachable
from shared.tracking.tree import Tree

CALLED = {("shared.registry.registration", "deliver")}  # what an entry may ask for
OF_FILES = {"picture", "file"}
THUMBNAIL = 256  # pixels of the longer side, as MLflow's own

Figure = tuple[str, str, float | str, int, int]  # kind of its entry, key, value, step, time in ms


def send_figures(client, run_id: str, figures: list[Figure]) -> None:
    """Metrics, parameters and tags, in one call."""
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(
        run_id,
        metrics=[
            Metric(key, value, time, step)
            for kind, key, value, step, time in figures
            if kind == "metrics"
        ],
        params=[Param(key, value) for kind, key, value, *_ in figures if kind == "params"],
        tags=[RunTag(key, value) for kind, key, value, *_ in figures if kind == "tags"],
    )


def send(tree: Tree, run_id: str, entry: Entry, writer: str) -> None:
    """An entry of any other kind, of the .jsonl called `writer`.

    Raises FileNotFoundError for a file that is gone."""
    client, folder, note = tree.client, tree.folder, tree.note(entry["run"])
    # A run that a later process has open is not to be closed by what an earlier one left behind.
    is_ours = not note.given_id and note.opened_by == writer
    match entry["kind"]:
        case "start":
            if is_ours:
                client.update_run(run_id, status="RUNNING")
        case "end":
            if is_ours:
                client.set_terminated(run_id, entry["status"], entry["time"])
        case "dataset":
            _send_dataset(client, run_id, entry)
        case "picture":
            _refuse_files_elsewhere(tree, entry["run"])
            _send_picture(client, run_id, entry, folder)
        case "file":
            _refuse_files_elsewhere(tree, entry["run"])
            path = folder / entry["path"]  # of an absolute one, itself
            with _under_its_name(path, entry["name"]) as named:
                client.log_artifact(run_id, str(named), entry["folder"])
        case "call":
            _call(client, run_id, entry)
        case kind:
            raise ValueError(f"a journal of another version: it knows {kind}")


def _send_dataset(client, run_id: str, entry: Entry) -> None:
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource
    from mlflow.entities import DatasetInput, InputTag

    source = LocalArtifactDatasetSource(entry["source"])
    dataset = MetaDataset(source, name=entry["name"], digest=entry["digest"])
    context = InputTag("mlflow.data.context", entry["context"])
    client.log_inputs(run_id, [DatasetInput(dataset._to_mlflow_entity(), tags=[context])])


def _send_picture(client, run_id: str, entry: Entry, folder: Path) -> None:
    """A picture and its thumbnail, under names by which MLflow's UI finds a series over steps:
    what `log_image` does, but for its random part of the names, which would double a picture that
    is sent again."""
    from PIL import Image

    path = folder / entry["path"]
    unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{entry['run']}/{path.name}")
    stem = f"{entry['key']}+step+{entry['step']}+timestamp+{entry['time']}+{unique}"
    with (
        _under_its_name(path, f"{stem}.png") as named,
        Image.open(named, formats=["PNG"]) as picture,
    ):
        client.log_artifact(run_id, str(named), "images")
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        small = named.with_name(f"{stem}+compressed.webp")
        picture.save(small)
        client.log_artifact(run_id, str(small), "images")
    client.set_tag(run_id, "mlflow.loggedImages", True)


@contextlib.contextmanager
def _under_its_name(path: Path, name: str) -> Iterator[Path]:
    """A file under the name that it is to have in MLflow, without copying it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no longer there")
    with tempfile.TemporaryDirectory() as folder:
        named = inside(Path(folder), name)
        os.symlink(path.absolute(), named)
        yield named


def _refuse_files_elsewhere(tree: Tree, run: str) -> None:
    """Raises Unreachable where a local store was moved: it keeps the place of its files as an
    absolute path, and would make a second one outside of the runs."""
    place = tree.keeps_files_elsewhere(run)
    if place is not None:
        raise Unreachable(
            f"the store {tree.uri} was moved or copied, and would put files into {place}: they "
            "wait in the journal; move it back, or name a new store"
        )


def _call(client, run_id: str, entry: Entry) -> None:
    """Call a function of ours with the client and the run."""
    if (entry["module"], entry["function"]) not in CALLED:
        raise ValueError(f"{entry['module']} has no {entry['function']} for journals")
    function = getattr(importlib.import_module(entry["module"]), entry["function"])
    function(client, run_id, **entry["arguments"])

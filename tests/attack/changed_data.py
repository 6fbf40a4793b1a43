"""A data set that changes under a running training, with and without loader workers, from the cache
and from memory, on one and on two devices; and loader workers that are killed.

A training that says why it ends also says what is kept, and its last checkpoint is there.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from tests.asking import as_flags
from tests.attack import corrupted_data as damages
from tests.attack import night
from tests.attack.trying import Case, Ended, Outcome, Target

MODEL = "long"  # none of the night
LIMIT_S = 240.0
LONG = night.TRAIN | dict(epochs=9, validate_every_epochs=2)
TRAIN = ["train", *as_flags(dataset="dataset", model=MODEL, **LONG)]
WAYS = {
    "files": ["--cache", "off"],
    "2 workers": ["--cache", "off", "--workers", "2"],
    "cache": [],
    "memory": ["--cache", "memory"],
    "2 devices": ["--cache", "off", "--devices", "2"],
}
FILES, WORKERS, CACHE, ALL = ("files",), ("2 workers",), ("cache", "memory"), tuple(WAYS)


def of_all(damage: Callable[[Path], object], folder: str, dataset: Path) -> None:
    for path in sorted(dataset.glob(f"{folder}/*")):
        damage(path)


def in_place(path: Path) -> None:
    """Other pixels of the same size and type."""
    with Image.open(path) as image:
        other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    other.save(path)


def older(path: Path) -> None:
    """Other pixels, in a file that is renamed into its place and is older than the training."""
    other = path.with_suffix(".new")
    shutil.copy(path, other)
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other, format="PNG")
    os.utime(other, (1e9, 1e9))
    other.rename(path)


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def touched(path: Path) -> None:
    """As a backup or another run that links to it does: nothing has changed."""
    os.utime(path)


def moved(dataset: Path) -> None:
    dataset.rename(dataset.with_name("elsewhere"))


def replaced(dataset: Path) -> None:
    """By another data set of the same names and sizes, as old as the first."""
    moved(dataset)
    dataset.with_name("other").rename(dataset)


def cache_removed(dataset: Path) -> None:
    shutil.rmtree(dataset / "cache")


def cache_shrunk(dataset: Path) -> None:
    os.truncate(dataset / "cache/train.bin", 100)


def cache_zeroed(dataset: Path) -> None:
    with open(dataset / "cache/train.bin", "r+b") as file:
        file.write(bytes(os.stat(file.fileno()).st_size))


def manifest_rewritten(dataset: Path) -> None:
    damages.edited(dataset, damages.set_field("digest", "0" * 16))


def worker_ended(number: int, dataset: Path) -> None:
    """One of the processes that the training has started."""
    group, limit = training_of(dataset), time.monotonic() + 30
    while time.monotonic() < limit:  # they live for an epoch
        with contextlib.suppress(ProcessLookupError):
            if workers := [pid for pid in processes() if os.getpgid(pid) == group and pid != group]:
                os.kill(workers[-1], number)
                return


def processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def training_of(dataset: Path) -> int:
    """The training that works in the data set's folder."""
    for pid in processes():
        try:
            here = os.readlink(f"/proc/{pid}/cwd")
            if here == str(dataset.parent) and os.getpgid(pid) == pid:
                return pid
        except OSError:
            continue
    raise LookupError("no training")


CHANGES: list[tuple[str, Callable[[Path], object], tuple[str, ...]]] = [
    ("photos removed", partial(of_all, damages.removed, "train_img"), ALL),
    ("photos of another size", partial(of_all, damages.other_size, "train_img"), WORKERS),
    ("photos of another type", partial(of_all, damages.other_mode, "train_img"), FILES),
    ("photos emptied", partial(of_all, damages.emptied, "train_img"), WORKERS),
    ("photos cut", partial(of_all, damages.cut, "train_img"), FILES),
    ("photos of other content", partial(of_all, in_place, "train_img"), FILES + WORKERS),
    ("photos of other content, older", partial(of_all, older, "train_img"), FILES),
    ("folders instead of photos", partial(of_all, folder_in_its_place, "train_img"), FILES),
    ("labels of other content", partial(of_all, in_place, "train_label"), WORKERS),
    ("labels that there are not", partial(of_all, damages.high_label, "train_label"), FILES),
    ("other instances", partial(of_all, damages.other_instances, "train_inst"), WORKERS),
    ("test photos of other content", partial(of_all, in_place, "test_img"), FILES),
    ("test labels removed", partial(of_all, damages.removed, "test_label"), WORKERS),
    ("photos touched", partial(of_all, touched, "train_img"), FILES),
    ("data set moved", moved, (*WORKERS, "2 devices", "cache")),
    ("data set replaced", replaced, (*FILES, "2 devices", "cache")),
    ("manifest rewritten", manifest_rewritten, FILES),
    ("cache removed", cache_removed, CACHE),
    ("cache shrunk", cache_shrunk, CACHE),
    ("cache zeroed", cache_zeroed, CACHE),
    ("a worker killed", partial(worker_ended, signal.SIGKILL), WORKERS),
    ("a worker ended by SIGBUS", partial(worker_ended, signal.SIGBUS), WORKERS),
]


def cases(target: Target) -> Iterator[Case]:
    prepare_other(target)
    for name, change, ways in CHANGES:
        for way in ways:
            yield Case(
                f"{way}: {name}",
                lambda folder: None,
                [[*TRAIN, *WAYS[way]]],
                [MODEL],
                then=checkpoint_is_kept,
                meanwhile=partial(once_it_trains, change),
                limit_s=LIMIT_S,
            )


def prepare_other(target: Target) -> None:
    """Beside the data set of the night another one of the same names and sizes, and other
    pictures."""
    other = target.night / "other"
    shutil.copytree(target.night / "dataset", other)
    of_all(in_place, "t*_img", other)


def once_it_trains(change: Callable[[Path], object], folder: Path) -> None:
    """Change the data set after the checkpoint of an epoch, while it goes on."""
    limit = time.monotonic() + LIMIT_S - 60
    while not (folder / MODEL / "model.json").is_file() and time.monotonic() < limit:
        time.sleep(0.02)
    change(folder / "dataset")


def checkpoint_is_kept(target: Target, ended: list[Ended]) -> tuple[Outcome, str] | None:
    if not (target.folder / MODEL / "state" / "training.pt").is_file():
        return Outcome.LOST, "the checkpoint is gone"
    if ended[0].outcome == Outcome.SENTENCE and "kept" not in ended[0].last_words:
        return Outcome.WORDLESS, f"what is kept is not said: {ended[0].last_words}"
    return None

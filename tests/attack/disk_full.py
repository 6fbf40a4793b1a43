"""A disk that is full, a file that may grow no further, a memory that is used up, under each step
and command.

Each says one sentence, and the same command ends well once there is room, with what it would have
made at once: what was there before is kept. Cases of a disk take root, which mounts one of its own;
the others take nothing.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.asking import as_flags
from tests.attack import night
from tests.attack.trying import Case, Ended, Outcome, Target, contents

FULL = Path(__file__).parent / "inside" / "full.py"
DISK = "small"  # the folder that is a disk


@dataclass
class Writer:
    """A command that writes `result`, in the folder DISK."""

    command: list[str]
    result: str
    free: int = 0  # bytes of the disk
    file: int = 0  # most bytes of a file
    brings: str = ""  # folder of the night that goes to DISK
    environment: dict[str, str] = field(default_factory=dict)

    def prepare(self, folder: Path) -> None:
        (folder / DISK).mkdir()
        if self.brings:
            shutil.move(folder / self.brings, folder / DISK / self.brings)


def on_disk(command: list[str], *names: str) -> list[str]:
    """A command whose folders of these names are on the small disk."""
    return [f"{DISK}/{word}" if word in names else word for word in command]


SYNTHESISE = ["export", "synthesise"]
SYNTHESISE += as_flags(exported="exported", dataset="dataset", out=f"{DISK}/pictures")
SYNTHESISE += ["--device", "cpu"]
INPUTS = ["export", "offline", "inputs"]
INPUTS += as_flags(dataset="dataset", exported="exported", out=f"{DISK}/inputs")
EXCHANGE = ["cluster", "exchange", "maps"]
EXCHANGE += as_flags(clusters="clusters", dataset="dataset", out=f"{DISK}/maps", form="npy")
DEMO = ["prepare", "demo", *as_flags(out=f"{DISK}/demo", train=4, test=2, size=night.SIZE)]
PACKED = ["prepare"]
PACKED += as_flags(raw_data="raw.tar", dataset="packed", size=night.SIZE, copies=f"{DISK}/copies")
MODEL, STOPPED = on_disk(night.MODEL, "model"), on_disk(night.STOPPED, "stopped")
STORE = {"MLFLOW_TRACKING_URI": f"sqlite:///{DISK}/mlflow.db"}

WRITERS = {
    "prepare": Writer(on_disk(night.PREPARE, "dataset"), "dataset", free=30_000, file=1500),
    "prepare demo": Writer(DEMO, "demo", free=20_000, file=1500),
    "train, first checkpoint": Writer(MODEL, "model", free=400_000, file=60_000),
    "train, sample pictures": Writer(MODEL, "model", file=4000),
    "train, goes on": Writer(STOPPED, "stopped", brings="stopped", free=50_000, file=60_000),
    "cluster": Writer(on_disk(night.CLUSTER, "clusters"), "clusters", free=2000, file=1000),
    "cluster exchange": Writer(EXCHANGE, "maps", free=8000, file=1000),
    "export": Writer(on_disk(night.EXPORT, "exported"), "exported", free=60_000, file=20_000),
    "export, external data": Writer(
        [*on_disk(night.EXPORT, "exported"), "--external-data-above-mb", "0"],
        "exported",
        free=60_000,
        file=20_000,
    ),
    "export synthesise": Writer(SYNTHESISE, "pictures", free=8000, file=1000),
    "export offline inputs": Writer(INPUTS, "inputs", file=3000),
    "benchmark": Writer(on_disk(night.BENCHMARK, "report"), "report", free=20_000, file=20_000),
}


def cases(target: Target) -> Iterator[Case]:
    for name, writer in WRITERS.items():
        # Undamaged.
        folder = target.fresh()
        writer.prepare(folder)
        target.made(writer.command)
        results = [f"{DISK}/{writer.result}"]
        whole = contents(folder, results)

        def then(
            target: Target, _ended: list[Ended], writer=writer, results=results, whole=whole
        ) -> tuple[Outcome, str] | None:
            return again(target, writer.command, results, whole)

        limits = {"a file": {"FULL_FILE": str(writer.file)}} if writer.file else {}
        if writer.free and os.geteuid() == 0:
            limits["the disk"] = {"FULL_FOLDER": DISK, "FULL_BYTES": str(writer.free)}
        for what, environment in limits.items():
            yield Case(
                f"{name}: {what} is full",
                writer.prepare,
                [writer.command],
                then=then,
                environment=environment,
                inside=FULL,
            )
    yield from disks_beside(target)
    yield from memories()


def again(
    target: Target, command: list[str], results: list[str], whole: dict
) -> tuple[Outcome, str] | None:
    """Say the command again, with room."""
    ended = target.run(command)
    if ended.code:
        return Outcome.LOST, f"again: {ended.last_words}"
    made = contents(target.folder, results)
    if made != whole:
        names = {name for name in made.keys() | whole.keys() if made.get(name) != whole.get(name)}
        return Outcome.LOST, f"again: other {', '.join(sorted(names))}"
    return None


def disks_beside(target: Target) -> Iterator[Case]:
    """Disks that are not those of the result."""
    if os.geteuid() != 0:
        return

    def packed(folder: Path) -> None:
        (folder / DISK).mkdir()
        shutil.make_archive(str(folder / "raw"), "tar", folder.parent / "raw")

    full = {"FULL_FOLDER": DISK, "FULL_BYTES": "20000"}
    yield Case(
        "prepare, archive: the disk of --copies is full", packed, [PACKED], environment=full,
        inside=FULL,
    )  # fmt: skip

    def empty(folder: Path) -> None:
        (folder / DISK).mkdir()

    yield Case(
        "train: the disk of MLflow's store is full",
        lambda folder: (empty(folder), shutil.rmtree(folder / "model")),
        [night.MODEL],
        results=["model"],
        environment=full | STORE,
        inside=FULL,
    )
    yield Case(
        "export: the disk of TMPDIR is full",
        empty,
        [night.EXPORT],
        results=["exported"],
        environment=full | {"TMPDIR": DISK, "FULL_BYTES": "0"},
        inside=FULL,
    )


def memories() -> Iterator[Case]:
    """Too little memory for what is asked for."""
    big = ["--size", "2048x4096"]
    folders = dict(model="model", clusters="clusters", dataset="dataset")
    nothing: Callable[[Path], object] = lambda folder: None  # noqa: E731
    sized = [word if word != night.SIZE else "8192x16384" for word in night.PREPARE]
    of_model = ["export", "synthesise", *as_flags(**folders, out="pictures", device="cpu")]
    commands = {
        "prepare": ["other" if word == "dataset" else word for word in sized],
        "train": [*["other" if word == "model" else word for word in night.MODEL], *big],
        "export synthesise": [*of_model, *big],
        "export": [*["other" if w == "exported" else w for w in night.EXPORT], *big],
    }
    for name, command in commands.items():
        yield Case(
            f"{name}: out of memory",
            nothing,
            [command],
            environment={"FULL_MEMORY": str(100 << 20)},
            inside=FULL,
            limit_s=120,
        )

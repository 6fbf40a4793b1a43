"""Two runs at once into one folder, of every step and command that writes one.

One of them may be told to wait, in a sentence; what the other makes is what it makes alone."""

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.asking import as_flags
from tests.attack import night
from tests.attack.trying import Case, Ended, Outcome, Target, contents

READS = as_flags(dataset="dataset", model="model")
MAPS = ["cluster", "exchange", "maps", *as_flags(dataset="dataset", clusters="clusters")]
READ = ["cluster", "exchange", "read", *READS, *as_flags(centres="c.npy", clusters="new")]
INPUTS = ["export", "offline", "inputs", *as_flags(dataset="dataset", exported="exported")]
PICTURES = ["export", "offline", "pictures", *as_flags(outputs="results", size="8x8")]
SYNTHESISE = ["export", "synthesise", *as_flags(model="model", clusters="clusters")]
SYNTHESISE += as_flags(dataset="dataset")


def into(command: list[str], old: str, new: str = "new") -> list[str]:
    """A command whose word for its output is another."""
    return [new if word == old else word for word in command]


PREPARE, TRAIN, CLUSTER, EXPORT, BENCHMARK = (
    into(command, name) for name, command in night.STEPS.items()
)
ADOPT = ["train", "adopt", "--model", "new", "--size", "32x64"]


def cases(target: Target) -> Iterator[Case]:
    # The same twice.
    twice = {"prepare": PREPARE, "train": TRAIN, "cluster": CLUSTER, "export": EXPORT}
    twice |= {"benchmark": BENCHMARK, "exchange maps": [*MAPS, "--out", "new"]}
    twice |= {"offline inputs": [*INPUTS, "--out", "new"], "exchange read": READ}
    twice |= {"synthesise": [*SYNTHESISE, "--out", "new"], "demo": into(night.DEMO, night.RAW)}
    twice |= {"offline pictures": [*PICTURES, "--out", "new"]}
    for name, command in twice.items():
        yield case(target, f"{name} twice", [command, command])
    yield case(target, "train, continued twice", [night.STOPPED] * 2, "stopped")
    yield case(target, "export again twice", [[*night.EXPORT, "--opset", "16"]] * 2, "exported")
    again = [*night.BENCHMARK, "--max-pictures", "2"]
    yield case(target, "benchmark again twice", [again] * 2, "report")

    # Others in one folder.
    yield case(target, "cluster and export", [CLUSTER, EXPORT])
    yield case(target, "train and export", [TRAIN, EXPORT])
    yield case(target, "train and adopt", [TRAIN, ADOPT])
    yield case(target, "cluster and exchange read", [CLUSTER, READ])
    yield case(target, "exchange maps and read", [[*MAPS, "--out", "new"], READ])
    stopped = [night.STOPPED, into(night.EXPORT, "exported", "stopped")]
    yield case(target, "export into a model that is trained", stopped, "stopped")
    yield case(target, "benchmark and synthesise", [BENCHMARK, [*SYNTHESISE, "--out", "new"]])

    # Two prepares that unpack one archive.
    shutil.make_archive(str(target.place / "raw"), "zip", target.place / "raw")
    archive = into(PREPARE, night.RAW, "../raw.zip")
    both = [archive, into(archive, "new", "newer")]
    yield case(target, "prepare of one archive", both, "new/train_label")

    # What is read is not written over.
    for name in ("dataset", "model", "clusters", "exported"):
        command = into(night.BENCHMARK, "report", name)
        yield Case(f"report is {name}", lambda folder: None, [command], then=kept(target, name))
    for name in ("dataset", "model"):
        for step, command in (("cluster", night.CLUSTER), ("export", night.EXPORT)):
            told = into(command, dict(cluster="clusters", export="exported")[step], name)
            yield Case(f"{step} into {name}", lambda folder: None, [told], then=kept(target, name))
    told = into(night.EXPORT, "exported", "dataset/new")
    yield Case("into the data set", lambda folder: None, [told], then=kept(target, "dataset"))
    told = into(night.BENCHMARK, "exported", "report/gallery")
    yield Case("an input in the report", moved_into_report, [told], then=kept_export(target))


def supplies(folder: Path) -> None:
    """What commands read that a night has not."""
    # A centre a label, of as many channels as --feat-num has by default.
    rows = {label: np.zeros((1, 3), np.float32) for label in range(3)}
    np.save(folder / "c.npy", rows, allow_pickle=True)
    (folder / "results").mkdir()
    np.zeros((3, 8, 8), np.float32).tofile(folder / "results" / "a_0.bin")


def case(target: Target, name: str, commands: list[list[str]], result: str = "new") -> Case:
    def then(target: Target, ended: list[Ended]) -> tuple[Outcome, str] | None:
        made = contents(target.folder, [result])
        done = [one for one in ended if one.code == 0]
        if not done:
            return Outcome.LOST, f"both ended: {ended[0].last_words} | {ended[1].last_words}"
        whole = [alone(target, one.command, result) for one in done]
        one_after_the_other = len(done) == 2 and any(one.items() <= made.items() for one in whole)
        if made in whole or one_after_the_other:
            return None
        return Outcome.OTHER, f"{result} is not what one makes alone"

    return Case(name, supplies, commands, then=then, limit_s=120)


@functools.cache
def _known() -> dict[str, dict]:
    return {}


def alone(target: Target, command: list[str], result: str) -> dict:
    """What a command makes where nothing runs beside it."""
    key = f"{target.code} {command} {result}"
    if key not in _known():
        tried = target.place / "tried"
        target.folder.rename(tried)
        supplies(target.fresh())
        target.run(command)
        _known()[key] = contents(target.folder, [result])
        shutil.rmtree(target.folder)
        tried.rename(target.folder)
    return _known()[key]


def moved_into_report(folder: Path) -> None:
    (folder / "exported").rename(folder / "report" / "gallery")


def kept(target: Target, name: str) -> Callable:
    def then(target: Target, ended: list[Ended]) -> tuple[Outcome, str] | None:
        before, now = (contents(one, [name]) for one in (target.night, target.folder))
        return None if before.items() <= now.items() else (Outcome.LOST, f"{name} was changed")

    return then


def kept_export(target: Target) -> Callable:
    def then(target: Target, ended: list[Ended]) -> tuple[Outcome, str] | None:
        there = target.folder / "report" / "gallery" / "export.json"
        return None if there.is_file() else (Outcome.LOST, "the export is gone")

    return then

"""Outputs of every step and command where something is in the way, or nothing can be written.

All are refused before work, and what stands there stays as it was. Where this user may write
anywhere, files are made immutable, which binds root too; without that right these cases are left
out."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.asking import as_flags
from tests.attack import night
from tests.attack.trying import Case, Ended, Outcome, Target, contents
from tests.attack.two_writers import ADOPT, INPUTS, MAPS, PICTURES, READ, SYNTHESISE, into, supplies

TINY = 4096  # bytes of a disk that is full
Way = Callable[[Path], object]

# Each with its folder for its output, and a file that it writes there.
STEPS = {name: (into(command, name), name) for name, command in night.STEPS.items()}
OUT = ["--out", "new"]
COMMANDS = {
    "prepare": (STEPS["dataset"][0], "manifest.json"),
    "train": (STEPS["model"][0], "model.json"),
    "cluster": (STEPS["clusters"][0], "clusters.json"),
    "export": (STEPS["exported"][0], "export.json"),
    "benchmark": (STEPS["report"][0], "report.html"),
    "demo": (into(night.DEMO, night.RAW), ""),
    "adopt": (ADOPT, ""),
    "exchange read": (READ, ""),
    "exchange maps": ([*MAPS, *OUT], ""),
    "synthesise": ([*SYNTHESISE, *OUT], ""),
    "offline inputs": ([*INPUTS, *OUT], ""),
    "offline pictures": ([*PICTURES, *OUT], ""),
}
ALONE = {  # commands that write one file
    "check report": ["prepare", "--check", *as_flags(raw_data=night.RAW, size=night.SIZE)],
    "compile": ["pipeline.py", "compile"],
}


def cases(target: Target) -> Iterator[Case]:
    for name, (command, file) in COMMANDS.items():
        ways = ways_of(target, is_whole=name in ("prepare", "demo"))
        if name == "adopt":  # it goes to weights that are there
            ways = {"a file": (file_at("new"), "new")}
        for way, (prepare, place) in ways.items():
            yield case(f"{name}: {way}", into(command, "new", place), prepare)
        if file and name != "prepare":
            yield case(f"{name}: {file} is a folder", command, folder_at(f"new/{file}"))
    yield case("train: state is a file", COMMANDS["train"][0], file_at("new/state"))
    yield case("train: state is a link to nothing", COMMANDS["train"][0], link_at("new/state"))
    for file in ("latest_net_G.pth", "state/training.pt"):
        yield case(f"train: {file} is a folder", COMMANDS["train"][0], folder_at(f"new/{file}"))
    for name, file in (("cluster", "features.npz"), ("export", "generator.onnx")):
        yield case(f"{name}: {file} is a folder", COMMANDS[name][0], folder_at(f"new/{file}"))
    for name, command in ALONE.items():
        flag = "--output" if name == "compile" else "--check-report"
        yield case(f"{name}: a folder", [*command, flag, "out.yaml"], folder_at("out.yaml"))
        place = f"{'n' * 250}.yaml"
        yield case(f"{name}: too long a name", [*command, flag, place], lambda folder: None)
        yield case(f"{name}: below a file", [*command, flag, "new/out.yaml"], file_at("new"))
    if can_be_immutable(target.place):
        for name, file in (("train", "state"), ("benchmark", "pictures")):
            prepare = immutable(f"new/{file}")
            yield case(f"{name}: {file} cannot be written", COMMANDS[name][0], prepare)
        yield case("train: one file is immutable", COMMANDS["train"][0], immutable_file("new/a"))


def ways_of(target: Target, is_whole: bool) -> dict[str, tuple[Way, str]]:
    """What is done to a place, and the place that is then given."""
    nothing = lambda folder: None  # noqa: E731
    ways = {
        "a file": (file_at("new"), "new"),
        "below a file": (file_at("new"), "new/deep/out"),
        "below a link to nothing": (link_at("new"), "new/out"),
        "too long a name": (nothing, "n" * 256),
        "too long a path": (nothing, "/".join(["n" * 200] * 25)),
        "a device": (nothing, "/dev/null"),
        "no such disk": (nothing, "/proc/new"),
        "a full disk": (full_disk, "disk/new"),
    }
    if is_whole:
        ways["too long a name beside it"] = nothing, "n" * 250
    ways["a link to nothing"] = link_at("new"), "new"
    if can_be_immutable(target.place):
        ways["an immutable folder above"] = immutable("above"), "above/new"
        if not is_whole:
            ways["an immutable folder"] = immutable("new"), "new"
    if os.geteuid():
        ways["a folder above for reading"] = (lambda folder: folder.chmod(0o500)), "new"
    return ways


def case(name: str, command: list[str], prepare: Way) -> Case:
    before: dict[str, dict] = {}

    def prepared(folder: Path) -> None:
        supplies(folder)
        if command[:2] == ["train", "adopt"]:
            shutil.copytree(folder / "model", folder / "weights")
        prepare(folder)
        before["there"] = contents(folder, ["."])

    def then(target: Target, ended: list[Ended]) -> tuple[Outcome, str] | None:
        now = contents(target.folder, ["."])
        restore(target.folder)
        (one,) = ended
        if now.items() < before["there"].items():
            return Outcome.LOST, "files are gone"
        if one.code == 1:
            return Outcome.OTHER, f"refused after work: {one.last_words}"
        if one.code == 0:
            return Outcome.OTHER, "it was not refused"
        return None

    return Case(name, prepared, [command], then=then)


# What is in the way.


def file_at(place: str) -> Way:
    def prepare(folder: Path) -> None:
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text("mine")

    return prepare


def link_at(place: str) -> Way:
    def prepare(folder: Path) -> None:
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).symlink_to(folder / "gone" / "deep")

    return prepare


def folder_at(place: str) -> Way:
    return lambda folder: (folder / place / "mine").mkdir(parents=True)


def immutable(place: str) -> Way:
    def prepare(folder: Path) -> None:
        (folder / place).mkdir(parents=True)
        subprocess.run(["chattr", "+i", folder / place], check=True)

    return prepare


def immutable_file(_place: str) -> Way:
    def prepare(folder: Path) -> None:
        (folder / "new").mkdir()
        (folder / "new" / "latest_net_D.pth").write_text("mine")
        subprocess.run(["chattr", "+i", folder / "new" / "latest_net_D.pth"], check=True)

    return prepare


def full_disk(folder: Path) -> None:
    (folder / "disk").mkdir()
    options = ["-t", "tmpfs", "-o", f"size={TINY}", "tmpfs"]
    done = subprocess.run(["mount", *options, folder / "disk"], capture_output=True)
    if done.returncode:  # another disk of no bytes
        (folder / "disk").rmdir()
        (folder / "disk").symlink_to("/dev/full")
        return
    (folder / "disk" / "mine").write_bytes(bytes(TINY))


def can_be_immutable(place: Path) -> bool:
    probe = place / "immutable"
    probe.touch()
    ways = [["chattr", way, str(probe)] for way in ("+i", "-i")]
    try:
        return all(subprocess.run(way, capture_output=True).returncode == 0 for way in ways)
    except FileNotFoundError:
        return False


def restore(folder: Path) -> None:
    """Take away what would keep the night from being made anew."""
    subprocess.run(["chattr", "-R", "-i", folder], capture_output=True)
    if (folder / "disk").is_mount():
        subprocess.run(["umount", folder / "disk"], check=True)
    if os.geteuid():
        folder.chmod(0o700)

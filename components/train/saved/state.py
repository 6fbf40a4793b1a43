"""The state of a training that was stopped: two generations of it, and what earlier versions wrote
otherwise."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from components.train.continuing import NO_CLUSTERS, Facts, Place
from components.train.devices.loss_scale import COUNT
from shared.contracts.model import Architecture, ModelCard
from shared.errors import InputError
from shared.networks.chosen import weights_path
from shared.networks.weight_file import is_not_as_saved, load_tensors

# Of a state: its version, and the keys that every one has.
FORMAT = 1
NEEDED = {"architecture", "epoch", "images_seen", "G", "D", "metrics"}
# Key of a state: L1 is of pictures in [0, its value]. Without it L1 is of pictures in [-1, 1].
L1_RANGE = "L1_range"


def state_file(model: Path) -> Path:
    """What an interrupted training goes on from, in its model folder."""
    return model / "state" / "training.pt"


def state_before(model: Path) -> Path:
    """The one that was saved before, should a loss of power have spoiled the last."""
    return model / "state" / "training.before.pt"


def is_model(folder: Path) -> bool:
    """Whether there is a model, also one of the references' own code."""
    return (folder / ModelCard.FILE).is_file() or weights_path(folder, "G").is_file()


class Told(BaseModel):
    """What a state tells before its tensors are looked at."""

    architecture: Architecture
    epoch: int = Field(ge=0)
    images_seen: int = Field(ge=0)
    pairs: int = Field(0, ge=0)  # of the epoch that is under way
    batches: int = Field(0, ge=0)  # the same, as earlier versions counted
    metrics: dict[str, float]
    facts: dict[str, Any] = {}
    plateau: dict[str, float] = {}


@dataclass(frozen=True)
class Stopped:
    """A training that was stopped, as its state remembers it."""

    place: Place
    facts: Facts
    architecture: Architecture
    file: Path  # that has the state
    spoiled: str = ""  # why it is not the last that was saved, a line for people


def read_stopped(model: Path, tensors: bool = True) -> Stopped | None:
    """The training that goes on in a model folder, None = it begins there. Raises InputError where
    no state can be read, or a model would be overwritten that has none.

    tensors: whether the checksums of their values are compared, a second for a few gigabytes; else
    `is_not_as_saved` is to be asked of the file before they are used."""
    # No state: nothing may be there that a training would overwrite.
    last, before = state_file(model), state_before(model)
    if not last.is_file() and not before.is_file():
        if is_model(model):
            raise InputError(
                f"--model {model} holds a model but no {last.relative_to(model)} to go on "
                f"from, and would be overwritten: give an empty folder, with --start-from {model} "
                "to begin at these weights."
            )
        return None

    # The last that is whole.
    remedy = f"give an empty folder, with --start-from {model} to begin at its weights."
    file, spoiled = last, ""
    try:
        state = _read(last, tensors)
    except InputError as error:
        if last.is_file() and not os.access(last, os.R_OK):
            raise
        problem = str(error).rstrip(".")
        found = problem.rpartition(": ")[0] or problem  # without its advice
        try:
            file, state = before, _read(before, tensors)
        except InputError:
            raise InputError(f"--model {model}: {problem}, or {remedy}") from None
        seconds = (last if last.is_file() else model / "state").stat().st_mtime
        spoiled = (
            f"--model {model}: {found}; what was trained in the "
            f"{max(0, seconds - before.stat().st_mtime):.0f} s since the state before, "
            f"{before.name}, is trained again"
        )

    # It is one of this step, of a version that is read.
    if not isinstance(state, dict) or not NEEDED <= state.keys():
        raise InputError(f"--model {model}: {file.name} is no state of this step: {remedy}")
    found = state.get("format", FORMAT)
    if isinstance(found, int) and found > FORMAT:
        raise InputError(
            f"--model {model} was left by a later version of this project (state {found}, this one "
            f"reads {FORMAT}): use that one, or {remedy}"
        )
    try:
        told = Told.model_validate({name: state[name] for name in state if isinstance(name, str)})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(
            f"--model {model}: {file.name} is no state of this step ({field}: "
            f"{first['msg'].lower()}): {remedy}"
        ) from None

    # What it remembers; earlier versions wrote no facts.
    architecture = told.architecture
    facts = architecture.model_dump() | told.facts
    if isinstance(was := facts.get("compile"), bool):
        facts["compile"] = "on" if was else "off"
    if "E" in state:
        facts.setdefault("clusters", NO_CLUSTERS)
    if "dataset" not in facts:
        with contextlib.suppress(InputError):  # none, or spoiled: it is written anew
            facts["dataset"] = ModelCard.read(model).dataset_digest
    reduction = 1.0
    if told.plateau and "learning_rate" in facts:
        reduction = told.plateau["learning_rate"] / facts["learning_rate"]
    is_within = (told.pairs or told.batches) > 0
    place = Place(model, told.epoch + 1, is_within, reduction)
    return Stopped(place, facts, architecture, file, spoiled)


def _read(file: Path, tensors: bool) -> Any:
    """What a state holds, its tensors on the disk until they are used. Raises InputError where it
    is missing, cannot be read, or does not hold what was written: torch compares nothing."""
    if not file.is_file():
        raise InputError(f"{file} is missing.")
    state = load_tensors(file, mmap=True)
    if is_not_as_saved(file, tensors):
        raise InputError(f"{file} is damaged, it does not hold what was written.")
    return state


def halve_old_l1(state: dict) -> None:
    """Turn the L1 of a state that was written when it was of pictures in [-1, 1] into that of
    pictures in [0, 1]."""
    if L1_RANGE in state:
        return
    for name in ("sample_L1", "val/L1"):
        if name in state["metrics"]:
            state["metrics"][name] /= 2
    if state.get("best", {}).get("metric") == "val/L1":
        state["best"]["value"] /= 2


def count_pairs(state: dict, batch_size: int) -> None:
    """Turn the place of a state that was written in batches into pairs; it was to be continued with
    batches of the same size."""
    if "batches" not in state:
        return
    per_batch = batch_size * len(state["random"])
    state["pairs"] = state["batches"] * per_batch
    sums = {name: per_batch * total for name, total in state["sums"].items()}
    state["sums"] = {COUNT if name == "finite_steps" else name: sums[name] for name in sums}

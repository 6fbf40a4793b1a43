"""Whether what a state holds is what a training goes on from: the same names, kinds and shapes."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from components.train.step import Trainer
from components.train.validation import Best

STRICT = ("G", "D", "E", "ema")  # parts that are to hold nothing else


def misfit(state: Mapping[str, Any], trainer: Trainer, best: Best) -> str:
    """What of a state does not fit a training, in words; "" where all does. It has all parts."""
    # The place; of random numbers those of the CPU, which each device has beside its own.
    like = dict(epoch=0, images_seen=0, sums={}, random=[dict(cpu=torch.get_rng_state())])
    like |= {} if "batches" in state else dict(pairs=0)  # as earlier versions counted
    like |= dict(best=best.state_dict()) if "best" in state else {}
    found = [_unlike(state.get(name), like[name], name) for name in like]

    # The parts. What a loss scale is in another precision, none is.
    for name, part in trainer.parts().items():
        if name.startswith("optimizer_"):
            found.append(_unlike_moments(state[name], part, name))
        else:
            own = part.state_dict()
            own.pop("scaler", None)
            found.append(_unlike(state[name], own, name, is_strict=name in STRICT))
    return next(itertools.chain.from_iterable(found), "")


def _unlike(found: Any, like: Any, place: str, is_strict: bool = False) -> Iterator[str]:
    """How a value differs from one of its kind: tensors in shape, dicts in keys; of lists the first
    items are compared."""
    match like:
        case Tensor():
            if not isinstance(found, Tensor) or found.dtype.is_complex or found.is_meta:
                yield f"{place} is no tensor of numbers"
            elif found.shape != like.shape:
                yield f"{place} is {tuple(found.shape)}, not {tuple(like.shape)}"
            elif found.is_floating_point() != like.is_floating_point():
                yield f"{place} is of {found.dtype}, not {like.dtype}"
        # What holds others.
        case dict():
            if not isinstance(found, Mapping):
                yield f"{place} is no dict"
                return
            if lacking := like.keys() - found.keys():
                yield f"{place} lacks {min(lacking)}"
            if is_strict and (others := found.keys() - like.keys()):
                yield f"{place} has an unknown {min(map(str, others))}"
            for key in filter(found.__contains__, like):
                yield from _unlike(found[key], like[key], f"{place}.{key}", is_strict)
        case list():
            if not isinstance(found, list):
                yield f"{place} is no list"
            elif like and not found:
                yield f"{place} is empty"
            for one, other in zip(found[:1], like[:1], strict=False):
                yield from _unlike(one, other, f"{place}[0]")
        # Single values.
        case str():
            if not isinstance(found, str):
                yield f"{place} is no text"
        case bool() | int() | float():
            if not isinstance(found, bool | int | float):
                yield f"{place} is no number"
            elif isinstance(like, int) and found < 0:
                yield f"{place} is negative"


def _unlike_moments(found: Any, optimizer: torch.optim.Optimizer, place: str) -> Iterator[str]:
    """How the state of an optimiser differs from what its parameters need: a number of steps, and
    moments of their shapes, of those that were updated."""
    if not isinstance(found, Mapping) or not {"state", "param_groups"} <= found.keys():
        yield f"{place} is no state of an optimiser"
        return
    groups, moments = found["param_groups"], found["state"]
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        numbers = [number for group in groups for number in group["params"]]
        sizes = [len(group["params"]) for group in groups]
        moments = dict(moments)
    except (TypeError, KeyError, ValueError):
        yield f"{place} is no state of an optimiser"
        return
    if sizes != [len(group["params"]) for group in optimizer.param_groups]:
        yield f"{place} is of {len(numbers)} tensors, not {len(own)}"
        return
    for number, parameter in zip(numbers, own, strict=True):
        like = dict(step=torch.tensor(0.0), exp_avg=parameter, exp_avg_sq=parameter)
        if number in moments:
            yield from _unlike(moments[number], like, f"{place}.{number}")

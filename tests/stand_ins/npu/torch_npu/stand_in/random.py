"""The random numbers of the device: a stream of its own, beside the CPU's."""

import contextlib
from collections.abc import Iterator

import torch

GENERATOR = torch.Generator()


@contextlib.contextmanager
def of_device(operator) -> Iterator[None]:
    """Inside, the CPU's kernels draw what the device would."""
    if torch.Tag.nondeterministic_seeded not in operator.tags:
        yield
        return
    of_cpu = torch.get_rng_state()
    torch.set_rng_state(GENERATOR.get_state())
    try:
        yield
    finally:
        GENERATOR.set_state(torch.get_rng_state())
        torch.set_rng_state(of_cpu)

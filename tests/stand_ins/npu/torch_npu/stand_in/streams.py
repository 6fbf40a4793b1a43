"""Streams: everything runs at once here, and what is said of their order is noted."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from torch_npu.stand_in.stats import STATS

_numbers = itertools.count()


class Stream:
    def __init__(self, device=None, priority=0, **kwargs):
        self.number = next(_numbers)

    def wait_stream(self, stream) -> None:
        STATS.streams.append(f"{self.number} waits for {stream.number}")


_current = Stream()  # number 0, where a program computes that says nothing


def current_stream(device=None) -> Stream:
    return _current


@contextmanager
def stream(stream) -> Iterator[None]:
    global _current
    before, _current = _current, stream
    try:
        yield
    finally:
        _current = before


def note(what: str) -> None:
    STATS.streams.append(f"{_current.number} {what}")


def recorded(self, stream) -> None:
    """Tensor.record_stream: its memory is free once this stream has come so far."""
    STATS.streams.append(f"{stream.number} reads")

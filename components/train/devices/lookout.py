"""A thread in each process of a training that shows the others that it lives, and sees when one
does not: collectives would wait for it for an hour."""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Self

import torch.distributed as dist

from components.train.devices.meeting import ANSWER_S, Ended, Meeting
from shared.errors import InputError
from shared.servers import patience_s

BEAT_S = 1.0
SUSPECT_S = 5.0  # of silence, where a collective has failed already
LEAVE_S = 10.0  # for the main thread to end by an error of its own


def say_and_end(end: Exception) -> None:
    """What is left where the main thread hangs inside torch: a line, as `refusals` has it."""
    how, code = ("refused", 2) if isinstance(end, InputError) else ("failed", 1)
    print(f"train {how}: {end}", file=sys.stderr, flush=True)
    os._exit(code)


class Lookout:
    """To be entered when all have met."""

    # What ends this process from outside; whoever started it may be told instead.
    end: Callable[[Exception], None] = staticmethod(say_and_end)

    def __init__(self, meeting: Meeting):
        self.place = Meeting(meeting.world, meeting.address, meeting.port)
        self.place.store = meeting.reach(ANSWER_S)  # its own, since a connection answers in turn
        self.limit_s = 2 * patience_s()
        self.is_over = threading.Event()
        self.has_found = threading.Event()
        self.found: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True, name="lookout")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_error) -> None:
        self.is_over.set()
        self.thread.join(ANSWER_S)

    def explain(self, error: Exception) -> Exception:
        """Why a collective failed, where another process is the reason; else the error itself."""
        if type(error) is RuntimeError or isinstance(error, dist.DistError):
            self.limit_s = SUSPECT_S
            self.has_found.wait(SUSPECT_S + 3 * BEAT_S)
        return self.found or error

    def _run(self) -> None:
        world, store = self.place.world, self.place.store
        others = [rank for rank in range(world.size) if rank != world.rank]
        keys = [f"beat {rank}" for rank in others]
        beats, beat_at = [b""] * len(others), [time.monotonic()] * len(others)
        count = 0
        while self.found is None and not self.is_over.wait(BEAT_S):
            try:
                store.set(f"beat {world.rank}", str(count := count + 1))
                now, before, beats = time.monotonic(), beats, store.multi_get(keys)
                for one, beat in enumerate(beats):
                    beat_at[one] = now if beat != before[one] else beat_at[one]
                silent_s = {
                    rank: now - last
                    for rank, last in zip(others, beat_at, strict=True)
                    if not store.check([f"left {rank}"])
                }
                self.found = self.place.heard() or self._lost(silent_s)
            except dist.DistError:
                self.found = Ended(
                    f"the place where all meet, {self.place.address}:{self.place.port}, is gone: "
                    "node 0 has ended or its network is down; look there for the reason. What was "
                    "saved is kept."
                )
        if self.found:
            self.has_found.set()
            if not self.is_over.wait(LEAVE_S):
                self.end(self.found)

    def _lost(self, silent_s: dict[int, float]) -> Exception | None:
        if max(silent_s.values(), default=0) < self.limit_s:
            return None
        # Those of one node are not looked at in the same moment.
        ranks = [rank for rank, seconds in silent_s.items() if seconds > self.limit_s - 3 * BEAT_S]
        return Ended(
            f"{self.place.named(*ranks)} was lost: nothing was heard from there for "
            f"{self.limit_s:g} s, and all were ended; it was killed, or its network is down. What "
            "was saved is kept, and the same command on all nodes goes on from there."
        )

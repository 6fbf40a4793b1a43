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
from shared.servers import patience_s, within

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
        self.count = 0  # of our own beats
        self.beats: dict[int, tuple[bytes, float]] = {}  # the last of each other, and since when
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
        ranks = range(self.place.world.size)
        self.beats = {
            rank: (b"", time.monotonic()) for rank in ranks if rank != self.place.world.rank
        }
        while self.found is None and not self.is_over.wait(BEAT_S):
            try:
                # What was sent to a machine that is cut off is waited for without end.
                self.found = within(self.limit_s, self._look)
            except (dist.DistError, TimeoutError):
                self.found = Ended(
                    f"the place where all meet, {self.place.address}:{self.place.port}, is gone: "
                    "node 0 has ended or its network is down; look there for the reason. What was "
                    "saved is kept."
                )
        if self.found:
            self.has_found.set()
            if not self.is_over.wait(LEAVE_S):
                self.end(self.found)

    def _look(self) -> Exception | None:
        """Show that this process lives; why all are to end, if they are. Raises DistError."""
        store, self.count = self.place.store, self.count + 1
        store.set(f"beat {self.place.world.rank}", str(self.count))
        beats, now = store.multi_get([f"beat {rank}" for rank in self.beats]), time.monotonic()
        for (rank, (before, last)), beat in zip([*self.beats.items()], beats, strict=True):
            self.beats[rank] = (beat, now if beat != before else last)
        silent_s = {
            rank: now - last
            for rank, (_, last) in self.beats.items()
            if not store.check([f"left {rank}"])
        }
        return self.place.heard() or self._lost(silent_s)

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

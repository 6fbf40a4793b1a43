"""The thread that delivers the journal of this process while the process works; that of a
pipeline's process also those of its steps, which leave that to it."""

import contextlib
import threading
import time
from pathlib import Path

from shared.tracking import store
from shared.tracking.delivery import Delivery
from shared.tracking.journal import Journal, journals_in, left_to_pipeline, warn
from shared.tracking.tree import Tree

EVERY_S = 5.0  # a longer time costs the step less, a shorter one shows curves earlier
LONGEST_WAIT_S = 60.0  # between attempts, while MLflow does not answer
# That a step waits for a server which does not answer, in all; the journal keeps what it misses.
PATIENCE_S = 0.8
LOCAL_PATIENCE_S = 60.0  # with a database of this machine, which answers or fails
STORED_BYTES_PER_S = 1e8  # by a server that has a whole file and has not answered yet
LOOK_S = 0.05


class Courier:
    """Delivers every few seconds. It never raises, and is waited for only by `flush`.

    Attributes:
        tree: The runs of the journal in MLflow.
    """

    def __init__(self, journal: Journal, uri: str, of_steps: bool = False):
        """of_steps: deliver also what other processes have written down in the folder, and leave to
        this one or left behind."""
        self.journal, self.tree = journal, Tree(journal.folder, uri)
        self._deliveries = {journal.file: Delivery(journal.file, self.tree)}
        self._delivery = self._deliveries[journal.file]  # the one that is at work
        self._of_steps = of_steps
        self._change = threading.Condition()
        self._begun = self._ended = 0  # attempts
        self._wanted = 1  # the attempt that somebody waits for; the first comes at once
        self._all_there = True
        self._down = False
        self._stopped = False
        self._whole_patience_s = LOCAL_PATIENCE_S if store.database(uri) else PATIENCE_S
        self._patience_s = self._whole_patience_s  # what is left of it
        self._asked: float | None = None  # time.monotonic() of what is not answered yet
        self._seen: tuple[int, ...] = ()
        self._thread = threading.Thread(target=self._work, name="MLflow", daemon=True)
        self._thread.start()

    def flush(self) -> bool:
        """Deliver what there is now; whether MLflow has taken all of it.

        It is given up at the first call that fails, and when there was no answer for too long: all
        flushes wait no longer than that together while MLflow says nothing."""
        with self._change:
            self._wanted = attempt = self._begun + 1
            self._change.notify_all()
            while self._ended < attempt and not self._stopped:
                if self.is_silent or self._patience_s < 0:
                    return False
                self._change.wait(LOOK_S)
                if self._has_gone_on():
                    self._patience_s = self._whole_patience_s
                else:
                    self._patience_s -= LOOK_S
            return self._ended >= attempt and self._all_there

    @property
    def is_silent(self) -> bool:
        """Whether MLflow has not answered what it was asked, for longer than a step waits."""
        self._has_gone_on()
        limit_s = self._whole_patience_s
        with contextlib.suppress(OSError, AttributeError):  # a server stores what it was sent
            limit_s += self._delivery.sending.stat().st_size / STORED_BYTES_PER_S
        return self._asked is not None and time.monotonic() - self._asked > limit_s

    def _has_gone_on(self) -> bool:
        """Whether there was progress since this was asked last."""
        before, self._seen = self._seen, (self._ended, *self._delivery.progress)
        if self._seen != before and self._asked is not None:
            self._asked = time.monotonic()
        return self._seen != before

    def stop(self) -> None:
        """Begin no further attempt."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    @property
    def problem(self) -> str:
        """Why the last attempt did not deliver everything."""
        return next((one.problem for one in self._all() if one.problem), "")

    def left(self) -> int:
        """Entries that MLflow has not taken."""
        return sum(one.left() for one in self._all()) + len(self.journal.unwritten)

    def _all(self) -> list[Delivery]:
        return list(self._deliveries.values())

    def _work(self) -> None:
        wait_s = EVERY_S
        while True:
            # The next attempt: after a while, or because somebody waits for it.
            with self._change:
                self._change.wait_for(lambda: self._stopped or self._wanted > self._begun, wait_s)
                if self._stopped:
                    return
                self._begun += 1
                self._asked = time.monotonic()

            all_there = self._attempt()
            with self._change:
                self._ended, self._all_there, self._asked = self._begun, all_there, None
                self._change.notify_all()
            wait_s = EVERY_S if all_there else min(2 * wait_s, LONGEST_WAIT_S)

    def _attempt(self) -> bool:
        """Deliver, and say once when it stops or goes on working."""
        try:
            all_there = self._deliver_all()
        except Exception as error:  # a fault of ours must not end the thread
            self._delivery.problem, all_there = store.one_line(error), False
        if self._down and all_there:
            warn("it answers again; what it missed is delivered.")
        elif not self._down and not all_there:
            warn(
                f"it does not take everything ({self.problem}); the journal "
                f"{self.journal.folder} keeps the rest, and it is tried again."
            )
        self._down = not all_there
        return all_there

    def _deliver_all(self) -> bool:
        """Whether MLflow has all that was said so far. The oldest files come first: of a tag the
        last value counts."""
        files = journals_in(self.journal.folder) if self._of_steps else []
        own = self.journal.file
        all_there = True
        for file in files if own in files else [*files, own]:
            if file == own:
                all_there &= self._deliver_own()
            else:
                with contextlib.suppress(FileNotFoundError), left_to_pipeline(file) as is_ours:
                    all_there &= not is_ours or self._deliver_other(file)
            if self._delivery.is_down:
                return False
        return all_there

    def _deliver_own(self) -> bool:
        """Also what is in memory only."""
        self._delivery = own = self._deliveries[self.journal.file]
        if not own.deliver():
            return False
        again = own.deliver_unwritten(self.journal.take_unwritten())
        self.journal.put_back(again)
        return not again

    def _deliver_other(self, file: Path) -> bool:
        self._delivery = other = self._deliveries.setdefault(file, Delivery(file, self.tree))
        other.catch_up()
        return other.deliver()

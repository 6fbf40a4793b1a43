"""The thread that delivers the journal of this process while the process works."""

import threading
import time

from shared.tracking import store
from shared.tracking.delivery import Delivery
from shared.tracking.journal import Journal, warn
from shared.tracking.tree import Tree

EVERY_S = 5.0  # a longer time costs the step less, a shorter one shows curves earlier
LONGEST_WAIT_S = 60.0  # between attempts, while MLflow does not answer
PATIENCE_S = 8.0  # at the end, with a server that does not answer
LOCAL_PATIENCE_S = 60.0  # with a database of this machine, which answers or fails
SLOWEST_BYTES_PER_S = 2e6  # a large file that goes slower than that is given up at the end


class Courier:
    """Delivers every few seconds. It never raises, and is waited for only by `flush`.

    Attributes:
        tree: The runs of the journal in MLflow.
    """

    def __init__(self, journal: Journal, uri: str):
        self.journal, self.tree = journal, Tree(journal.folder, uri)
        self._delivery = Delivery(journal.file, self.tree)
        self._change = threading.Condition()
        self._begun = self._ended = 0  # attempts
        self._wanted = 1  # the attempt that somebody waits for; the first comes at once
        self._all_there = True
        self._down = False
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="MLflow", daemon=True)
        self._thread.start()

    def flush(self) -> bool:
        """Deliver what there is now; whether MLflow has taken all of it.

        It is given up at the first call that fails, and after some seconds without any progress,
        more while a large file is sent or where a database is made."""
        patience_s = LOCAL_PATIENCE_S if store.database(self.tree.uri) else PATIENCE_S
        with self._change:
            self._wanted = attempt = self._begun + 1
            self._change.notify_all()
            seen, until = None, 0.0
            while self._ended < attempt and not self._stopped:
                delivery = self._delivery
                if seen != (seen := (self._ended, delivery.answered, delivery.sending_bytes)):
                    until = patience_s + delivery.sending_bytes / SLOWEST_BYTES_PER_S
                    until += time.monotonic()
                if time.monotonic() > until:
                    return False
                self._change.wait(0.05)
            return self._all_there

    def stop(self) -> None:
        """Begin no further attempt."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    @property
    def problem(self) -> str:
        """Why the last attempt did not deliver everything."""
        return self._delivery.problem

    def left(self) -> int:
        """Entries that MLflow has not taken."""
        return self._delivery.left() + len(self.journal.unwritten)

    def _work(self) -> None:
        wait_s = EVERY_S
        while True:
            # The next attempt: after a while, or because somebody waits for it.
            with self._change:
                self._change.wait_for(lambda: self._stopped or self._wanted > self._begun, wait_s)
                if self._stopped:
                    return
                self._begun += 1

            all_there = self._attempt()
            with self._change:
                self._ended, self._all_there = self._begun, all_there
                self._change.notify_all()
            wait_s = EVERY_S if all_there else min(2 * wait_s, LONGEST_WAIT_S)

    def _attempt(self) -> bool:
        """Deliver, and say once when it stops or goes on working."""
        try:
            all_there = self._delivery.deliver()
            if all_there and (unwritten := self.journal.take_unwritten()):
                again = self._delivery.deliver_unwritten(unwritten)
                self.journal.put_back(again)
                all_there = not again
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

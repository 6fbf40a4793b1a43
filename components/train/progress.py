"""How far training is: on a terminal a bar for each epoch, elsewhere nothing."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TextIO

from tqdm import tqdm

from components.train.data.batches import Batch
from shared.terminal.progress import duration

BAR = "{desc} |{bar:10}| {n_fmt}/{total_fmt}{postfix}"


@dataclass(frozen=True)
class Rates:
    """The pace of the steps since the last measurement."""

    images_per_second: float
    data_wait_share: float  # of the time, 0..1, in which the process waited for the next batch
    seconds_left: float  # of all epochs, at the mean pace of this process


class Progress:
    """One for a run, over all its epochs. It never asks the device: rates are true right after
    losses were fetched."""

    def __init__(
        self,
        total_epochs: int,
        steps_per_epoch: int,
        quiet: bool = False,
        stream: TextIO | None = None,
    ):
        """quiet: no bar even on a terminal. stream: where the bar goes, None = stderr."""
        self.total_epochs, self.steps_per_epoch = total_epochs, steps_per_epoch
        self.stream = stream or sys.stderr
        self.disable = True if quiet else None  # None: tqdm shows a bar on a terminal only
        self.began: float | None = None
        self.steps_done, self.steps_left = 0, 0

    def epoch(
        self, epoch: int, batches: Iterator[Batch], start: int, images_seen: int
    ) -> Iterator[Batch]:
        """Passes on the batches of an epoch of which `start` steps were done before."""
        self.steps_left = (self.total_epochs - epoch + 1) * self.steps_per_epoch - start
        self.marked, self.images_seen, self.waited = perf_counter(), images_seen, 0.0
        self.began = self.began or self.marked
        with tqdm(
            total=self.steps_per_epoch,
            initial=start,
            desc=f"epoch {epoch}/{self.total_epochs}",
            bar_format=BAR,
            leave=False,
            dynamic_ncols=True,
            disable=self.disable,
            file=self.stream,
        ) as self.bar:
            while (batch := self._next(batches)) is not None:
                self.steps_done, self.steps_left = self.steps_done + 1, self.steps_left - 1
                yield batch
                self.bar.update()

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        asked = perf_counter()
        batch = next(batches, None)
        self.waited += perf_counter() - asked
        return batch

    def measure(self, images_seen: int) -> Rates:
        """Since the last call, or since the epoch began. To be called within an epoch."""
        now = perf_counter()
        seconds = now - self.marked
        left = (now - self.began) / self.steps_done * self.steps_left
        rates = Rates((images_seen - self.images_seen) / seconds, self.waited / seconds, left)
        self.marked, self.images_seen, self.waited = now, images_seen, 0.0
        return rates

    def show(self, losses: dict[str, float], learning_rate: float, rates: Rates) -> None:
        """Show them beside the bar until the next call."""
        self.bar.set_postfix_str(bar_text(losses, learning_rate, rates))


def bar_text(losses: dict[str, float], learning_rate: float, rates: Rates) -> str:
    """What matters most comes first: a narrow terminal cuts off the rest."""
    figures = [f"{duration(rates.seconds_left)} left", f"{rates.images_per_second:.1f} images/s"]
    figures += [f"data {rates.data_wait_share:.0%}", f"lr {learning_rate:.3g}"]
    return "  ".join([*figures, *(f"{name} {value:.3f}" for name, value in losses.items())])

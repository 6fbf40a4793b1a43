"""A step that a GPU launches by itself, as `--cuda-graph` asks for it."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, Self

import torch
from torch import Tensor

from components.train.devices.adam import Adam
from shared.errors import WorkFailed

# Of a form of batch, before it is captured: kernels are chosen, Adam makes its moments, and what is
# compiled is compiled. torch's manual asks for three.
WARM_UP = 3
MOST_GRAPHS = 8


class Batch(Protocol):
    """What a step is given."""

    def form(self) -> tuple:
        """What batches have in common by which the same kernels compute the same."""

    def clone(self) -> Self:
        """The same in memory of its own."""

    def copy_(self, other: Self) -> None:
        """Overwrite its tensors with those of a batch of the same form."""


@dataclass(frozen=True)
class _Graph:
    """One captured step, in the memory that it always reads and writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    names: list[str]
    losses: Tensor  # (names,)

    def replay(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch of the form that was captured."""
        self.batch.copy_(batch)
        self.graph.replay()
        # Copies: the next replay writes over them.
        return dict(zip(self.names, self.losses.clone().unbind(), strict=True))


class CapturedStep:
    """Calls a step, and after the first few calls has the device repeat their kernels, which costs
    the host one launch (CUDA graphs).

    What is repeated takes no turn of Python: it reads and writes the memory that it was captured
    with. So weights, moments, scales and averages must change in place, and do; batches are copied
    into one that stays; Adam reads its learning rate on the device. Each form of batch has a graph
    of its own; where other weights learn, all are captured anew. Graphs share their memory: one
    runs at a time, and none reads what another has left there."""

    def __init__(
        self,
        step: Callable[[Batch], dict[str, Tensor]],
        optimizers: list[Adam],
        streams: ModuleType,
    ):
        """step: fetches nothing, sends nothing, and counts nothing on the host; its losses are
        scalars of one dtype. streams: see `Runtime.streams`."""
        self.step, self.optimizers, self.streams = step, optimizers, streams
        # The first steps too: gradients are added up on the stream on which a step went forward.
        self.stream = streams.Stream()
        self.graphs: dict[tuple, _Graph] = {}
        self.learning: list[bool] = []
        self.forget()

    def forget(self) -> None:
        """Capture anew: what was captured is not where it was."""
        if self.graphs:
            self.streams.synchronize()  # one may still run
        self.graphs = {}
        # Of their memory, which ends with the last of them.
        self.pool = self.streams.graph_pool_handle()
        self.seen: Counter[tuple] = Counter()  # steps of a form that were not captured

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a step, on the device. Raises WorkFailed where it cannot be captured."""
        # What was decided on the host since the last step.
        for optimizer in self.optimizers:
            optimizer.send_rate()
        learning = [weight.requires_grad for weight in self._weights()]
        if learning != self.learning:
            self.learning = learning
            self.forget()

        # By a graph, once a form has come a few times.
        form = batch.form()
        if form not in self.graphs:
            self.seen[form] += 1
            if self.seen[form] <= WARM_UP or len(self.graphs) == MOST_GRAPHS:
                return self._launch(batch)
            self.graphs[form] = self._capture(batch)
        return self.graphs[form].replay(batch)

    def _weights(self) -> Iterator[Tensor]:
        groups = (group for optimizer in self.optimizers for group in optimizer.param_groups)
        return (weight for group in groups for weight in group["params"])

    def _launch(self, batch: Batch) -> dict[str, Tensor]:
        """A step kernel by kernel, on the stream of the captured ones."""
        computing = self.streams.current_stream()
        self.stream.wait_stream(computing)
        with self.streams.stream(self.stream):
            losses = self.step(batch)
        computing.wait_stream(self.stream)
        return losses

    def _capture(self, batch: Batch) -> _Graph:
        """Note the kernels of a step, of which none is run."""
        kept = batch.clone()
        for optimizer in self.optimizers:
            optimizer.zero_grad()  # made anew, in the memory of the graph
        # thread_local: batches are pinned by another thread meanwhile.
        graph = self.streams.CUDAGraph()
        capturing = self.streams.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        )
        with _one_sentence(), self._capturable(), capturing:
            losses = self.step(kept)
            stacked = torch.stack(list(losses.values()))
        return _Graph(graph, kept, list(losses), stacked)

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Inside: Adam lets itself be captured. Always so, torch would warn of it."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group in groups:
            group["capturable"] = True
        try:
            yield
        finally:
            for group in groups:
                group["capturable"] = False


@contextmanager
def _one_sentence() -> Iterator[None]:
    """An error of the capture as a sentence; of the device's memory as ever."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        first = error.__context__ or error  # leaving a capture that failed fails once more
        reason = (str(first).strip().splitlines() or [type(first).__name__])[0].rstrip(".")
        raise WorkFailed(
            f"--cuda-graph: the step cannot be captured ({reason}): leave it out."
        ) from error

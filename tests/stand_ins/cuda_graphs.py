"""What captured steps ask of `torch.cuda`, on a CPU, as torch's manual has it (notes/cuda, "CUDA
Graphs"): a capture computes nothing, a replay computes the same operators again in the memory that
was captured, with the numbers of the host that were captured.

Not shown: memory that kernels of a graph hand to each other, streams that really run beside each
other, generators of the device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.benchmarks.card_check.counts import is_view
from tests.benchmarks.step_counts.hollow import NO_WORK

aten = torch.ops.aten
# What the host waits for, and what it sends.
WAITED_FOR = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.equal)
INDEXING = (aten.index, aten.index_put, aten.index_put_)  # by a mask: its size is waited for
SENT = (aten.lift_fresh,)  # torch.tensor(...)
NOT_PERMITTED = "CUDA error: operation not permitted when stream is capturing"


class Stream:
    def __init__(self, log: list[str], name: str):
        self.log, self.name = log, name

    def wait_stream(self, stream: "Stream") -> None:
        self.log.append(f"{self.name} waits for {stream.name}")


class CUDAGraph:
    """The operators of a capture, with the tensors that they were given and that they made."""

    def __init__(self, log: list[str]):
        self.log, self.operators = log, []
        self.memory: dict[int, torch.UntypedStorage] = {}  # by address: what a replay writes anew

    @torch.no_grad()
    def replay(self) -> None:
        self.log.append("replay")
        for function, args, kwargs, made in self.operators:
            results = tensors(function(*args, **kwargs))
            for tensor, result in zip(made, results, strict=True):
                if tensor is not None:
                    tensor.copy_(result)


class Capture(TorchDispatchMode):
    """Notes operators; what was in memory before is there again afterwards."""

    def __init__(self, graph: CUDAGraph):
        super().__init__()
        self.graph = graph
        self.before: dict[int, tuple] = {}  # by address: memory that was there, and what it held
        self.made = graph.memory  # held, so that no address comes twice

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        by_mask = function.overloadpacket in INDEXING and any(map(is_mask, tensors(args[1])))
        if by_mask or function.overloadpacket in (*WAITED_FOR, *SENT):
            raise RuntimeError(NOT_PERMITTED)
        for tensor in tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            if not self.knows(storage):
                self.before[storage.data_ptr()] = storage, storage.clone()
        result = function(*args, **kwargs)

        # What it made, or None in place of what lies in memory that is known.
        made = []
        for tensor in tensors(result):
            storage = tensor.untyped_storage()
            made.append(None if self.knows(storage) else tensor)
            if not self.knows(storage):
                self.made[storage.data_ptr()] = storage
        if function.overloadpacket not in NO_WORK and not is_view(function):
            self.graph.operators.append((function, args, kwargs, made))
        return result

    def knows(self, storage: torch.UntypedStorage) -> bool:
        return storage.data_ptr() in self.made or storage.data_ptr() in self.before

    def take_back(self) -> None:
        for storage, held in self.before.values():
            storage.copy_(held)


class Streams:
    """In place of the module `torch.cuda`; `log` has what was asked for, in its order."""

    def __init__(self):
        self.log: list[str] = []
        self.streams = 0
        self.graphs: list[CUDAGraph] = []
        self.current = Stream(self.log, "computing")

    def Stream(self) -> Stream:
        self.streams += 1
        return Stream(self.log, f"stream {self.streams}")

    def CUDAGraph(self) -> CUDAGraph:
        self.graphs.append(CUDAGraph(self.log))
        return self.graphs[-1]

    def current_stream(self) -> Stream:
        return self.current

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def graph_pool_handle(self) -> tuple[int, int]:
        return (0, 1)

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(
        self, graph: CUDAGraph, pool: tuple, stream: Stream, capture_error_mode: str
    ) -> Iterator[None]:
        assert capture_error_mode in ("global", "thread_local", "relaxed")
        self.log.append("capture")
        drawn = torch.get_rng_state()
        with self.stream(stream), Capture(graph) as capture:
            yield
        capture.take_back()
        torch.set_rng_state(drawn)


def is_mask(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.bool, torch.uint8)


def tensors(value: object) -> list[Tensor]:
    return [one for one in tree_leaves(value) if isinstance(one, Tensor)]

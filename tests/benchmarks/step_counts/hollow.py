"""A step at its full size without its memory or its time: what its operators compute, read and
write."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from tests.benchmarks.card_check.counts import Count, is_view

aten = torch.ops.aten
# Operators by what a step does with them, and after `loss` those that our losses consist of; "sums"
# are residual connections and gradients that meet.
KINDS = {
    "convolutions": "convolution convolution_backward",
    "norms": "native_batch_norm native_batch_norm_backward amax amin var_mean",
    "activations": "relu relu_ leaky_relu leaky_relu_ leaky_relu_backward threshold_backward tanh "
    "tanh_backward sigmoid sigmoid_backward native_dropout native_dropout_backward",
    "pads": "reflection_pad2d reflection_pad2d_backward reflection_pad3d reflection_pad3d_backward "
    "constant_pad_nd",
    "pools": "avg_pool2d avg_pool2d_backward max_pool2d_with_indices "
    "max_pool2d_with_indices_backward",
    "losses": "sub abs sgn sum mean pow mse_loss mse_loss_backward "
    "binary_cross_entropy_with_logits",
    "sums": "add add_",
    "optimiser": "_fused_adam_",
    "joins": "cat slice_backward",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}
ADAM_BYTES = 28  # of a weight: it, its gradient and moments read, it and its moments written
COPIES = (aten._to_copy, aten.copy_, aten.clone)
NO_WORK = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)
# As the CPU's do; those of meta tensors give NCHW.
KEEPING_NHWC = (aten.convolution, aten.reflection_pad2d, aten.reflection_pad2d_backward)
OVERWRITING = (aten.copy_, aten.zero_, aten.fill_, aten.normal_, aten.uniform_)


@dataclass(frozen=True)
class Work:
    """What one operator asks of a device."""

    kind: str
    flops: int
    bytes: int  # of memory, read and written


class Hollow(Count):
    """Computes shapes, strides and dtypes alone: its tensors are the CPU's, but nobody touches
    their memory, so the system gives them none; numbers that are fetched are 1.

    Not torch's FakeTensorMode, whose parameters `Module.to` cannot exchange."""

    def __init__(self):
        super().__init__("cpu")
        self.weights = 0  # that the step trains
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.operators, self.fetches = Counter(), Counter()
        self.works: list[Work] = []
        self.conversions = 0  # copies into another memory format
        self.convolutions: Counter[str] = Counter()  # by the memory format of their input

    def compute(self, function, args: tuple, kwargs: dict):
        if is_view(function) or function.overloadpacket is aten.set_:  # as deepcopy copies buffers
            return function(*args, **kwargs)
        if function.overloadpacket is aten._local_scalar_dense:
            return 1.0

        # On meta tensors; what it wrote into stays the tensor that it was.
        twins: dict[int, Tensor] = {}
        originals: dict[int, Tensor] = {}

        def twin(value):
            if isinstance(value, torch.device):
                return torch.device("meta")
            if isinstance(value, Tensor):
                if id(value) not in twins:
                    twins[id(value)] = empty_as(value, "meta")
                    originals[id(twins[id(value)])] = value
                return twins[id(value)]
            return value

        def hollow(value):
            if not isinstance(value, Tensor):
                return value
            if id(value) in originals:
                return originals[id(value)]
            made = empty_as(value, "cpu")
            made.is_computed = True
            return made

        computed = function(*tree_map(twin, args), **tree_map(twin, kwargs))
        if function.overloadpacket in KEEPING_NHWC and "nhwc" in map(
            memory_format, tensors(args)[:2]
        ):
            computed = computed.contiguous(memory_format=torch.channels_last)
        return tree_map(hollow, computed)

    def is_fetch(self, function, args, result) -> bool:
        """Of what the device computed: counters of optimisers are the host's."""
        is_number = function.overloadpacket is aten._local_scalar_dense
        return is_number and hasattr(args[0], "is_computed")

    def note(self, function, args: tuple, kwargs: dict, result) -> None:
        packet, name = function.overloadpacket, function._schema.name
        if packet in NO_WORK:
            self.operators[name] -= 1
            return
        formula = flop_registry.get(packet)  # as FlopCounterMode takes it
        flops = formula(*args, **kwargs, out_val=result) if formula else 0
        kind = KIND_OF.get(name.removeprefix("aten::"), "other")
        if "_foreach_" in name:
            kind = "finite check" if "_amp_" in name else "optimiser"
        if packet in COPIES:
            source = args[packet is aten.copy_]
            kind = "copies" if source.dtype == result.dtype else "casts"
            self.conversions += memory_format(source) != memory_format(result)
        if kind == "convolutions":
            maps = args[packet is aten.convolution_backward]
            self.convolutions[memory_format(maps)] += 1
        self.works.append(Work(kind, flops, moved_bytes(function, args, kwargs, result)))

    # What was counted.

    def gigabytes(self) -> dict[str, float]:
        """Read and written, by kind, the most first."""
        found = Counter()
        for work in self.works:
            found[work.kind] += work.bytes / 1e9
        return dict(found.most_common())

    def teraflops(self) -> float:
        return sum(work.flops for work in self.works) / 1e12

    def seconds(self, flops: float, bandwidth: float, kind: str = "") -> float:
        """The time of a device of so many FLOP and bytes a second: of each operator, or of those of
        a kind, the longer of its computing and its reading and writing."""
        works = [work for work in self.works if kind in ("", work.kind)]
        return sum(max(work.flops / flops, work.bytes / bandwidth) for work in works)

    def floor_seconds(self, flops: float, bandwidth: float) -> float:
        """The least time: convolutions and one pass of Adam alone read and write memory."""
        adam = ADAM_BYTES * self.weights / bandwidth
        return self.seconds(flops, bandwidth, "convolutions") + adam


def empty_as(value: Tensor, device: str) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)


def memory_format(value: Tensor) -> str:
    """ "nchw" or "nhwc", or "" for what is both or neither."""
    kinds = value.is_contiguous(), is_nhwc(value)
    return {(True, False): "nchw", (False, True): "nhwc"}.get(kinds, "")


def is_nhwc(value: Tensor) -> bool:
    return value.is_contiguous(memory_format=torch.channels_last)


def moved_bytes(function, args: tuple, kwargs: dict, result) -> int:
    """Each argument read once and each result written once; an argument that is written to is both,
    unless all of it is overwritten."""
    schema = function._schema
    given = [*args, *(kwargs.get(one.name) for one in schema.arguments[len(args) :])]
    total, known = 0, set()
    for value, declared in zip(given, schema.arguments, strict=True):
        writes = declared.alias_info is not None and declared.alias_info.is_write
        # Fused Adam declares gradients as written, for those that it would unscale.
        writes = writes and declared.name != "grads"
        for tensor in tensors(value):
            known.add(id(tensor))
            reads = not (writes and function.overloadpacket in OVERWRITING)
            total += held_bytes(tensor) * (reads + writes)
    return total + sum(held_bytes(one) for one in tensors(result) if id(one) not in known)


def tensors(value) -> list[Tensor]:
    return [one for one in tree_leaves(value) if isinstance(one, Tensor)]


def held_bytes(tensor: Tensor) -> int:
    """Of its elements in memory: an expanded one has fewer than it shows."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    held = tensor.element_size()
    for size, stride in pairs:
        held *= size if stride else min(size, 1)
    return held

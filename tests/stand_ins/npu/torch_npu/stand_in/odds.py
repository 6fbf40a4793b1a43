"""What torch itself cannot do with a device of Python, done otherwise."""

import torch
from torch import Tensor, nn

from torch_npu.stand_in import streams
from torch_npu.stand_in.stats import STATS
from torch_npu.stand_in.tensors import is_on_device

_deepcopy = Tensor.__deepcopy__
_pin_memory = Tensor.pin_memory


def mend_torch() -> None:
    # Views of normal tensors cannot be made in inference mode, which has decorated functions.
    torch.inference_mode.__enter__ = _without_grad
    torch.inference_mode.__exit__ = _with_grad_as_before
    # A copy of the storage is a copy of nothing.
    Tensor.__deepcopy__ = _copied
    # Pinning asks for an allocator in C++.
    Tensor.pin_memory = _pinned
    Tensor.record_stream = streams.recorded


def _without_grad(self: torch.inference_mode) -> None:
    self.before = torch.is_grad_enabled()
    torch.set_grad_enabled(self.before and not self.mode)


def _with_grad_as_before(self: torch.inference_mode, *error: object) -> None:
    torch.set_grad_enabled(self.before)


def _copied(self: Tensor, memo: dict) -> Tensor:
    if not is_on_device(self):
        return _deepcopy(self, memo)
    if id(self) not in memo:
        copy = self.detach().clone()
        if isinstance(self, nn.Parameter):
            copy = nn.Parameter(copy, self.requires_grad)
        memo[id(self)] = copy
    return memo[id(self)]


def _pinned(self: Tensor, device: object = None) -> Tensor:
    if is_on_device(self):
        raise RuntimeError(
            "cannot pin 'torch.npu.FloatTensor' only dense CPU tensors can be pinned"
        )
    STATS.calls["pin_memory"] += 1
    return self.clone()

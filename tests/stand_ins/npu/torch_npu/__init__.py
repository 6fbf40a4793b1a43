"""Stand-in for Ascend's torch_npu 2.13: a device `npu` whose kernels run on the CPU.

With its folder (tests/stand_ins/npu) on PYTHONPATH every program finds it as it would find the real
one. tests/on_npu.py does that, for people and for tests. What it shall be is said by environment
variables:
  NPU_STAND_IN_CHIP   a name of stand_in/chips.py; default: an A2 card
  NPU_STAND_IN_HF32   mantissa bits that HF32 keeps of a float32; default 11; 23: all
  NPU_STAND_IN_STATS  a file to which each process appends, as a line of JSON, what it did
  NPU_STAND_IN_COUNT  devices of this machine; default 8
  NPU_STAND_IN_FAULT  "aten::convolution_backward 40 507015": from the 40th such operator on nothing
                      works, by that error of CANN, or "memory"; "hccl.allreduce 3 9" likewise; a
                      fourth word is the rank that alone meets it
  TORCH_NPU_WHEEL     the real wheel, unzipped: GradScaler and NpuFusedAdam are then the real ones
Tests hold its names and their parameters against that wheel.

What it is not: a device has no memory format of its own here and no queue, streams run one after
the other, all tensors are on npu:0, and max_memory_allocated is read between many kernels alone.
Only torch from 2.10 on can have such a device."""

from torch_npu import npu as npu
from torch_npu import optim as optim
from torch_npu import profiler as profiler
from torch_npu.stand_in import autocast, collectives, kernels, odds, overflow, wheel
from torch_npu.stand_in.stats import write_at_exit
from torch_npu.version import __version__ as __version__

kernels.register(npu)
autocast.register()
collectives.register()
odds.mend_torch()
write_at_exit()
npu_get_float_status = overflow.npu_get_float_status
npu_clear_float_status = overflow.npu_clear_float_status
wheel.take_over()


def _autoload() -> None:
    """What torch calls on import; all is done by then."""

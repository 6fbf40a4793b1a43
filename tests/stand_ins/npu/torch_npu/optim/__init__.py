"""torch_npu.optim."""

from torch_npu.optim.npu_fused_adam import NpuFusedAdam as NpuFusedAdam

"""torch_npu.optim: the optimiser that this project can take."""

from torch_npu.optim.npu_fused_adam import NpuFusedAdam as NpuFusedAdam

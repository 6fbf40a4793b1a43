"""torch_npu.npu.amp."""

from torch_npu.npu.amp.grad_scaler import GradScaler as GradScaler

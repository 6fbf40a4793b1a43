"""Loss scaling on chips that saturate: what overflows becomes the largest number and NaN 0, so that
no gradient shows it; a flag of the hardware does.

910 and 310P have no other mode; A2 and A3 have it where INF_NAN_MODE_FORCE_DISABLE says so."""

import torch
import torch.distributed as dist
from torch import Tensor


def scaler_by_flag(**constants: float | int) -> torch.amp.GradScaler:
    """torch_npu's own GradScaler, which clears the flag before a backward pass, without its
    fetches: it asks the flag on the host, and again what it found, and adapts the scale there.

    constants: of torch.amp.GradScaler."""
    import torch_npu

    torchs = torch.amp.GradScaler

    class ScalerByFlag(torch.npu.amp.GradScaler):
        _device = "npu"  # which torch's `update` compares with

        def _unscale_grads_(
            self,
            optimizer: torch.optim.Optimizer,
            inv_scale: Tensor,
            found_inf: Tensor,
            allow_fp16: bool,
        ) -> dict[torch.device, Tensor]:
            # The flag, as torch_npu.npu.utils.get_npu_overflow_flag asks it.
            status = torch_npu.npu_get_float_status(torch.zeros(8, device="npu"))
            found_inf.copy_(status[0] != 0)
            if dist.is_initialized():  # saturated means tell the other ranks nothing
                dist.all_reduce(found_inf, dist.ReduceOp.MAX)

            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            with torch.no_grad():
                torch._foreach_mul_([w.grad for w in weights if w.grad is not None], inv_scale)
            return {found_inf.device: found_inf}

        def update(self, new_scale: float | Tensor | None = None) -> None:
            torchs.update(self, _adapted(self) if new_scale is None else new_scale)
            self._clear_overflow_flag = False  # the next `scale` clears it

        # A state is one of torch's, so that a run goes on on another chip.
        state_dict, load_state_dict = torchs.state_dict, torchs.load_state_dict

    return ScalerByFlag(**constants)


def _adapted(scaler: torch.amp.GradScaler) -> Tensor:
    """The next scale as torch's, but by kernels that the chip has: CANN has AmpUpdateScale for A2
    and A3 alone (its aclnnAmpUpdateScale.md)."""
    scale, tracker = scaler._check_scale_growth_tracker("update")
    states = scaler._per_optimizer_states.values()
    found = [one for state in states for one in state["found_inf_per_device"].values()]
    overflow = torch.stack(found).sum() > 0
    grows = tracker + 1 == scaler.get_growth_interval()
    larger = torch.where(grows, scale * scaler.get_growth_factor(), scale)
    tracker.copy_(torch.where(overflow | grows, 0, tracker + 1))
    return torch.where(overflow, scale * scaler.get_backoff_factor(), larger)

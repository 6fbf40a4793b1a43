"""A twin of torch_npu's own GradScaler; tests hold it against the real one."""

import torch
from torch.amp.grad_scaler import OptState


class GradScaler(torch.amp.GradScaler):
    """What differs from torch's: it clears the device's flag of overflow as it scales, fetches
    found_inf of each optimiser, keeps one `_has_overflow` for all, and adapts the scale on the
    host. Source: torch_npu 2.13.0, npu/amp/grad_scaler.py."""

    def __init__(
        self,
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        dynamic=True,
        enabled=True,
    ):
        super().__init__("npu", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
        self._dynamic, self._has_overflow, self._clear_overflow_flag = dynamic, False, False

    def scale(self, outputs):
        from torch_npu import npu_clear_float_status
        from torch_npu.npu.utils import is_support_inf_nan

        if self._enabled and self._dynamic and not self._clear_overflow_flag:
            if not is_support_inf_nan():
                npu_clear_float_status(torch.zeros(8).pin_memory().to("npu"))
            self._clear_overflow_flag = True
        return super().scale(outputs)

    def _unscale_grads_(self, optimizer, inv_scale, found_inf, allow_fp16):
        found = super()._unscale_grads_(optimizer, inv_scale, found_inf, allow_fp16)
        self._has_overflow |= any(one.item() > 0 for one in found.values())
        if self._has_overflow:
            found[found_inf.device].add_(1)
        return found

    def step(self, optimizer, *args, **kwargs):
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.READY:
            self.unscale_(optimizer)
        overflown = sum(one.item() for one in state["found_inf_per_device"].values())
        state["stage"] = OptState.STEPPED
        if self._dynamic and (overflown or self._has_overflow):
            print("Gradient overflow. Skipping step")
            return None
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale=None):
        if not self._enabled:
            return
        scale, tracker = self._check_scale_growth_tracker("update")
        if isinstance(new_scale, float):
            self._scale = torch.full((), new_scale).pin_memory().to(scale.device)
        elif new_scale is not None:
            assert isinstance(new_scale, torch.npu.FloatTensor), "a float or a FloatTensor"
            self._scale = new_scale
        elif self._dynamic and self._has_overflow:
            scale.mul_(self._backoff_factor)
            tracker.zero_()
            print(f"Loss scaler reducing loss scale to {scale.item()}")
        elif self._dynamic:
            tracker.add_(1)
            if tracker.item() == self._growth_interval:
                grown = scale * self._growth_factor
                if not torch.isinf(grown):
                    self._scale = grown
                tracker.zero_()
                print(f"Loss scaler increasing loss scale to {self._scale.item()}")
        self._per_optimizer_states.clear()
        self._has_overflow = self._clear_overflow_flag = False

    def state_dict(self):
        return super().state_dict() | ({"dynamic": self._dynamic} if self._enabled else {})

    def load_state_dict(self, state_dict):
        if self._enabled:
            super().load_state_dict(state_dict)
            self._dynamic = state_dict["dynamic"]

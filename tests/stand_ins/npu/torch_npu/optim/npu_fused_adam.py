"""A twin of torch_npu's NpuFusedAdam; tests hold it against the real one."""

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from torch_npu.utils import npu_combine_tensors


class NpuFusedAdam(Optimizer):
    """Adam over one buffer of all weights that have a gradient at the first step.

    Others cannot learn: KeyError. A gradient that is not in the buffer is not seen.
    Source: torch_npu 2.13.0, optim/npu_fused_{adam,optim_base}.py; without amsgrad."""

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False
    ):
        assert not amsgrad, "the twin has none"
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
        super().__init__(params, defaults)
        self.is_fused_optimizer = True
        self.is_params_grads_combined = self.is_states_combined = False
        self.grads_all_group_combined: list[Tensor | None] = []
        self._buffers: list[dict] = []  # of each group: weights, gradients, moments, steps

    def _maybe_init_combined_params_and_grads(self) -> None:
        if self.is_params_grads_combined:
            return
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if wrong := {w.dtype for w in weights} - {torch.float32, torch.float16}:
                raise TypeError(
                    "Fused optimizer's parameters must be either float32 or float16, but received "
                    f"{wrong.pop()}"
                )
            found = {"of": weights, "weight": npu_combine_tensors(weights)}
            found["gradient"] = npu_combine_tensors([weight.grad for weight in weights])
            self._buffers.append(found)
        self.grads_all_group_combined = [found["gradient"] for found in self._buffers]
        self.is_params_grads_combined = any(found["of"] for found in self._buffers)

    def _maybe_init_combined_states(self) -> None:
        if self.is_states_combined:
            return
        for found in self._buffers:
            for weight in found["of"]:
                state = self.state[weight]
                state.setdefault("step", 0)
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name] = state[name].clone() if name in state else torch.zeros_like(weight)
            states = [self.state[weight] for weight in found["of"]]
            found["step"] = states[0]["step"] if states else 0
            for name in ("exp_avg", "exp_avg_sq"):
                found[name] = npu_combine_tensors([state[name] for state in states])
        self.is_states_combined = True

    @torch.no_grad()
    def step(self, closure=None) -> None:
        self._maybe_init_combined_params_and_grads()
        self._maybe_init_combined_states()
        for group, found in zip(self.param_groups, self._buffers, strict=True):
            for weight in group["params"]:
                if weight.grad is not None:
                    self.state[weight]["step"] += 1
            if not found["of"]:
                continue
            found["step"] += 1
            beta1, beta2 = group["betas"]
            gradient, mean, square = found["gradient"], found["exp_avg"], found["exp_avg_sq"]
            if group["weight_decay"]:
                gradient = gradient.add(found["weight"], alpha=group["weight_decay"])
            mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            root = math.sqrt(1 - beta2 ** found["step"])
            denominator = (square.sqrt() / root).add_(group["eps"])
            rate = group["lr"] / (1 - beta1 ** found["step"])
            found["weight"].addcdiv_(mean, denominator, value=-rate)

    @torch.no_grad()
    def zero_grad(self, set_to_none=False) -> None:
        if set_to_none:
            raise ValueError("set_to_none is not supported in fused optimizers")
        self._maybe_init_combined_params_and_grads()
        if not self.is_params_grads_combined:
            self._buffers.clear()
            super().zero_grad(set_to_none)
        for gradients in self.grads_all_group_combined:
            if gradients is not None:
                gradients.zero_()

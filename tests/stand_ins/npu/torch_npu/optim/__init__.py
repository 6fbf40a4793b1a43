"""torch_npu.optim: the optimiser that this project can take."""

import torch


class NpuFusedAdam(torch.optim.Optimizer):
    """What its users see of torch_npu 2.13's (optim/npu_fused_adam.py, npu_fused_optim_base.py):
    gradients must not be forgotten, what had none at the first step never learns, steps are
    integers and those of the first weight count for all."""

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False
    ):
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
        super().__init__(params, defaults)
        self.combined = []

    def zero_grad(self, set_to_none=False):
        if set_to_none:
            raise ValueError("set_to_none is not supported in fused optimizers")
        for weight in self.combined:
            weight.grad.zero_()

    @torch.no_grad()
    def step(self, closure=None):
        (group,) = self.param_groups
        self.combined = self.combined or [w for w in group["params"] if w.grad is not None]
        for weight in self.combined:
            if not self.state[weight]:
                moments = dict(
                    exp_avg=torch.zeros_like(weight), exp_avg_sq=torch.zeros_like(weight)
                )
                self.state[weight] = dict(step=0) | moments
            self.state[weight]["step"] += 1
        beta1, beta2 = group["betas"]
        steps = self.state[self.combined[0]]["step"]
        assert isinstance(steps, int)
        for weight in self.combined:
            first, second = (self.state[weight][name] for name in ("exp_avg", "exp_avg_sq"))
            first.mul_(beta1).add_(weight.grad, alpha=1 - beta1)
            second.mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
            spread = (second / (1 - beta2**steps)).sqrt() + group["eps"]
            weight -= group["lr"] / (1 - beta1**steps) * first / spread

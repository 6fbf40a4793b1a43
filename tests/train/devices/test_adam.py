"""Adam in its forms: the same weights, states that each takes from the other, updates left out."""

import copy
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from components.train.devices.adam import Adam, ForeachAdam, build_adam, check_adam
from components.train.schedule import ScheduleOptions
from shared.device import Runtime
from shared.errors import InputError
from tests.training import config

CPU = Runtime(torch.device("cpu"), "fp32")
SCHEDULE = ScheduleOptions(learning_rate=0.01)
GOOD, BAD = torch.tensor(False), torch.tensor(True)


class NpuFusedAdam(torch.optim.Optimizer):
    """What its users see of torch_npu 2.13's, on a CPU, which its twin of the stand-in does not
    know: gradients must not be forgotten, what had none at the first step never learns, steps are
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


@pytest.fixture(autouse=True)
def torch_npu(monkeypatch) -> None:
    optim = types.ModuleType("torch_npu.optim")
    optim.NpuFusedAdam = NpuFusedAdam
    monkeypatch.setitem(sys.modules, "torch_npu", types.ModuleType("torch_npu"))
    monkeypatch.setitem(sys.modules, "torch_npu.optim", optim)


class Fit:
    """Weights of several sizes and memory formats, and an optimiser of them."""

    def __init__(self, form: str, steps: int = 0, frozen: int = 0):
        torch.manual_seed(0)
        self.weights = [nn.Parameter(torch.randn(size)) for size in ((3, 2, 3, 3), (7,), ())]
        self.weights[0].data = self.weights[0].data.contiguous(memory_format=torch.channels_last)
        for weight in self.weights[:frozen]:
            weight.requires_grad_(False)
        self.optimizer = build_adam(self.weights, SCHEDULE, form, CPU)
        for number in range(steps):
            self.backward(number)
            self.optimizer.step()

    def backward(self, number: int) -> None:
        self.optimizer.zero_grad()
        random = torch.Generator().manual_seed(number)
        learning = [weight for weight in self.weights if weight.requires_grad]
        sum((w * torch.randn(w.shape, generator=random)).sum() for w in learning).backward()

    def state(self) -> list[torch.Tensor]:
        moments = [value for one in self.optimizer.state.values() for value in one.values()]
        return [torch.as_tensor(value).detach().clone() for value in (*self.weights, *moments)]


def equal(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(ones) == len(others) and all(map(torch.equal, ones, others))


def test_auto_is_the_fastest_form_that_the_device_has():
    assert type(build_adam([nn.Parameter(torch.ones(1))], SCHEDULE, "auto", CPU)) is Adam
    npu = types.SimpleNamespace(has_fused_adam=False)
    found = build_adam([nn.Parameter(torch.ones(1))], SCHEDULE, "auto", npu)
    assert type(found) is ForeachAdam


@pytest.mark.parametrize("form", ["fused", "foreach"])
def test_ours_is_torchs_to_the_bit(form):
    ours, torchs = Fit(form), Fit(form)
    options = dict(lr=SCHEDULE.learning_rate, betas=(SCHEDULE.beta1, 0.999), **{form: True})
    torchs.optimizer = torch.optim.Adam(torchs.weights, **options)
    states = []
    for fit in (ours, torchs):
        for number in range(4):
            fit.backward(number)
            fit.optimizer.step()
            fit.optimizer.load_state_dict(copy.deepcopy(fit.optimizer.state_dict()))
        fit.optimizer.zero_grad()
        assert all(weight.grad is None for weight in fit.weights)
        states.append(fit.state())
    assert equal(*states) and ours.optimizer.state_dict().keys() == {"state", "param_groups"}


def test_an_optimiser_does_not_load_the_compiler():
    """Of torch, which takes seconds: in a process where it cannot be."""
    code = """
import sys
sys.modules["torch._dynamo"] = None
import torch
from components.train.devices.adam import build_adam
from components.train.schedule import ScheduleOptions
from shared.device import Runtime
for form in ("fused", "foreach"):
    weights = [torch.nn.Parameter(torch.ones(2))]
    adam = build_adam(weights, ScheduleOptions(), form, Runtime(torch.device("cpu"), "fp32"))
    weights[0].sum().backward()
    adam.step()
    adam.zero_grad()
    adam.load_state_dict(adam.state_dict())
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_guarded_step_is_torchs_to_the_bit_and_an_overflow_changes_nothing(frozen):
    """Also the very first step, and weights in another memory format."""
    ours, plain = Fit("foreach", frozen=frozen), Fit("foreach", frozen=frozen)
    for number, overflow in enumerate((BAD, GOOD, BAD, GOOD, GOOD)):
        before = ours.state()
        ours.backward(number)
        if overflow:
            for weight in ours.weights[frozen:]:
                weight.grad.fill_(float("nan"))
        ours.optimizer.step_unless(overflow)
        if overflow:
            ours.optimizer.forget_step()
            assert equal(ours.state()[:3], before[:3])
        else:
            plain.backward(number)
            plain.optimizer.step()
    assert equal(ours.state(), plain.state())


@pytest.mark.parametrize("before, after", [("fused", "npu-fused"), ("npu-fused", "foreach")])
def test_a_run_goes_on_with_another_form(before, after):
    first, second, whole = Fit(before, steps=3), Fit(after), Fit("foreach", steps=6)
    with torch.no_grad():
        for weight, other in zip(second.weights, first.weights, strict=True):
            weight.copy_(other)
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    for number in range(3, 6):
        second.backward(number)
        second.optimizer.step()
    for ours, theirs in zip(second.state(), whole.state(), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-6)
    saved = second.optimizer.state_dict()["state"]
    assert all(one["step"].item() == 6 for one in saved.values())


def test_npu_fused_takes_no_state_in_which_some_have_learned_longer():
    state = Fit("foreach", steps=2, frozen=1).optimizer.state_dict()
    with pytest.raises(InputError, match="counts the steps of all weights as one"):
        Fit("npu-fused").optimizer.load_state_dict(state)


def test_a_form_that_the_device_lacks_is_refused():
    with pytest.raises(InputError, match="npu-fused is torch_npu's, but the device is cpu"):
        check_adam(config(adam="npu-fused"), CPU)
    npu = types.SimpleNamespace(name="npu", has_fused_adam=False)
    with pytest.raises(InputError, match="--adam fused: torch_npu computes it on the CPU"):
        check_adam(config(adam="fused"), npu)
    check_adam(config(adam="npu-fused"), npu), check_adam(config(adam="foreach"), CPU)

"""Loss scaling, and updates that are skipped because a gradient was not finite."""

import contextlib
import math
import sys
import types

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from components.train.config import PrecisionOptions
from components.train.devices.loss_scale import (
    LossScaler,
    add_finite,
    apex_amp,
    check_apex,
    means,
    start_apex,
)
from components.train.devices.update import Update, update_all
from components.train.devices.world import ALONE
from components.train.losses import gan_loss, l1_loss
from components.train.schedule import ScheduleOptions
from shared.device import Runtime
from shared.errors import InputError, WorkFailed
from tests.training import config

INF, NAN = float("inf"), float("nan")


def scaling(initial: float = 65536.0, **constants) -> PrecisionOptions:
    """Options of the loss scale alone."""
    values = {f"loss_scale_{name}": value for name, value in constants.items()}
    return PrecisionOptions(loss_scale_initial=initial, **values)


DYNAMIC = PrecisionOptions()
STATIC_64 = PrecisionOptions(loss_scale="static", loss_scale_initial=64.0)


def on_cpu(precision: str) -> Runtime:
    """Also fp16, which `pick` refuses here; the scaler itself is the same."""
    return Runtime(torch.device("cpu"), precision)


class Fit:
    """A layer of three weights with Adam; `update(2.0)` goes backward from twice the sum of its
    outputs."""

    def __init__(
        self, precision: str = "fp32", scale: PrecisionOptions = DYNAMIC, fused: bool = True
    ):
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)
        self.optimizer = torch.optim.Adam(
            self.layer.parameters(), lr=0.1, betas=(0.5, 0.999), fused=fused
        )
        self.scaler = LossScaler(on_cpu(precision), scale)

    def update(self, slope: float, max_norm: float = 0.0, scaler=None) -> None:
        scaler = scaler or self.scaler
        self.optimizer.zero_grad()
        loss = slope * self.layer(torch.tensor([[1.0, 2.0]])).sum()
        with scaler.scaled(loss, self.optimizer) as scaled:
            scaled.backward()
        scaler.step(self.optimizer, max_norm)

    def gradients(self) -> list[float]:
        return [
            value for weight in self.layer.parameters() for value in weight.grad.flatten().tolist()
        ]

    def state(self) -> list[torch.Tensor]:
        """Weights, and Adam's moments and counts."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        return [value.detach().clone() for value in (*self.layer.parameters(), *moments)]

    def scale(self) -> float:
        return self.scaler.scaler.get_scale()


def equal(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ones, others, strict=True))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("bad", [INF, -INF, NAN])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_moments(
    bad, precision, fused, capsys
):
    fit = Fit(precision, fused=fused)
    fit.update(1.0)
    before = fit.state()
    fit.update(bad)
    assert equal(fit.state(), before) and fit.scaler.check("G", limit=2) == 1
    scale = " at loss scale 32768" if precision == "fp16" else ""
    assert capsys.readouterr().out == f"G: 1 of 2 updates skipped, gradients not finite{scale}\n"
    fit.update(1.0)
    assert not equal(fit.state(), before) and fit.scaler.check("G", limit=2) == 0
    assert capsys.readouterr().out == ""


def test_one_bad_gradient_of_many_is_enough():
    fit = Fit()
    fit.optimizer.zero_grad()
    before = fit.state()
    with fit.scaler.scaled(fit.layer(torch.tensor([[1.0, INF]])).sum(), fit.optimizer) as scaled:
        scaled.backward()  # of the second weight alone
    fit.scaler.step(fit.optimizer)
    assert fit.gradients() == [1.0, INF, 1.0] and equal(fit.state()[:2], before)


@pytest.mark.parametrize(
    "precision, scale", [("fp32", DYNAMIC), ("fp16", DYNAMIC), ("fp16", STATIC_64)]
)
@pytest.mark.parametrize("max_norm", [0.0, 0.5])
def test_without_overflow_the_weights_are_those_of_plain_adam(precision, scale, max_norm):
    fit, plain = Fit(precision, scale), Fit()
    for slope in (0.3, -2.0, 0.7):
        fit.update(slope, max_norm)
        plain.optimizer.zero_grad()
        (slope * plain.layer(torch.tensor([[1.0, 2.0]])).sum()).backward()
        if max_norm:
            nn.utils.clip_grad_norm_(plain.layer.parameters(), max_norm)
        plain.optimizer.step()
    assert equal(fit.state(), plain.state())  # scales are powers of two: not a bit is lost


def test_gradients_are_clipped_at_their_true_size():
    fit = Fit("fp16")
    fit.update(2.0, max_norm=1.0)
    norm = math.sqrt(6)  # of 2 * (1, 2, 1), which is 2 * sqrt(6): clipped to (1, 2, 1) / sqrt(6)
    assert fit.gradients() == pytest.approx([1 / norm, 2 / norm, 1 / norm], rel=1e-5)


class Fetches(TorchDispatchMode):
    """Counts the times that a number goes from the device to the program."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("scale", [DYNAMIC, STATIC_64, scaling(hysteresis=2)])
def test_an_update_fetches_nothing_from_the_device(scale):
    fused, plain = Fit("fp16", scale), Fit("fp16", scale, fused=False)
    fused.update(1.0), plain.update(1.0)
    with Fetches() as fetches:
        fused.update(1.0, max_norm=1.0), fused.update(INF)
    assert fetches.count == 0
    with Fetches() as fetches:
        plain.update(1.0)
    assert fetches.count > 0  # so the counter sees them


def test_dynamic_scale_grows_and_backs_off_by_its_constants():
    fit = Fit("fp16", scaling(100.0, growth_factor=3.0, growth_interval=2, backoff_factor=0.25))
    scales = [(fit.update(slope), fit.scale())[1] for slope in (1, 1, 1, INF, 1, 1)]
    assert scales == [100, 300, 300, 75, 75, 225]


def test_static_scale_never_changes():
    fit = Fit("fp16", STATIC_64.model_copy(update=dict(loss_scale_growth_interval=1)))
    assert [(fit.update(slope), fit.scale())[1] for slope in (1, 1, INF, INF, 1)] == [64] * 5
    assert fit.scaler.check("G", limit=10) == 2


def test_scale_backs_off_at_the_second_overflow_since_it_changed():
    seed = scaling(1000.0, growth_interval=3, backoff_factor=0.8, hysteresis=2)
    fit = Fit("fp16", seed)
    steps = [
        (INF, 1000),
        (1, 1000),
        (INF, 800),
        (INF, 800),
        (1, 800),
        (1, 800),
        (1, 1600),
        (INF, 1600),
        (INF, 1280),
    ]
    assert [(fit.update(slope), fit.scale())[1] for slope, _ in steps] == pytest.approx(
        [scale for _, scale in steps]
    )


def test_scale_of_the_mindspore_seed_comes_down_without_being_refused():
    fit = Fit("fp16", scaling(2.0**32, growth_interval=1000, backoff_factor=0.8, hysteresis=2))
    for _ in range(110):
        fit.update(INF)
    assert fit.scaler.check("G", limit=100) == 110
    assert fit.scale() == pytest.approx(2.0**32 * 0.8**55)


@pytest.mark.parametrize(
    "precision, scale, sentence",
    [
        ("fp32", DYNAMIC, ": give a lower --learning-rate, or a --clip-gradient-norm."),
        ("bf16", DYNAMIC, ": give a lower --learning-rate, or --precision fp32."),
        (
            "fp16",
            STATIC_64,
            " at loss scale 64: give a lower --learning-rate, a smaller --loss-scale-initial, or "
            "--precision fp32.",
        ),
        (
            "fp16",
            scaling(4.0),
            " at loss scale 0.5: give a lower --learning-rate, or --precision fp32.",
        ),
    ],
)
def test_too_many_skipped_in_a_row_are_refused(precision, scale, sentence):
    fit = Fit(precision, scale)
    for slope in (NAN, 1.0, NAN, NAN):  # two in a row only
        fit.update(slope)
    assert fit.scaler.check("D", limit=3) == 3
    fit = Fit(precision, scale)
    for _ in range(3):
        fit.update(NAN)
    with pytest.raises(WorkFailed) as refusal:
        fit.scaler.check("D", limit=3)
    assert (
        str(refusal.value) == f"the gradients of D were not finite in 3 updates in a row{sentence}"
    )


def test_state_goes_on_and_other_options_begin_with_their_own_scale():
    options = scaling(1000.0, growth_interval=3, hysteresis=2)
    slopes = (1, INF, 1, 1, 1, INF, INF, 1)
    whole, first, second = Fit("fp16", options), Fit("fp16", options), Fit("fp16", options)
    for slope in slopes:
        whole.update(slope)
    for slope in slopes[:6]:
        first.update(slope)
    second.scaler.load_state_dict(first.scaler.state_dict())
    assert second.scale() == 2000
    for slope in slopes[6:]:
        second.update(slope)
    assert second.scaler.state_dict() == whole.scaler.state_dict() and whole.scale() == 1000
    assert second.scaler.check("G", limit=9) == 1  # those before were reported before
    for precision, scale in (("fp32", 1), ("fp16", 64)):
        other = Fit(precision, STATIC_64)
        other.scaler.load_state_dict(whole.scaler.state_dict())
        other.update(INF)
        assert other.scale() == scale and other.scaler.state_dict()["skipped"] == 4


def test_losses_of_a_bad_step_stay_out_of_the_means():
    sums = {}
    for pairs, first, second in ((3, 1.0, 10.0), (3, NAN, 20.0), (3, 3.0, INF), (1, 5.0, 30.0)):
        losses = {"G": torch.tensor(first), "D": torch.tensor(second)}
        sums = add_finite(sums, losses, pairs)
    assert means(sums) == {"G": 2.0, "D": 15.0}  # each pair counts as much
    assert math.isnan(means(add_finite({}, {"G": torch.tensor(NAN)}, 1))["G"])


def fake_apex() -> types.ModuleType:
    """apex.amp as its documentation has it: unscales at the end of `scale_loss`, and skips by
    replacing `step`."""
    amp = types.ModuleType("apex.amp")
    amp.asked, amp.scales = {}, []

    def initialize(models, optimizers, opt_level, loss_scale, num_losses):
        amp.asked = dict(models=models, opt_level=opt_level, loss_scale=loss_scale)
        amp.scales = [2.0**16 if loss_scale == "dynamic" else loss_scale] * num_losses
        return models, optimizers

    @contextlib.contextmanager
    def scale_loss(loss, optimizers, loss_id=0):
        yield loss.float() * amp.scales[loss_id]
        gradients = [weight.grad for group in optimizers.param_groups for weight in group["params"]]
        for gradient in gradients:
            gradient /= amp.scales[loss_id]
        if not all(gradient.isfinite().all() for gradient in gradients):
            amp.scales[loss_id] /= 2
            step = optimizers.step
            optimizers.step = lambda: setattr(optimizers, "step", step)

    amp.initialize, amp.scale_loss = initialize, scale_loss
    amp.state_dict = lambda: {"loss_scales": list(amp.scales)}
    amp.load_state_dict = lambda state: setattr(amp, "scales", list(state["loss_scales"]))
    apex = types.ModuleType("apex")
    apex.amp = amp
    return apex


def test_apex_steps_like_plain_adam_with_a_scale_for_each_loss(monkeypatch):
    apex = fake_apex()
    monkeypatch.setitem(sys.modules, "apex", apex)
    G, D, plain = Fit(), Fit(), Fit()
    scaler_G, scaler_D = start_apex([G.layer, D.layer], [G.optimizer, D.optimizer], DYNAMIC)
    assert apex.amp.asked == dict(models=[G.layer, D.layer], opt_level="O1", loss_scale="dynamic")
    for slope in (0.3, INF, 0.7):
        G.update(slope, 0.5, scaler=scaler_G)
        D.update(0.3, scaler=scaler_D)
    for slope in (0.3, 0.7):
        plain.update(slope, 0.5)
    assert equal(G.state(), plain.state())
    assert (
        scaler_G.state_dict() == {"loss_scales": [2.0**15, 2.0**16]}
        and scaler_D.check("D", limit=1) == 0
    )
    scaler_D.load_state_dict({"loss_scales": [8.0, 4.0]})
    assert apex.amp.scales == [8.0, 4.0]


def test_apex_takes_a_static_scale_and_refuses_other_constants(monkeypatch):
    apex = fake_apex()
    monkeypatch.setitem(sys.modules, "apex", apex)
    fit = Fit()
    start_apex([fit.layer], [fit.optimizer], STATIC_64.model_copy(update=dict(opt_level="O2")))
    assert (apex.amp.asked["opt_level"], apex.amp.asked["loss_scale"]) == ("O2", 64.0)
    with pytest.raises(InputError) as refusal:
        start_apex([fit.layer], [fit.optimizer], scaling(backoff_factor=0.8))
    assert str(refusal.value) == (
        "--amp-backend apex has constants of its own for a dynamic loss scale, but others are "
        "asked for: leave them out, make the scale static, or use --amp-backend torch."
    )


def ascends_apex() -> types.ModuleType:
    """The same with Ascend's parameters (README of its repository): what it was given stands in
    `asked`."""
    apex = fake_apex()
    nvidias = apex.amp.initialize

    def initialize(
        models,
        optimizers,
        opt_level,
        loss_scale,
        num_losses,
        dynamic_init_scale=2.0**16,
        scale_growth_factor=2.0,
        scale_backoff_factor=0.5,
        scale_window=2000,
        max_loss_scale=2.0**24,
        combine_grad=None,
    ):
        given = {name: value for name, value in locals().items() if name in ASCENDS}
        nvidias(models, optimizers, opt_level, loss_scale, num_losses)
        apex.amp.asked |= given

        def zero_grad():  # without parameters, as apex has it in O2 and with combine_grad
            for group in optimizers[0].param_groups:
                for weight in group["params"]:
                    weight.grad = None

        optimizers[0].zero_grad = zero_grad

    apex.amp.initialize = initialize
    return apex


ASCENDS = ("dynamic_init_scale", "scale_growth_factor", "scale_backoff_factor", "scale_window")
ASCENDS += ("max_loss_scale", "combine_grad")


def test_ascends_apex_takes_constants_of_the_scale_and_combines_gradients(monkeypatch):
    apex = ascends_apex()
    monkeypatch.setitem(sys.modules, "apex", apex)
    fit, options = Fit(), scaling(2.0**32, growth_interval=1000, backoff_factor=0.8)
    start_apex([fit.layer], [fit.optimizer], options.model_copy(update=dict(combine_grad=True)))
    given = [apex.amp.asked[name] for name in ASCENDS]
    assert given == [2.0**32, 2.0, 0.8, 1000, 2.0**32, True]
    with pytest.raises(InputError, match="has constants of its own"):
        check_apex(scaling(hysteresis=2))


@pytest.mark.parametrize("apex, device", [(fake_apex(), "npu"), (ascends_apex(), "cuda")])
def test_apex_of_another_device_is_refused(monkeypatch, apex, device):
    monkeypatch.setitem(sys.modules, "apex", apex)
    with pytest.raises(InputError) as refusal:
        check_apex(DYNAMIC, device)
    whose, kind = ("NVIDIA's", "NPU") if device == "npu" else ("Ascend's", "GPU")
    assert str(refusal.value) == (
        f"--amp-backend apex: the apex that is installed is {whose}, which knows no {kind}: "
        "install the other, or use --amp-backend torch."
    )


def test_combine_grad_is_refused_of_nvidias_apex_and_without_apex(monkeypatch):
    monkeypatch.setitem(sys.modules, "apex", fake_apex())
    with pytest.raises(InputError, match="--combine-grad is an option of Ascend's apex"):
        check_apex(DYNAMIC.model_copy(update=dict(combine_grad=True)))
    with pytest.raises(InputError, match="--combine-grad is an option of apex"):
        config(combine_grad=True)
    for options in (dict(amp_backend="apex", combine_grad=True), dict(adam="npu-fused")):
        with pytest.raises(InputError, match="never learns what was fixed in its first step"):
            config(netG="local", epochs_fix_global=1, **options)


def test_updates_go_on_where_apex_has_put_a_zero_grad_of_its_own(monkeypatch):
    monkeypatch.setitem(sys.modules, "apex", ascends_apex())
    update = Update(Fit().layer.parameters(), ScheduleOptions(), DYNAMIC, on_cpu("fp32"), ALONE)
    (update.scaler,) = start_apex([], [update.optimizer], DYNAMIC)
    weight, bias = update.optimizer.param_groups[0]["params"]
    before = weight.detach().clone()
    with update.gradients(weight.sum() + bias.sum()) as loss:
        loss.backward()
    update_all(update)
    assert update.decided_by == "kernel" and not torch.equal(weight, before)


@pytest.mark.parametrize("installed", [None, types.ModuleType("apex")])
def test_apex_without_amp_is_one_sentence(monkeypatch, installed):
    """No apex, then PyPI's, which is another, or NVIDIA's of today."""
    monkeypatch.setitem(sys.modules, "apex", installed)
    with pytest.raises(InputError) as refusal:
        apex_amp()
    assert str(refusal.value) == (
        "--amp-backend apex needs apex.amp, which is not installed: "
        "install Ascend's apex or NVIDIA's up to 25.05 from its source, or use --amp-backend torch."
    )


@pytest.mark.parametrize("precision, dtype", [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_batch_norm_and_losses_are_of_fp32_under_autocast(precision, dtype):
    generator = torch.Generator().manual_seed(0)
    # Statistics in 8 bits would be far off.
    x = (100 + torch.randn(1, 4, 32, 32, generator=generator)).to(dtype)
    exact = x.double() - x.double().mean((2, 3), keepdim=True)
    exact /= (exact.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    norm = nn.BatchNorm2d(4)
    with on_cpu(precision).autocast():
        y = norm(x)
        assert y.dtype == dtype and norm.running_mean.dtype == torch.float32
        rounded_once = 4 * torch.finfo(dtype).eps / 2  # below 4
        assert (y.double() - exact).abs().max() < rounded_once * 1.01
        assert l1_loss(y, y).dtype == torch.float32
        assert all(
            gan_loss([[y]], is_real=True, mode=mode).dtype == torch.float32
            for mode in ("lsgan", "vanilla")
        )
    torch.testing.assert_close(norm.running_mean, 0.1 * x.float().mean((0, 2, 3)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("scale", [DYNAMIC, STATIC_64, scaling(hysteresis=2)])
def test_gpu_update_never_waits_for_the_device(scale):
    layer = nn.Linear(2, 1, device="cuda")
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    scaler, x = (
        LossScaler(Runtime(torch.device("cuda"), "fp16"), scale),
        torch.ones(1, 2, device="cuda"),
    )
    factors = torch.tensor([1.0, INF, 1.0], device="cuda").unbind()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for factor in factors:
            optimizer.zero_grad()
            with scaler.scaled(factor * layer(x).sum(), optimizer) as scaled:
                scaled.backward()
            scaler.step(optimizer, max_norm=1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert scaler.check("G", limit=2) == 1

"""Learning rates against torch's own schedulers and pix2pixHD's loop, over 60 epochs."""

import random
from collections.abc import Callable

import pytest
import torch
from torch.optim import lr_scheduler

from components.train.plateau import Plateau
from components.train.schedule import ScheduleOptions, learning_rate
from shared.networks.checkpoint import save_tensors
from shared.networks.weight_file import load_tensors

BASE, EPOCHS, EPOCHS_DECAY, DECAY_EVERY = 2e-4, 25, 35, 7


def ours(policy: str, epochs: int = EPOCHS, epochs_decay: int = EPOCHS_DECAY) -> list[float]:
    return rates_over(policy, BASE, epochs, epochs_decay, DECAY_EVERY)


def rates_over(
    policy: str, base: float, epochs: int, epochs_decay: int, decay_every: int
) -> list[float]:
    """Learning rates of all epochs; values unchecked, as no command line gives them."""
    values = dict(epochs=epochs, epochs_decay=epochs_decay, lr_decay_epochs=decay_every)
    options = ScheduleOptions.model_construct(lr_policy=policy, learning_rate=base, **values)
    return [learning_rate(options, epoch) for epoch in range(1, options.total_epochs + 1)]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)


def torchs(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]) -> list[float]:
    """The rate in each of 60 epochs, of a scheduler that is stepped at the end of each, as in
    pix2pix."""
    sgd, rates = optimizer(), []
    scheduler = make(sgd)
    for _ in range(60):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return rates


def test_linear_hd_is_the_loop_of_pix2pixhd():
    """niter 25, niter_decay 35: each epoch above 25 ends with a rate lower by a 35th of lr."""
    rate, rates = BASE, []
    for epoch in range(1, 61):
        rates.append(rate)
        if epoch > EPOCHS:
            rate -= BASE / EPOCHS_DECAY
    assert ours("linear_hd") == pytest.approx(rates, rel=1e-9)
    assert rate == pytest.approx(0, abs=1e-15) and ours("linear_hd")[-1] == pytest.approx(BASE / 35)


def test_linear_hd_is_flat_then_falls_to_one_part_in_epochs_decay():
    rates = rates_over("linear_hd", 1.0, 3, 4, 1)
    assert rates == pytest.approx([1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_linear_is_the_lambda_of_pix2pix():
    """LambdaLR counts from 0, epoch_count is 1."""
    rule = lambda epoch: 1.0 - max(0, epoch + 1 - EPOCHS) / (EPOCHS_DECAY + 1)  # noqa: E731
    expected = torchs(lambda sgd: lr_scheduler.LambdaLR(sgd, rule))
    assert ours("linear") == pytest.approx(expected, rel=1e-9)
    rates = rates_over("linear", 1.0, 3, 4, 1)
    assert rates == pytest.approx([1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_step_is_torchs():
    expected = torchs(lambda sgd: lr_scheduler.StepLR(sgd, step_size=DECAY_EVERY, gamma=0.1))
    assert ours("step") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("epochs", [25, 60])
def test_cosine_is_torchs_also_where_it_rises_again(epochs):
    expected = torchs(lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, T_max=epochs, eta_min=0))
    assert ours("cosine", epochs, 60 - epochs) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_constant_is_constant():
    assert ours("constant") == [BASE] * 60


@pytest.mark.parametrize("policy", ["linear_hd", "linear", "step", "cosine", "constant"])
def test_every_policy_starts_at_the_full_rate_and_never_reaches_0(policy):
    for epochs, epochs_decay in ((1, 0), (3, 0), (1, 1), (2, 5)):
        if policy != "cosine" or epochs_decay == 0:
            rates = ours(policy, epochs, epochs_decay)
            assert rates[0] == BASE and rates == sorted(rates, reverse=True) and rates[-1] > 0


def test_an_unknown_policy_is_a_programmers_error():
    with pytest.raises(AssertionError, match="unheard_of"):
        ours("unheard_of")


# Plateau.

RANDOM = random.Random(0)
HISTORIES = {
    "never better": [0.0] * 60,  # seven times lower, then the change is too small
    "always better": [0.98**epoch for epoch in range(60)],
    "better by too little": [1 - 0.001 * epoch for epoch in range(60)],
    "better by the threshold": [1.0] + [0.99] * 59,  # not below it: no improvement
    "better in the last epoch of patience": [0.5 ** (epoch // 6) for epoch in range(60)],
    "better one epoch too late": [0.5 ** (epoch // 7) for epoch in range(60)],
    "nan": [1.0] * 3 + [float("nan")] * 20 + [0.5] * 37,
    "noise": [RANDOM.random() + 1 / (1 + epoch) for epoch in range(60)],
}


def rates_of_torch(history: list[float]) -> list[float]:
    sgd, rates = optimizer(), []
    options = dict(mode="min", factor=0.2, threshold=0.01, patience=5)
    scheduler = lr_scheduler.ReduceLROnPlateau(sgd, **options)
    for metric in history:
        rates.append(sgd.param_groups[0]["lr"])
        scheduler.step(metric)
    return rates


def rates_of(plateau: Plateau, history: list[float]) -> list[float]:
    rates = []
    for metric in history:
        rates.append(plateau.learning_rate)
        plateau.step(metric)
    return rates


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_plateau_is_torchs_on_the_same_history(history):
    assert rates_of(Plateau(BASE), history) == rates_of_torch(history)


def test_plateau_histories_tell_their_rules_apart():
    rates = {name: rates_of(Plateau(BASE), history) for name, history in HISTORIES.items()}
    reductions = {name: len(set(of_history)) - 1 for name, of_history in rates.items()}
    # From epoch 7 on every sixth; each of the first seven changes is above 1e-8.
    assert reductions["never better"] == 7 and reductions["always better"] == 0
    assert reductions["better in the last epoch of patience"] == 0
    assert reductions["better one epoch too late"] > 0


@pytest.mark.parametrize("stopped_after", [0, 6, 17, 40])
def test_a_saved_plateau_goes_on_as_if_it_had_never_stopped(tmp_path, stopped_after):
    history = HISTORIES["noise"]
    first, second = Plateau(BASE), Plateau(1.0)
    before = rates_of(first, history[:stopped_after])
    save_tensors(tmp_path / "state.pth", {"plateau": first.state_dict()})
    second.load_state_dict(load_tensors(tmp_path / "state.pth")["plateau"])
    assert before + rates_of(second, history[stopped_after:]) == rates_of_torch(history)

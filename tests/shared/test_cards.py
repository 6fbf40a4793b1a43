"""--cards: the cards of CUDA and CANN that a step and what it starts see."""

import os

import pytest

from components.train.config import TrainConfig
from shared import device_names as cards
from tests.asking import refusal


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": "2,5"})


def test_both_kinds_of_cards_are_named_before_they_are_looked_for():
    cards.take_cards((2, 5))
    names = ("CUDA_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")
    assert [os.environ[name] for name in names] == ["2,5", "2,5"]
    cards.refuse_missing_cards("npu", lambda: 2)
    assert refusal(cards.refuse_missing_cards, "npu", lambda: 1) == (
        "--cards 2 5: torch sees 1 of them: `npu-smi info` lists those of this machine."
    )
    # --device auto, which has found no card.
    assert "torch sees 0 of them" in refusal(cards.refuse_missing_cards, "cpu", lambda: 1)


def test_without_it_the_environment_decides():
    cards.take_cards(())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,5" and cards.OF_NPUS not in os.environ
    cards.refuse_missing_cards("cuda", lambda: 7)


def test_what_contradicts_the_environment_is_refused():
    assert refusal(cards.take_cards, (0,)) == (
        "--cards 0: CUDA_VISIBLE_DEVICES is 2,5 here: leave out one of them."
    )


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(cards=(3, 1)), "--cards (3, 1): should be different numbers, the smallest first."),
        (dict(cards=(1, 1)), "--cards (1, 1): should be different numbers, the smallest first."),
        (dict(cards=(-1,)), "--cards -1: should be greater than or equal to 0."),
        (
            dict(cards=(0,), device="cpu"),
            "--cards names GPUs or NPUs but --device is cpu: leave one of them out.",
        ),
        (dict(cards=(0,), devices=2), "--devices is 2 but --cards names 1: name as many."),
    ],
)
def test_what_means_nothing_is_refused(options, sentence):
    assert refusal(TrainConfig.check, options) == sentence

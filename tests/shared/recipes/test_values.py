"""--set: the type of the field decides; a list may be written as people write lists."""

import pytest

from pipeline import CONFIGS
from shared.pipeline.recipes import read_recipe
from tests.asking import refusal


def given(*overrides: str):
    """The value of the field that the first of these sets."""
    step, _, field = overrides[0].partition("=")[0].partition(".")
    return read_recipe("demo", CONFIGS, overrides)[step][field]


@pytest.mark.parametrize(
    "words",
    ["1,4", "1 4", "[1,4]", "[1, 4]", "1, 4", "(1,4)", "'1','4'", '["1", "4"]', " 1 ,  4,"],
)
def test_a_list_as_people_write_it(words):
    assert given(f"benchmark.batch_sizes={words}") == [1, 4]
    unquoted = words.split()  # as a shell gives it where nobody quotes
    if len(unquoted) > 1 and not words.startswith(" "):
        assert given(f"benchmark.batch_sizes={unquoted[0]}", *unquoted[1:]) == [1, 4]
    assert given("benchmark.runtimes=torch,onnxruntime") == ["torch", "onnxruntime"]
    assert given("benchmark.batch_sizes=2") == [2]


@pytest.mark.parametrize(
    "text",
    ["", "1,4", "[1]", "no", "true", "007", "1e3", "2024-13-45", "null", "~", "a: b", "#x", "'q'"]
    + ["%h/vgg: 19.pth", "a=b", " x ", "{}", "!!int 3", "&a", "*b", "\t"],
)
def test_a_text_stays_as_it_is(text):
    assert given(f"train_global.start_from={text}") == text


@pytest.mark.parametrize("true, false", [("yes", "no"), ("on", "off"), ("TRUE", "False")])
def test_a_switch(true, false):
    assert given(f"train_global.flip={true}") is True
    assert given(f"train_global.flip={false}") is False


def test_numbers():
    assert given("train_global.learning_rate=1e-3") == 1e-3
    assert given("train_global.epochs=010") == 10
    assert given("export.om_precision_mode=") == ""
    assert given("train_global.output_nc=1") == 1, "one of two numbers"


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["benchmark.batch_sizes=[1,"], "--set benchmark.batch_sizes=[1,: should be a list such"),
        (["benchmark.batch_sizes=1,x"], "--set benchmark.batch_sizes=1,x: should be a valid int"),
        (["benchmark.batch_sizes="], "--set benchmark.batch_sizes=: "),
        (["train_global.output_nc=2"], "--set train_global.output_nc=2: should be 1 or 3"),
        (["train_global.epochs="], "--set train_global.epochs=: should be a valid integer"),
        (["train_global.epochs=1,4"], "--set train_global.epochs=1,4: should be a valid integer."),
        (["train_global.flip=maybe"], "--set train_global.flip=maybe: should be a valid boolean"),
        (["train_global.epochs=1", "4"], "--set '4' is not STEP.FIELD=VALUE"),
        (["benchmark.batch_sizes=1", "epochs=4"], "--set 'epochs=4' is not STEP.FIELD=VALUE"),
        (["prepare.test-fraction=0"], "--set prepare.test-fraction is unknown in recipe demo: did"),
        (
            ["train_global.best_by=fid"],
            "--set train_global.best_by=fid needs a network: --set "
            "train_global.fid_network=inception, or choose another metric.",
        ),
    ],
)
def test_what_a_field_does_not_take_is_refused_in_the_words_of_set(overrides, said):
    assert refusal(read_recipe, "demo", CONFIGS, tuple(overrides)).startswith(said)

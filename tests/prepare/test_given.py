"""What a person gives a pipeline on a server, over the recipe's numbers."""

import inspect
import json

import pytest

from components.prepare.component import fingerprint
from components.prepare.given import lay_over
from pipeline import CONFIGS
from shared.pipeline.recipes import read_recipe
from shared.recipes.whole import COMMON
from tests.asking import refusal
from tests.places import CHECKED_BY


def given(recipe: str = "demo", overrides: tuple[str, ...] = (), **parameters) -> dict[str, dict]:
    """By step, without those to which nothing is given; numbers come as KFP hands them over."""
    numbers = json.loads(json.dumps(read_recipe(recipe, CONFIGS, overrides)), parse_int=float)
    over = lay_over(numbers, parameters, CHECKED_BY)
    assert list(over) == list(numbers)
    return {step: values for step, values in over.items() if values}


def refused(*arguments, **parameters) -> str:
    return refusal(given, *arguments, **parameters)


# What lies over.


def test_nothing_given_is_the_recipe():
    assert given() == given(epochs=None, train_global=None) == given(benchmark={}) == {}


def test_a_common_number_is_of_its_step_and_others_stay():
    assert given(epochs=2) == {"train_global": {"epochs": 2}}
    assert given(epochs_decay_local=0, batch_size_local=3) == {
        "train_local": {"epochs_decay": 0, "batch_size": 3}
    }
    assert given(size="64x128", train_size="32x64") == {
        "prepare": {"size": "64x128"},
        "train_global": {"size": "32x64"},
    }


def test_the_device_is_of_all_steps_that_the_recipe_has_on_the_same():
    every = ("train_global", "cluster", "train_local", "benchmark")
    assert given(device="npu") == {step: {"device": "npu"} for step in every}
    assert given("facades", device="cpu") == {
        step: {"device": "cpu"} for step in ("train_global", "benchmark")
    }
    apart = ("benchmark.device=cpu",)
    assert given(overrides=apart, device="npu") == {step: {"device": "npu"} for step in every[:3]}


def test_auto_is_never_the_cpu_of_a_pod_that_asks_for_a_card():
    with_card = ("train_global.device=cuda", "cluster.device=cpu")
    assert given(overrides=with_card, device="auto", train_global={"device": "auto"}) == {}
    assert given(overrides=with_card, device="cpu") == {"train_global": {"device": "cpu"}}
    assert given(overrides=with_card, cluster={"device": "auto"}) == {"cluster": {"device": "auto"}}


def test_a_number_that_is_edited_back_is_the_recipes():
    assert given(epochs=8, size="128x256", device="auto", train_global={"ngf": 16}) == {}
    assert given(epochs="8", train_global={"learning_rate": "0.0005"}) == {}
    assert given(overrides=("train_global.epochs=2",), epochs=2) == {}
    assert given(overrides=("train_global.epochs=2",), epochs=8) == {"train_global": {"epochs": 8}}


@pytest.mark.parametrize(
    "field, value, meant",
    [
        ("ndf", 8.0, 8),
        ("ndf", "8", 8),
        ("learning_rate", 1, 1.0),
        ("learning_rate", "1e-3", 1e-3),
        ("flip", False, False),
        ("flip", "false", False),
        ("size", "48x96", "48x96"),
        ("vgg_weights", "007", "007"),
    ],
)
def test_a_value_is_read_by_the_type_of_its_field(field, value, meant):
    assert given(train_global={field: value}) == {"train_global": {field: meant}}
    assert type(given(train_global={field: value})["train_global"][field]) is type(meant)


@pytest.mark.parametrize("value", [[2, 3], [2.0, "3"], "2,3", "[2, 3]", "2 3"])
def test_a_list_may_be_written_as_people_do(value):
    assert given(benchmark={"batch_sizes": value}) == {"benchmark": {"batch_sizes": [2, 3]}}


def test_a_struct_lies_over_what_is_common_to_several_steps():
    over = given(device="npu", benchmark={"device": "cpu"}, cluster={"device": "auto"})
    assert over == {
        "train_global": {"device": "npu"},
        "train_local": {"device": "npu"},
        "benchmark": {"device": "cpu"},
    }


def test_one_number_is_not_said_twice():
    assert given(epochs=3, train_global={"epochs": 3.0}) == {"train_global": {"epochs": 3}}
    assert given(epochs=8, train_global={"epochs": 3}) == {"train_global": {"epochs": 3}}
    sentence = "parameter epochs is 2, and parameter train_global: epochs is {}: give one of them."
    assert refused(epochs=2, train_global={"epochs": 3}) == sentence.format(3)
    assert refused(epochs=2, train_global={"epochs": 8}) == sentence.format(8)


def test_sizes_of_a_model_to_start_from_stay_its_own_unless_given():
    numbers = read_recipe("facades", CONFIGS, init_from="/models/mine")
    assert "ngf" not in numbers["train_global"]
    assert lay_over(numbers, {"epochs": 2}, CHECKED_BY)["train_global"] == {"epochs": 2}
    own = {"train_global": {"ngf": 64}}
    assert lay_over(numbers, own, CHECKED_BY)["train_global"] == {"ngf": 64}


def test_stage_two_makes_photos_of_the_channels_of_stage_one():
    grey = {"output_nc": 1}
    assert given(train_global=grey) == {"train_global": grey, "train_local": grey}


# What is refused.


@pytest.mark.parametrize(
    "parameters, sentence",
    [
        ({"epochs": 2.5}, "parameter epochs 2.5: should be a valid integer"),
        ({"epochs": "many"}, "parameter epochs 'many': should be a valid integer"),
        ({"epochs": 0}, "parameter epochs 0: should be greater than or equal to 1"),
        ({"epochs": True}, "parameter epochs True: should be a valid integer"),
        ({"batch_size": -1}, "parameter batch_size -1: should be greater"),
        ({"size": ""}, "parameter size '': "),
        ({"size": "large"}, "parameter size 'large': "),
        ({"train_size": "7"}, "parameter train_size '7': "),
        ({"device": "tpu"}, "parameter device 'tpu': should be "),
        (
            {"benchmark": {"round": 2}},
            "parameter benchmark: round is unknown: did you mean rounds?",
        ),
        ({"export": {"zzz": 2}}, "parameter export: zzz is unknown: export has no such option."),
        ({"export": {"opset": None}}, "parameter export: opset null: is no value: give one, or"),
        ({"export": {"opset": {"a": 1}}}, "parameter export: opset {'a': 1}: should be one value"),
        ({"export": {"opset": [14]}}, "parameter export: opset [14]: should be one value"),
        ({"benchmark": {"batch_sizes": [[1]]}}, "parameter benchmark: batch_sizes [[1]]: should"),
        ({"cluster": {"weights": "best"}}, "cluster.weights best: train_local starts from the"),
        ({"export": {"weights": "best"}}, "export.weights best, benchmark.weights latest: these"),
    ],
)
def test_a_wrong_one_is_refused_by_its_name(parameters, sentence):
    assert refused(**parameters).startswith(sentence)


def test_fields_that_do_not_fit_together_are_refused_in_the_words_of_the_recipe():
    sentence = refused(train_global={"pool_size": 50, "devices": 2})
    assert sentence.startswith("parameter train_global: devices, parameter train_global: pool_size")
    assert (
        "train_global.pool_size works on one device only" in sentence and "--pool" not in sentence
    )


# The face.


def test_the_face_has_the_common_parameters_and_a_struct_of_every_step():
    names = dict.fromkeys(["raw_data", "config", "workspace", "checked_by"])
    names |= dict.fromkeys([*(common.name for common in COMMON), *CONFIGS])
    assert [*inspect.signature(fingerprint.python_func).parameters] == [*names]
    kinds = {str: "String", int: "Integer"}
    for common in COMMON:
        assert fingerprint.component_spec.inputs[common.name].type == kinds[common.kind]
        assert common.field in CONFIGS[common.steps[0]].model_fields


def test_what_is_given_is_refused_before_raw_data_are_looked_at(capsys):
    with pytest.raises(SystemExit) as end:
        fingerprint.python_func(
            raw_data="/nowhere",
            config=read_recipe("facades", CONFIGS),
            workspace="",
            checked_by=CHECKED_BY,
            **dict.fromkeys(common.name for common in COMMON),
            **dict.fromkeys(CONFIGS, {}) | {"benchmark": {"round": 2}},
        )
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said == (
        "fingerprint refused: parameter benchmark: round is unknown: did you mean rounds?\n"
    )

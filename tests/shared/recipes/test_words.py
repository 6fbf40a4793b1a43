"""Refusals speak the words of whoever asked: flags of a step, --set of a pipeline."""

import json
import shlex
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest

from components.benchmark.config import BenchmarkConfig
from components.prepare.config import PrepareConfig
from components.train.config import TrainConfig
from pipeline import CONFIGS
from shared.command import execute
from shared.errors import InputError
from shared.flags import as_flag
from shared.pipeline.recipes import read_recipe
from shared.recipes.words import in_words_of_recipe, owners_of
from tests.tiny import dataset

EVERY = [(step, name) for step, config in CONFIGS.items() for name in config.model_fields]


def other_value(kind: Any, now: Any) -> tuple[str, Any]:
    """A value that is none of the field's default, as words of a command line and as JSON."""
    if kind is bool:
        return "", not now
    if get_origin(kind) is tuple:
        text, value = other_value(get_args(kind)[0], now[0] if now else None)
        return f"{text} {text}", [value, value]
    for one in get_args(kind) or [kind]:
        if get_origin(kind) is Literal and one == now:
            continue
        if get_origin(kind) is Literal:
            return one, one
        if one in (int, float):
            return ("7", 7) if now != 7 else ("8", 8)
        if get_origin(one) is Literal and (left := [w for w in get_args(one) if w and w != now]):
            return left[0], left[0]
        if one not in (str, int, float, NoneType):
            return other_value(get_args(one)[0], now)
    return "64x128", "64x128"


@pytest.mark.parametrize("step, name", EVERY, ids=".".join)
def test_a_remedy_of_every_flag_is_one_that_set_takes(step, name):
    """The sentence's words given back to --set are the value that the flag had taken."""
    config = CONFIGS[step]
    field = config.model_fields[name]
    text, value = other_value(field.annotation, field.default)
    flag = as_flag(name if value is not False else f"no_{name}")
    sentence = f"{as_flag(name)} is what it is: say {flag} {text}".strip() + ", or do not."
    said = in_words_of_recipe(sentence, owners_of({step: config}), step)
    start, _, remedy = said.partition(": --set ")
    assert start == f"{step}.{name} is what it is" and remedy.endswith(", or do not.")
    (override,) = shlex.split(remedy.removesuffix(", or do not."))
    parsed, problem = None, ""
    try:
        parsed = read_recipe("demo", CONFIGS, (override,))[step][name]
    except InputError as refusal:  # a value of the right type that this field does not take alone
        problem = str(refusal)
    if problem:
        given = str(text).replace(" ", ",") or str(value).lower()
        assert override == f"{step}.{name}={given}" and "unknown" not in problem
    else:
        assert parsed == value or str(parsed) == text


@pytest.mark.parametrize(
    "sentence, said",
    [
        ("--lpips-network a b.onnx is no file: x.", "--set benchmark.lpips_network='a b.onnx' is"),
        ("--fid-network is none: x.", "benchmark.fid_network is none: x."),
        ("--rounds 3 is few: set --rounds 9.", "--set benchmark.rounds=3 is few: --set benchmark."),
        ("see `x --rounds 3` or --rounds.", "see `x --rounds 3` or benchmark.rounds."),
        ("--dataset /x has no photos: y.", "the data set /x has no photos: y."),
        ("prepare it with --device cpu.", "prepare it with --set benchmark.device=cpu."),
        ("--raw-data x is --nothing: y.", "--raw-data x is --nothing: y."),
        ("--batch-sizes 1 4 take 9.", "--set benchmark.batch_sizes=1,4 take 9."),
    ],
)
def test_flags_are_said_as_a_recipe_has_them(sentence, said):
    owners = owners_of({"benchmark": BenchmarkConfig(lpips_network="a b.onnx")})
    assert in_words_of_recipe(sentence, owners, "benchmark").startswith(said)


def test_a_flag_is_that_of_the_step_which_the_sentence_names():
    owners = owners_of({"prepare": PrepareConfig(), "train_global": TrainConfig()})
    for sentence, said in {
        "--size is small.": "train_global.size is small.",
        "prepare it with --size 64x64, or say --size 32x32.": "prepare it with --set "
        "prepare.size=64x64, or --set train_global.size=32x32.",
        "none: prepare with --num-labels 3.": "none: prepare with --set prepare.num_labels=3.",
    }.items():
        assert in_words_of_recipe(sentence, owners, "train_global") == said


def test_a_step_in_a_pipeline_refuses_in_those_words(tmp_path, capsys):
    """Also for options of the step before, which its image does not know but by the data set."""
    dataset(tmp_path / "dataset")
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    manifest["config"] = PrepareConfig().model_dump(mode="json")
    (tmp_path / "dataset" / "manifest.json").write_text(json.dumps(manifest))

    def run(dataset, model, *, config: TrainConfig):
        raise InputError("--size 16x16 is small: prepare it with --instances files, or --crop.")

    with pytest.raises(SystemExit):
        folders = dict(dataset=str(tmp_path / "dataset"), model=str(tmp_path / "model"))
        execute(run, TrainConfig, {"size": "16x16"}, **folders)
    assert capsys.readouterr().err == (
        "train refused: --set train_global.size=16x16 is small: prepare it with "
        "--set prepare.instances=files, or train_global.crop.\n"
    )

"""Which numbers of two stages fit together is known before any step: the same is refused as by the
training that would load stage one's weights, hours later."""

from pathlib import Path

import pytest
import torch

import pipeline
from components.prepare.given import lay_over
from components.train.config import TrainConfig
from components.train.networks.build import architecture_for, build_empty
from components.train.networks.partial import fitting
from components.train.networks.start import check_global_part
from pipeline import CONFIGS
from shared.errors import InputError
from shared.pipeline.recipes import read_recipe
from shared.recipes.whole import refuse_other_stages
from tests import tiny
from tests.asking import refusal, refusal_of_command
from tests.calling import call

ONE = dict(netG="global", ngf=8, n_downsample_global=2, n_blocks_global=1, norm="instance")
ONE |= dict(use_instances=True, instance_features=False, feat_num=3, output_nc=3)
TWO = ONE | dict(netG="local", ngf=4, n_local_enhancers=1, n_blocks_local=1)


def refused_by_the_training(one: dict, two: dict, tmp_path: Path) -> bool:
    """Whether stage one's weights do not fill stage two's global part: by the networks."""
    manifest = tiny.dataset(tmp_path / "dataset")
    states = []
    for values in (one, two):
        config = TrainConfig.model_construct(**{**TrainConfig().model_dump(), **values})
        with torch.device("meta"):
            networks = build_empty(architecture_for(config, False, manifest, None), True)
        states.append(networks["G"].state_dict())
    try:
        check_global_part(states[1].keys() - fitting(states[1], states[0]), tmp_path)
    except InputError:
        return True
    # Statistics of another norm would be left behind without a word.
    return any(one[name] != two[name] for name in ("output_nc", "norm"))


def refused_here(one: dict, two: dict) -> bool:
    try:
        refuse_other_stages({"prepare": {}, "train_global": one, "train_local": two})
    except InputError:
        return True
    return False


@pytest.mark.parametrize(
    ("of_one", "of_two"),
    [
        ({}, {}),
        ({}, {"ngf": 8}),
        ({"ngf": 16}, {}),
        ({"ngf": 16}, {"ngf": 8}),
        ({"ngf": 16}, {"n_local_enhancers": 2}),
        ({}, {"n_local_enhancers": 2}),
        ({"n_downsample_global": 3}, {}),
        ({"n_downsample_global": 3}, {"n_downsample_global": 3}),
        ({"n_blocks_global": 2}, {}),
        ({}, {"n_blocks_global": 2}),
        ({}, {"n_blocks_local": 2}),
        ({"norm": "batch"}, {}),
        ({}, {"norm": "batch"}),
        ({"norm": "batch"}, {"norm": "batch"}),
        ({"use_instances": False}, {}),
        ({"use_instances": False}, {"use_instances": False}),
        ({"output_nc": 1}, {}),
        ({"output_nc": 1}, {"output_nc": 1}),
        ({"netG": "resnet_9blocks"}, {}),
        ({}, {"instance_features": True}),
    ],
)
def test_the_same_is_refused_as_by_the_networks(of_one, of_two, tmp_path):
    one, two = ONE | of_one, TWO | of_two
    assert refused_here(one, two) == refused_by_the_training(one, two, tmp_path)


WRONG = [
    ("train_local.ngf=16", "train_local.ngf 16 around 1 enhancers needs a train_global.ngf of 32"),
    ("train_global.ngf=64", "needs a train_global.ngf of 16, which is 64: say --set train_global"),
    ("train_global.n_blocks_global=7", "--set train_local.n_blocks_global=7."),
    ("train_local.norm=batch", "say --set train_local.norm=instance."),
    ("train_local.use_instances=false", "say --set train_local.use_instances=true."),
    ("train_global.instance_features=false", "but the recipe clusters features: say --set train_"),
    ("train_global.netG=resnet_9blocks", "train_global.netG resnet_9blocks is no stage one"),
    ("train_local.netG=global", "train_local.netG global has no place for stage one"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_a_recipe_says_so_in_every_verb(given, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on_server = ("--host", "http://127.0.0.1:9", "--raw-data", "s3://bucket/raw")
    for words in (("compile",), ("submit",), ("submit", *on_server), ("preflight",)):
        sentence = refusal_of_command(capsys, pipeline.main, *words, "--set", given)
        assert said in sentence
    assert not list(tmp_path.iterdir())


def test_the_command_says_it_before_it_loads_torch(tmp_path):
    done = call("compile", "--set", "train_local.ngf=16", cwd=tmp_path)
    assert done.returncode == 2 and "needs a train_global.ngf of 32" in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("pipeline.py refused: train_local.ngf 16 ")


def test_one_stage_with_features_has_no_styles_without_a_cluster_step():
    wrong = ("train_global.instance_features=true",)
    assert "no cluster step" in refusal(read_recipe, "label2city_512p", CONFIGS, wrong)


@pytest.mark.parametrize("recipe", ["demo", "label2city_1024p", "label2city_1024p_feat"])
def test_what_a_person_gives_a_run_on_a_server_is_held_to_it(recipe):
    """By the first task of the graph."""
    numbers = read_recipe(recipe, CONFIGS)
    checked_by = {step: f"{CONFIGS[step].__module__}.{CONFIGS[step].__name__}" for step in numbers}
    sentence = refusal(lay_over, numbers, {"train_global": {"ngf": 4}}, checked_by)
    assert "needs a train_global.ngf of " in sentence
    both = {"train_global": {"ngf": 4}, "train_local": {"ngf": 2}}
    assert lay_over(numbers, both, checked_by)["train_local"] == {"ngf": 2}


def test_what_a_model_before_decides_is_left_open(tmp_path):
    model = str(tmp_path / "model")
    recipe = read_recipe("demo", CONFIGS, ("train_local.ngf=16",), model)
    assert "ngf" not in recipe["train_global"] and recipe["train_local"]["ngf"] == 16

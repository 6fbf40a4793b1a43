"""`--init-from` of the pipeline: what of it reaches the steps, and what is refused before them."""

import json

import pytest

from components.export.__main__ import main as export
from components.train.checks import preflight as foresee_training
from components.train.config import TrainConfig
from pipeline import CONFIGS
from shared.contracts.forecast import PreparedData
from shared.contracts.model import ModelCard
from shared.pipeline.promotion import find_model, tags_of_start
from shared.pipeline.recipes import read_recipe
from tests.asking import refusal
from tests.calling import call
from tests.foreign import nvidia_generator
from tests.places import NOWHERE
from tests.tiny import dataset

RECIPE = """\
prepare: {size: 32x64}
train_global: {ngf: 16, ndf: 4, num_D: 1, epochs: 1, epochs_decay: 0, workers: 0}
export: {}
benchmark: {batch_sizes: 1, rounds: 2, warmup: 1, gate_seconds: 0, registered_model: ''}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a recipe, a bare model of NVIDIA, and one that is the user's current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(RECIPE)
    nvidia_generator(tmp_path / "zoo" / "bare", channels=36)
    return tmp_path


def test_sizes_that_set_does_not_say_are_left_to_the_model(home):
    values = read_recipe("own.yaml", CONFIGS, ("train_global.ndf=8",), "/zoo")["train_global"]
    plain = read_recipe("own.yaml", CONFIGS)["train_global"]
    assert values["start_from"] == "/zoo" and values["ndf"] == 8
    lacking = plain.keys() - values.keys()
    assert {"ngf", "n_blocks_global", "netG", "norm", "num_D"} <= lacking
    assert lacking <= CONFIGS["train_global"].OF_MODEL
    rest = plain.keys() - lacking - {"start_from", "ndf"}
    assert {name: values[name] for name in rest} == {name: plain[name] for name in rest}

    demo = read_recipe("demo", CONFIGS, (), "/zoo")
    assert (demo["train_local"]["start_from"], demo["train_local"]["netG"]) == ("", "local")
    assert "ngf" not in demo["train_local"]
    assert read_recipe("facades", CONFIGS, (), "/zoo")["train_global"]["netG"] == "unet_256"


def test_a_folder_that_holds_no_model_is_refused(home):
    (home / "numbered").mkdir()
    (home / "numbered" / "200_net_G.pth").touch()
    for given, said in {
        "none": "--init-from none is no folder: give the folder of a trained model",
        "own.yaml": "--init-from own.yaml is a file: give the folder of a trained model",
        "numbered": "--init-from numbered holds no latest_net_G.pth: copy 200_net_*.pth under",
        "zoo": "--init-from zoo holds no latest_net_G.pth: did you mean zoo/bare?",
    }.items():
        assert refusal(find_model, given).startswith(said)
    assert find_model("zoo/bare") == str(home / "zoo" / "bare")
    assert find_model("/in/the/pods", host="https://kfp") == "/in/the/pods"
    overrides = ("train_global.start_from=x",)
    said = refusal(read_recipe, "own.yaml", CONFIGS, overrides, "zoo/bare")
    assert said.startswith("--init-from zoo/bare and train_global.start_from=x were both given")


def test_the_preflight_knows_what_does_not_fit(home):
    words = ["preflight", "--recipe", "own.yaml", "--init-from", "zoo/bare", "--set"]
    done = call(*words, "train_global.ngf=16", cwd=home)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"train_global: --init-from {home}/zoo/bare has networks with ngf 8, but 16 is asked for"
    )


def test_the_preflight_knows_what_will_be_new(home):
    prepared = PreparedData(dataset(home / "dataset").model_copy(update={"num_labels": 40}), False)
    config = TrainConfig.check({"start_from": "zoo/bare", "ndf": 4, "lambda_vgg": 0})
    forecast = foresee_training(prepared, None, None, NOWHERE, config)
    assert forecast.refusals == [] and forecast.gives.architecture.ngf == 8
    assert "starts from zoo/bare, but for its first layer (num_labels 35 against 40)" in (
        forecast.found
    )


@pytest.mark.slow
def test_a_bare_checkpoint_of_nvidia_is_fine_tuned_and_painted_with(home, scenes):
    words = ["submit", "--recipe", "own.yaml", "--raw-data", scenes, "--init-from", "zoo/bare"]
    done = call(*words, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "G                    20 of 20" in done.stdout

    # What the run keeps of it.
    (run,) = home.glob("runs/own-*")
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["train_global"]["start_from"] == f"{home}/zoo/bare"
    assert record["tags"] == tags_of_start(str(home / "zoo" / "bare"))
    assert ModelCard.read(run / "train-global" / "model").architecture.ngf == 8

    # The same again is taken over; other files under the same name are not.
    (home / "zoo" / "bare" / "latest_net_G.pth").unlink()
    (home / "zoo" / "bare").rmdir()
    nvidia_generator(home / "zoo" / "bare", channels=36, n_blocks=1)
    done = call(*words, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prepare: taken over from own-" in done.stdout
    assert "train_global: taken over" not in done.stdout

    # It paints, and goes on without the recipe's file.
    export(
        ["synthesise", "--model", str(run / "train-global" / "model")]
        + ["--dataset", str(run / "prepare" / "dataset"), "--out", str(home / "pictures")]
    )
    assert list((home / "pictures").rglob("*.png"))
    (home / "own.yaml").unlink()
    done = call("submit", "--continue", run.name, cwd=home)
    assert done.returncode == 0 and "is finished already" in done.stdout

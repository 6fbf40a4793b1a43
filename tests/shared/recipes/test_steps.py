"""`--recipe` of a step that runs alone: its section lies under the flags."""

import pytest

from components.cluster.__main__ import main as cluster
from components.train.__main__ import main as train
from tests.asking import refusal_of_command

TEXT = """\
train_global:
  ngf: 8
  flip: true
  epochs: 3
train_local:
  netG: local
  seed: 5
benchmark:
  batch_sizes: 1 4
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(TEXT)
    return "own.yaml"


@pytest.fixture
def trained(monkeypatch):
    """The configs that trainings were asked for."""
    configs = []
    module = "components.train.__main__"
    monkeypatch.setattr(f"{module}.run_tracked", lambda run, config, **_: configs.append(config))
    return configs


FOLDERS = ["--dataset", "d", "--model", "m"]


def test_flags_win_over_the_section_and_that_over_the_defaults(recipe, trained):
    flags = ["--recipe", recipe, "--epochs=2", "--no-flip", "--nef", "4"]
    train([*FOLDERS, *flags])
    (config,) = trained
    found = (config.ngf, config.epochs, config.flip, config.nef, config.ndf)
    assert found == (8, 2, False, 4, 64)
    assert config.model_fields_set == {"ngf", "epochs", "flip", "nef"}


def test_a_section_is_chosen_where_there_are_two(recipe, trained, capsys):
    train([*FOLDERS, "--recipe", recipe, "--recipe-section", "train_local"])
    train([*FOLDERS, "--recipe", "facades"])
    assert [config.netG for config in trained] == ["local", "unet_256"]
    assert (trained[0].seed, trained[1].crop) == (5, "256x256")
    assert capsys.readouterr().out.splitlines() == [
        "train: numbers of recipe own.yaml, train_local",
        "train: numbers of recipe facades, train_global",
    ]


@pytest.mark.parametrize(
    "old, new, flags, said",
    [
        ("ngf: 8", "nfg: 8", [], "--recipe own.yaml, line 2: train_global.nfg is unknown: did you"),
        ("ngf: 8", "ngf: 0", [], "--recipe own.yaml, line 2: train_global.ngf '0': should be gre"),
        ("epochs: 3", "size: 4x4", [], "--recipe own.yaml, line 4: train_global.size '4x4': both"),
        ("", "", ["--ngf", "0"], "--ngf 0: should be greater than or equal to 1."),
        ("", "", ["--recipe-section", "prepare"], "--recipe-section prepare is not of this step"),
        ("", "", ["--recipe", "owm.yaml"], "--recipe owm.yaml is no file: did you mean own.yaml?"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(recipe, tmp_path, capsys, old, new, flags, said):
    (tmp_path / recipe).write_text(TEXT.replace(old, new))
    words = [*FOLDERS, "--recipe", recipe, *flags]
    assert refusal_of_command(capsys, train, *words).startswith(said)


def test_a_step_without_a_section_is_told_so(recipe, capsys):
    words = ["--dataset", "d", "--model", "m", "--clusters", "c", "--recipe", recipe]
    said = "--recipe own.yaml has no section cluster, but train_global, train_local, benchmark"
    assert refusal_of_command(capsys, cluster, *words).startswith(said)
    words = [*words[:-2], "--recipe-section", "cluster"]
    assert refusal_of_command(capsys, cluster, *words).startswith("--recipe-section is of a recipe")

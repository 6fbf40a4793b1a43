"""The graph, and what pipeline.py says before any work starts."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pipeline
from pipeline import CONFIGS
from shared.command import command_line
from shared.errors import InputError
from shared.flags import as_words
from shared.pipeline import promotion
from shared.pipeline.nights import NightlyOptions
from shared.pipeline.recipes import read_recipe
from shared.pipeline.runs import begin
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.submitting import SubmitOptions
from tests.asking import refusal, refusal_of_command
from tests.calling import call, command, environment
from tests.kfp_cache import recipe_in
from tests.places import ROOT


def test_compile_is_deterministic_and_is_a_kfp_pipeline(tmp_path):
    files = []
    for seed in ("1", "2"):
        file = tmp_path / f"{seed}.yaml"
        seeded = environment() | {"PYTHONHASHSEED": seed}
        compiling = command("compile", "--output", file)
        subprocess.run(compiling, env=seeded, check=True, cwd=tmp_path)
        files.append(file.read_bytes())
    assert files[0] == files[1]
    spec = next(yaml.safe_load_all(files[0]))
    tasks = spec["root"]["dag"]["tasks"]
    steps = {"fingerprint", *CONFIGS}
    assert set(tasks) == {step.replace("_", "-") for step in steps}, "as Kubernetes allows"
    assert {task["taskInfo"]["name"] for task in tasks.values()} == steps
    kept = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert set(tasks) - kept == {"fingerprint"}


@pytest.mark.parametrize(
    "recipe, tasks",
    [
        ("label2city_512p", {"prepare", "train-global", "export", "benchmark"}),
        ("label2city_512p_feat", {"prepare", "train-global", "cluster", "export", "benchmark"}),
        ("label2city_1024p", {"prepare", "train-global", "train-local", "export", "benchmark"}),
        (
            "label2city_1024p_feat",
            {"prepare", "train-global", "cluster", "train-local", "export", "benchmark"},
        ),
    ],
)
def test_a_recipe_decides_the_shape_of_the_graph(recipe, tasks, tmp_path):
    pipeline.compile_(recipe, tmp_path / "p.yaml", ("prepare.max_images=7",))
    spec = yaml.safe_load((tmp_path / "p.yaml").read_text())
    root, numbers = spec["root"], recipe_in(spec)
    assert set(root["dag"]["tasks"]) == {"fingerprint", *tasks}
    assert numbers["prepare"]["max_images"] == 7
    assert {step.replace("_", "-") for step in numbers} == tasks
    for step in numbers:
        assert set(numbers[step]) == set(CONFIGS[step].model_fields)
    uses_features = "clusters" in root["dag"]["tasks"]["export"]["inputs"]["artifacts"]
    assert uses_features == ("cluster" in tasks)


@pytest.mark.parametrize(
    "output, sentence",
    [
        ("there/p.yaml", ""),
        ("file/p.yaml", "--output file/p.yaml cannot be written (file is a file)"),
        ("folder.yaml", "--output folder.yaml cannot be written (it is a folder): give a place"),
        ("/proc/p.yaml", "--output /proc/p.yaml cannot be written (No such file or directory): "),
    ],
)
def test_compile_writes_the_whole_file_or_says_why_not(output, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.yaml").mkdir()
    before = sorted(tmp_path.rglob("*"))
    if sentence:
        assert refusal(pipeline.compile_, output=Path(output)).startswith(sentence)
        assert sorted(tmp_path.rglob("*")) == before
    else:
        pipeline.compile_(output=Path(output))
        assert (tmp_path / output).read_text().startswith("# Recipe demo, by `python pipeline.py")


def test_compile_needs_no_home_and_no_folder_of_its_own(tmp_path):
    compiling = command("compile", "--output", tmp_path / "p.yaml")
    homeless = environment() | {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}
    done = subprocess.run(compiling, env=homeless, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f"wrote {tmp_path / 'p.yaml'}\n", done.stderr


OWN = "prepare: {}\ntrain_global:\n  ngf: 8\nexport: {}\nbenchmark: {}\n"


def test_a_recipe_of_ones_own_gives_its_name_to_the_pipeline_and_stays_where_it_is(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My_cats.yaml").write_text(OWN)
    pipeline.main(["compile", "--recipe", "My_cats.yaml"])
    spec = next(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))
    assert spec["pipelineInfo"]["name"] == "my-cats"
    assert set(spec["root"]["dag"]["tasks"]) == {
        *("fingerprint", "prepare", "train-global", "export", "benchmark")
    }

    # A night, and what starts it, may be in another folder.
    options = ScheduleOptions.check({"recipe": "My_cats.yaml", "cron": "@daily"})
    assert as_words(options, NightlyOptions) == [f"--recipe={tmp_path}/My_cats.yaml"]
    assert (options.recipe_name, options.full_name) == ("My_cats", "pix2pixhd-My-cats")

    # What an interrupted run needs, it has.
    run = begin("My_cats", read_recipe("My_cats.yaml", CONFIGS), "/gone", {}, {}, tmp_path / "runs")
    for step in run.record.steps:
        run.note_step(step, state="finished")
    (tmp_path / "My_cats.yaml").unlink()
    done = call("preflight", "--continue", run.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--recipe My_cats.yaml is no file" in refusal(pipeline.compile_, "My_cats.yaml")


def test_verbs_of_the_registry_take_a_file_for_its_name(monkeypatch):
    asked = []

    def versions(name: str, _: Path) -> None:
        asked.append(name)
        raise InputError("there are none.")

    monkeypatch.setattr(promotion, "_versions", versions)
    for verb in (promotion.best, promotion.promote, promotion.rollback):
        assert refusal(verb, "none/my_cats.yaml") == "there are none."
    assert asked == ["my_cats"] * 3


def test_set_may_be_repeated_or_take_several():
    given = []

    def submit(config: SubmitOptions) -> None:
        """A run."""
        given.append(config)

    both = "--set a.b=1 --runs x --set c.d=2 e.f=-3 --tag k=v --tag=l=w".split()
    for flags in (both, []):
        command_line("python pipeline.py", None, {"submit": submit}, ["submit", *flags])
    config, of_nothing = given
    assert config.overrides == ("a.b=1", "c.d=2", "e.f=-3")
    assert (config.tags, config.runs) == (("k=v", "l=w"), Path("x"))
    assert of_nothing.overrides == ()


def test_flags_that_are_called_otherwise_than_their_fields_are_not_lost():
    given = []

    def night(config: NightlyOptions) -> None:
        """A night."""
        given.append(config)

    flags = "--set a.b=1 c.d=2 --from champion --timeout-min 5".split()
    command_line("python pipeline.py", None, {"nightly": night}, ["nightly", *flags])
    (config,) = given
    assert (config.overrides, config.start) == (("a.b=1", "c.d=2"), "champion")
    assert (config.timeout_min, config.recipe) == (5, "demo")


def test_all_repeated_overrides_are_used(tmp_path):
    output = tmp_path / "p.yaml"
    overrides = "--set prepare.max_images=7 --set train_global.ngf=4 train_global.seed=5".split()
    overrides += ["--set", "train_local.ngf=2"]
    pipeline.main(["compile", *overrides, "--output", str(output)])
    numbers = recipe_in(yaml.safe_load(output.read_text()))
    assert numbers["prepare"]["max_images"] == 7
    train = numbers["train_global"]
    assert (train["ngf"], train["seed"]) == (4, 5)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["submit", "--recipe", "nope"],
            "--recipe 'nope' is unknown: choose one of demo, facades, facades_resnet9",
        ),
        (
            ["submit", "--set", "train_global.epoch=2"],
            "--set train_global.epoch is unknown in recipe demo: did you mean train_global.epochs?",
        ),
        (["submit", "--set", "epochs=2"], "--set 'epochs=2' is not STEP.FIELD=VALUE"),
        (
            ["submit", "--set", "train_global.epochs=many"],
            "--set train_global.epochs=many: should be",
        ),
        (["submit", "--host", "http://127.0.0.1:9"], "--host needs --raw-data"),
        (["submit", "--raw-data", ""], "--raw-data '': should be a folder, archive or URL of"),
        (["preflight", "--raw-data", " "], "--raw-data ' ': should be a folder, archive or URL"),
        (["nightly", "--raw-data", ""], "--raw-data '': should be a folder, archive or URL of"),
        (["schedule", "--cron", "@daily", "--raw-data", ""], "--raw-data '': should be a folder"),
        (["nightly", "--recipe", "nope"], "--recipe 'nope' is unknown"),
        (["nightly", "--timeout-min", "-1"], "--timeout-min -1.0: should be greater than or equal"),
        (["compile", "--output", "graph.json"], "--output graph.json does not end in .yaml"),
        (["submit", "--tag", "nightly"], "--tag 'nightly' is not KEY=VALUE"),
        ([], "no command was given: choose one of compile, preflight, submit"),
        (["submitt"], "'submitt' is no command: did you mean submit?"),
        (["submit", "--recipes", "demo"], "--recipes is unknown: did you mean --recipe?"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_before_work_starts(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal_of_command(capsys, pipeline.main, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["submitt"], "pipeline.py refused: 'submitt' is no command: did you mean submit?"),
        (["submit", "--raw-data", "nowhere"], "/nowhere is no folder: give the one that holds"),
        (
            ["submit", "--recipe", "label2city_512p"],
            "train_global: --set train_global.vgg_weights=auto needs vgg19-dcbb9e9d.pth (575 MB), "
            "but /dev/null/torch/hub/checkpoints cannot take it (Not a directory): name another",
        ),
    ],
)
def test_a_user_is_told_so_by_exit_code_and_one_line(arguments, sentence, tmp_path):
    result = call(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert sentence in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


HELP = """
import contextlib, sys
import pipeline
pipeline.read_recipe("demo", pipeline.CONFIGS)
for words in ([], ["compile"], ["preflight"], ["submit"], ["nightly"]):
    with contextlib.suppress(SystemExit):
        pipeline.main([*words, "--help"])
    heavy = {"torch", "onnxruntime", "mlflow", "kfp", "kubernetes", "sklearn", "scipy", "onnx"}
    print("loaded after help:", heavy & set(sys.modules) or "nothing")
"""


def test_neither_the_import_nor_any_help_loads_what_takes_long():
    command = [sys.executable, "-c", HELP]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for shown in ("Run a pipeline once", "--output PATH", "--raw-data PATH", "--host STR"):
        assert shown in out
    assert out.count("loaded after help: nothing\n") == out.count("loaded after help") == 5
    assert "--timeout-min FLOAT" in out
    loaded = [line for line in out.splitlines() if line.startswith("loaded ")]
    assert len(loaded) == 5 and all(line.endswith(" nothing") for line in loaded), loaded

"""The graph on a KFP API server, of which there is a stand-in here."""

import re
import shutil

import pytest
from kfp import dsl

import pipeline
import shared.code_version
from components.prepare.given import lay_over
from pipeline import CONFIGS
from shared.pipeline.recipes import read_recipe
from shared.pipeline.reuse import Reuse
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.server import submitting as server
from shared.pipeline.submitting import SubmitOptions
from tests.asking import refusal, refusal_of_command
from tests.kfp_cache import recipe_in
from tests.places import ROOT

RAW_DATA = "s3://bucket/raw"
IMAGES = "registry.example/pix2pixhd:1a2b3c-cuda"
TASKS = {step.replace("_", "-") for step in CONFIGS}
CREATE = "RunService_CreateRun"


@pytest.fixture
def submit(kfp_server):
    """Submits the demo recipe; returns the state of every task, SUCCEEDED or CACHED."""

    def submit(*overrides: str, versions: str = "1", reuse: Reuse = "on") -> dict[str, str]:
        # What `fingerprint` finds where the pods are, per step.
        found = dict(zip(CONFIGS, versions.ljust(len(CONFIGS), versions[-1]), strict=True))
        kfp_server.cache.outputs = {("fingerprint", step): found[step] for step in found}
        config = read_recipe("demo", CONFIGS, overrides)
        graph = pipeline.build("demo", config)
        server.submit(asked(kfp_server.host, reuse=reuse), "demo", graph, {})
        return list(kfp_server.tasks.values())[-1]

    return submit


def ran(states: dict[str, str]) -> set[str]:
    return {name for name, state in states.items() if state == "SUCCEEDED"}


def asked(host: str, raw_data: str = RAW_DATA, **more) -> SubmitOptions:
    return SubmitOptions(**{"host": host, "raw_data": raw_data, "images": IMAGES} | more)


# What is created.


def test_a_run_has_our_name_experiment_tags_and_numbers(kfp_server, capsys):
    changes = dict(overrides=("benchmark.batch_sizes=[3]",), tags=("team=vision",))
    pipeline.submit(asked(kfp_server.host, **changes))
    (experiment,) = kfp_server.experiments.values()
    (run,) = kfp_server.runs.values()
    assert experiment["display_name"] == "demo"
    assert run["experiment_id"] == experiment["experiment_id"]
    assert re.fullmatch(r"demo-\d{8}-\d{6}", run["display_name"])
    assert re.fullmatch(r"Recipe demo\. team=vision Submission \w{12}\.", run["description"])
    given = run["runtime_config"]["parameters"]
    assert (given.pop("raw_data"), given.pop("epochs"), given.pop("size")) == (
        *(RAW_DATA, 8, "128x256"),
    )
    assert {step: given[step] for step in CONFIGS} == dict.fromkeys(CONFIGS, {})
    assert recipe_in(kfp_server.spec_of(run))["benchmark"]["batch_sizes"] == [3]
    out = capsys.readouterr().out
    assert f"submitted {run['display_name']} to {kfp_server.host}" in out
    assert f"{kfp_server.host}/#/runs/details/{run['run_id']}" in out

    changes = dict(recipe="facades", overrides=("train_global.epochs=1",))
    pipeline.submit(asked(kfp_server.host, **changes))
    pipeline.submit(asked(kfp_server.host))
    names = [known["display_name"] for known in kfp_server.experiments.values()]
    assert names == ["demo", "facades"]


def test_namespace_and_service_account_are_those_of_the_cluster_file(kfp_server, tmp_path):
    """Of runs and of schedules; --namespace lies over it."""
    file = tmp_path / "c.yaml"
    file.write_text("{namespace: team, service_account: trainer, mlflow_uri: 'http://mlflow:5000'}")
    pipeline.submit(asked(kfp_server.host, cluster=file))
    (run,) = kfp_server.runs.values()
    (experiment,) = kfp_server.experiments.values()
    (uploaded,) = kfp_server.pipelines.values()
    assert (run["service_account"], experiment["namespace"]) == ("trainer", "team")
    assert uploaded["namespace"] == "team"

    nights = dict(host=kfp_server.host, raw_data=RAW_DATA, images=IMAGES, cluster=file)
    pipeline.schedule(ScheduleOptions.check(nights | {"cron": "@daily"}))
    (night,) = kfp_server.recurring_runs.values()
    assert night["service_account"] == "trainer"
    assert night["experiment_id"] == experiment["experiment_id"]

    pipeline.submit(asked(kfp_server.host, cluster=file, namespace="other"))
    namespaces = [one["namespace"] for one in kfp_server.experiments.values()]
    assert namespaces == ["team", "other"]
    pipeline.submit(asked(kfp_server.host, experiment="plain"))
    assert "service_account" not in [*kfp_server.runs.values()][-1]


# KFP's cache.


def test_the_same_again_runs_nothing_but_the_fingerprint(submit):
    assert ran(submit()) == {"fingerprint", *TASKS}
    assert ran(submit()) == {"fingerprint"}


def test_only_what_a_changed_number_decides_runs_again(submit):
    submit()
    assert ran(submit("benchmark.batch_sizes=[7]")) == {"fingerprint", "benchmark"}
    assert ran(submit("prepare.max_images=3")) == {"fingerprint", *TASKS}


def test_changed_raw_data_are_seen_and_so_are_changed_weights(submit):
    submit()
    assert ran(submit(versions="21")) == {"fingerprint", *TASKS}, "prepare, and all after it"
    assert ran(submit(versions="21")) == {"fingerprint"}
    assert ran(submit(versions="211112")) == {"fingerprint", "benchmark"}


def test_edited_code_is_seen_by_what_runs_it_and_what_comes_after(submit, monkeypatch, tmp_path):
    for folder in ("components", "shared"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    own = shared.code_version.code_version
    monkeypatch.setattr(
        "shared.pipeline.graph.code_version", lambda component: own(component, tmp_path)
    )
    submit()
    with open(tmp_path / "components/train/loop.py", "a") as file:
        file.write("\n# edited\n")
    assert ran(submit()) == {"fingerprint", *TASKS - {"prepare"}}
    with open(tmp_path / "components/benchmark/run.py", "a") as file:
        file.write("\n# edited\n")
    assert ran(submit()) == {"fingerprint", "benchmark"}


def test_reuse_of_data_alone_or_of_nothing(submit):
    submit()
    assert ran(submit(reuse="data")) == {"fingerprint", *TASKS - {"prepare"}}
    assert ran(submit(reuse="off")) == {"fingerprint", *TASKS}


def test_an_edited_copy_of_a_run_trains_anew_and_one_edited_back_does_not(submit, kfp_server):
    submit()
    (run,) = kfp_server.runs.values()
    spec, asked = kfp_server.spec_of(run), run["runtime_config"]["parameters"]
    checked = spec["root"]["dag"]["tasks"]["fingerprint"]["inputs"]["parameters"]["checked_by"]

    def copy(**edited) -> set[str]:
        parameters = asked | edited
        given = lay_over(recipe_in(spec), parameters, checked["runtimeValue"]["constant"])
        outputs = {("fingerprint", f"{step}_given"): given[step] for step in given}
        kfp_server.cache.outputs |= outputs
        return ran(kfp_server.cache.execute(spec, parameters))

    copy()
    assert copy() == {"fingerprint"}
    assert copy(epochs=2.0) == {"fingerprint", *TASKS - {"prepare"}}
    assert copy(benchmark={"rounds": 2}) == {"fingerprint", "benchmark"}
    assert copy(epochs=8.0, benchmark={"rounds": 4.0}) == {"fingerprint"}
    with pytest.raises(AssertionError, match="epochs requires type double or integer"):
        copy(epochs="2")


# Its pipeline and its names.


def test_the_same_again_is_the_same_version_and_what_differs_is_another(kfp_server):
    for changes in ({}, {}, dict(tags=("a=b",)), dict(reuse="off")):
        pipeline.submit(asked(kfp_server.host, **changes))
    for recipe in ("facades", "facades"):
        pipeline.submit(asked(kfp_server.host, recipe=recipe))
    demo, facades = kfp_server.pipelines.values()
    assert (demo["name"], facades["name"]) == ("demo", "facades")
    versions = [version["pipeline_id"] for version in kfp_server.versions.values()]
    assert versions == [demo["pipeline_id"]] * 2 + [facades["pipeline_id"]]
    assert len(kfp_server.runs) == 6 and len(kfp_server.experiments) == 2

    pipeline.submit(asked(kfp_server.host, overrides=("prepare.max_images=3",)))
    other = "registry.example/pix2pixhd:4d5e6f-cuda"
    pipeline.submit(asked(kfp_server.host, images=other))
    assert len(kfp_server.versions) == 5 and len(kfp_server.pipelines) == 2
    assert all(re.fullmatch(r"\w+-[0-9a-f]{12}", v["name"]) for v in kfp_server.versions.values())


def test_edited_code_is_another_version(kfp_server, monkeypatch):
    pipeline.submit(asked(kfp_server.host))
    monkeypatch.setattr("shared.pipeline.graph.code_version", lambda component: f"{component}-2")
    pipeline.submit(asked(kfp_server.host))
    assert len(kfp_server.versions) == 2


def test_experiment_run_and_namespace_are_named(kfp_server):
    kfp_server.has_users = True
    names = dict(experiment="50 % + more", run_name='a "b"', namespace="team")
    for _ in range(2):
        pipeline.submit(asked(kfp_server.host, **names))
    ((experiment,), runs) = kfp_server.experiments.values(), kfp_server.runs.values()
    assert (experiment["display_name"], experiment["namespace"]) == ("50 % + more", "team")
    assert [run["display_name"] for run in runs] == ['a "b"'] * 2
    assert [one["namespace"] for one in kfp_server.pipelines.values()] == ["team"]
    refused = refusal(pipeline.submit, asked(kfp_server.host))
    assert "namespace" in refused and "(HTTP 400)" in refused


def test_what_is_for_a_server_alone_is_refused_without_one(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for flags in (["--wait"], ["--run-name", "x"], ["--namespace", "x"], ["--token-file", "x"]):
        refused = refusal_of_command(capsys, pipeline.main, "submit", *flags)
        assert refused == f"{flags[0]} is for a server: give its URL by --host, too."
    assert not list(tmp_path.iterdir())


# Nothing is made twice.

CREATES = ["PipelineService_CreatePipeline", "UploadPipelineVersion"]
CREATES += ["ExperimentService_CreateExperiment", CREATE]


@pytest.fixture(scope="module")
def garden():
    """A graph that is small."""

    @dsl.component(base_image="registry.example/python:3.11")
    def grow(height: int) -> int:
        return height + 1

    @dsl.pipeline(name="demo")
    def garden(raw_data: str = ""):
        grow(height=1)

    return garden


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("fault", ["503", "500", "429", "refuses", "cut off"])
@pytest.mark.parametrize("operation", CREATES)
def test_a_call_that_failed_for_the_moment_is_said_again_and_makes_one(
    operation, fault, is_done, kfp_server, garden, capsys
):
    plan = kfp_server.lost if is_done else kfp_server.passing
    plan[operation] = [fault]
    server.submit(asked(kfp_server.host), "demo", garden, {})
    made = (kfp_server.pipelines, kfp_server.versions, kfp_server.experiments, kfp_server.runs)
    assert [len(one) for one in made] == [1, 1, 1, 1]
    (run,) = kfp_server.runs
    assert run in capsys.readouterr().out


@pytest.mark.parametrize("is_done", [False, True])
def test_after_silence_a_run_is_looked_for_and_not_made_again(is_done, kfp_server, garden, capsys):
    plan = kfp_server.lost if is_done else kfp_server.passing
    plan[CREATE] = ["hangs"]
    if is_done:
        server.submit(asked(kfp_server.host), "demo", garden, {})
    else:
        refused = refusal(server.submit, asked(kfp_server.host), "demo", garden, {})
        assert "gave no answer in time; look there for what was made" in refused
    assert sum(name == CREATE for name, _ in kfp_server.calls) == 1
    assert len(kfp_server.runs) == is_done


# What is refused.


@pytest.mark.parametrize(
    "raw_data",
    [
        "s3://AKIA:topsecret@bucket/raw",
        "https://jane:topsecret@example.org/raw.zip",
        "https://store.example/raw.zip?X-Amz-Date=1&X-Amz-Signature=topsecret",
        "https://store.example/raw.zip?sv=1&sig=topsecret",
    ],
)
def test_raw_data_with_secrets_are_no_parameter_of_a_run(raw_data, kfp_server):
    refused = refusal(pipeline.submit, asked(kfp_server.host, raw_data))
    assert refused.startswith("--raw-data ") and "has secrets in it" in refused
    assert "topsecret" not in refused and "environment variables" in refused
    assert not kfp_server.runs and not kfp_server.calls

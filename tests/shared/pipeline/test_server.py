"""The graph on a KFP API server, of which there is a stand-in here."""

import base64
import re
import shutil
from pathlib import Path

import pytest
from kfp import Client

import pipeline
import shared.code_version
from components.prepare.given import lay_over
from pipeline import CONFIGS
from shared.pipeline.recipes import read_recipe
from shared.pipeline.reuse import Reuse
from shared.pipeline.server import client as server
from shared.pipeline.submitting import SubmitOptions
from tests.asking import refusal
from tests.calling import call
from tests.kfp_cache import recipe_in
from tests.places import ROOT

RAW_DATA = "s3://bucket/raw"
IMAGES = "registry.example/pix2pixhd:1a2b3c-cuda"
TASKS = {step.replace("_", "-") for step in CONFIGS}
CREATE = "RunService_CreateRun"


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch, tmp_path):
    """kfp keeps a namespace in the user's HOME, and asks the environment for the rest."""
    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_preflight(monkeypatch):
    """It takes seconds, and has tests of its own."""
    monkeypatch.setattr(pipeline, "run_preflight", lambda **_: None)


@pytest.fixture
def submit(kfp_server):
    """Submits the demo recipe; returns the state of every task, SUCCEEDED or CACHED."""

    def submit(*overrides: str, versions: str = "1", reuse: Reuse = "on") -> dict[str, str]:
        # What `fingerprint` finds where the pods are, per step.
        found = dict(zip(CONFIGS, versions.ljust(len(CONFIGS), versions[-1]), strict=True))
        kfp_server.cache.outputs = {("fingerprint", step): found[step] for step in found}
        config = read_recipe("demo", CONFIGS, overrides)
        graph = pipeline.build("demo", config)
        server.submit(kfp_server.host, "demo", graph, RAW_DATA, {}, reuse)
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
    assert run["description"] == "Recipe demo. team=vision"
    given = run["runtime_config"]["parameters"]
    assert (given.pop("raw_data"), given.pop("epochs"), given.pop("size")) == (
        *(RAW_DATA, 8, "128x256"),
    )
    assert {step: given[step] for step in CONFIGS} == dict.fromkeys(CONFIGS, {})
    assert recipe_in(run["pipeline_spec"])["benchmark"]["batch_sizes"] == [3]
    out = capsys.readouterr().out
    assert f"submitted {run['display_name']} to {kfp_server.host}" in out
    assert f"{kfp_server.host}/#/runs/details/{run['run_id']}" in out

    changes = dict(recipe="facades", overrides=("train_global.epochs=1",))
    pipeline.submit(asked(kfp_server.host, **changes))
    pipeline.submit(asked(kfp_server.host))
    names = [known["display_name"] for known in kfp_server.experiments.values()]
    assert names == ["demo", "facades"]


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
    spec, asked = run["pipeline_spec"], run["runtime_config"]["parameters"]
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


# What is refused.


@pytest.mark.parametrize(
    "operation, status, sentence",
    [
        (
            "HealthzService_GetHealthz",
            401,
            "refuses access (HTTP 401): give user",
        ),
        (CREATE, 403, "refuses access (HTTP 403): give user"),
        ("HealthzService_GetHealthz", 503, "does not work at the moment (HTTP 503): try again"),
        (CREATE, 500, "does not work at the moment (HTTP 500): try again later"),
        ("HealthzService_GetHealthz", 404, "does not answer as a KFP API server (HTTP 404)"),
        (CREATE, 400, "does not take it (HTTP 400): invalid pipeline spec"),
    ],
)
def test_an_answer_that_is_no_success_is_one_sentence(operation, status, sentence, kfp_server):
    kfp_server.faults[operation] = (status, "invalid pipeline spec\n[goroutine 42]")
    refused = refusal(pipeline.submit, asked(kfp_server.host, RAW_DATA))
    assert refused.startswith(f"--host {kfp_server.host} {sentence}")
    assert sum(name == operation for name, _ in kfp_server.calls) == 1, "asked once"


@pytest.mark.parametrize("operation", ["HealthzService_GetHealthz", CREATE])
def test_a_server_that_hangs_is_given_up(operation, kfp_server, monkeypatch):
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)
    kfp_server.hanging.add(operation)
    refused = refusal(pipeline.submit, asked(kfp_server.host, RAW_DATA))
    assert refused.startswith(f"--host {kfp_server.host} gave no answer in time: look there")
    kfp_server.hanging.clear()


def test_a_page_that_is_no_server_is_refused(kfp_server, monkeypatch):
    monkeypatch.setattr(kfp_server, "answer", lambda *_: (200, "Please log in"))
    refused = refusal(pipeline.submit, asked(kfp_server.host, RAW_DATA))
    assert refused.startswith(f"--host {kfp_server.host} answers, but not as a KFP API server")


def test_a_server_that_is_not_there_is_refused_by_the_command_in_one_sentence(tmp_path):
    host = "http://127.0.0.1:9"
    result = call(
        "submit", "--host", host, "--raw-data", RAW_DATA, "--images", IMAGES, cwd=tmp_path
    )
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert f"--host {host} cannot be reached" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "host, sentence",
    [
        ("kfp.example", "is no URL of a server: write for example http://kfp:8080."),
        ("ftp://user:secret@kfp", "is no URL of a server: write for example http://kfp:8080."),
        ("http://", "is no URL of a server: write for example http://kfp:8080."),
        ("http://user:sec/ret@kfp", "has no readable host: write special characters of a password"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused(host, sentence):
    refused = refusal(pipeline.submit, asked(host, RAW_DATA))
    assert refused.startswith(f"--host {sentence}") and "sec" not in refused.partition(":")[0]


# Secrets.


def test_user_and_password_of_the_host_are_sent_and_never_shown(kfp_server, capsys):
    expected = base64.b64encode(b"jane:se:cr@t").decode()
    kfp_server.authorization = f"Basic {expected}"
    host = kfp_server.host.replace("http://", "http://jane:se%3Acr%40t@")
    pipeline.submit(asked(host))
    shown = capsys.readouterr().out + str([*kfp_server.runs.values()])
    assert "se%3Acr" not in shown and "se:cr" not in shown and "jane" not in shown

    kfp_server.authorization = "Basic other"
    refused = refusal(pipeline.submit, asked(host, RAW_DATA))
    assert "HTTP 401" in refused and "jane" not in refused and "cr%40t" not in refused


def test_a_token_comes_from_the_file_that_kfp_knows(kfp_server, monkeypatch, tmp_path):
    file = Path(tmp_path / "token")
    kfp_server.authorization = "Bearer abc"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    refused = refusal(pipeline.submit, asked(kfp_server.host, RAW_DATA))
    assert refused == f"KF_PIPELINES_SA_TOKEN_PATH names {file}, which cannot be read."
    file.write_text("abc\n")
    pipeline.submit(asked(kfp_server.host))
    assert len(kfp_server.runs) == 1


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

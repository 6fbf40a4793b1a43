"""What a container of a step is given, without an engine: places, cards, variables; and what is
said where no engine is."""

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from docker.errors import APIError, NotFound

from shared.errors import InputError
from shared.pipeline.engines.cards import cards_for, device_of
from shared.pipeline.engines.containers import Containers
from shared.pipeline.engines.daemon import (
    MACHINE,
    PROBE,
    RUN,
    TASK,
    connect,
    ours,
    remove,
    sweep_probes,
)
from shared.pipeline.engines.mounts import binds
from shared.pipeline.runs import EngineOptions
from tests.calling import call

URI = ""  # of MLflow's store, where a test wants another
PODMAN, DOCKER = {"Components": [{"Name": "Podman Engine"}]}, {"Components": [{"Name": "Engine"}]}


# Places.


def test_what_parameters_name_is_read_only_at_the_same_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("it's raw", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "vgg, 16.pth").touch()
    raw, weights, runs = f"{tmp_path}/it's raw", f"{tmp_path}/vgg, 16.pth", tmp_path / "runs"
    read = {"raw_data": raw, "config": {"vgg_weights": "vgg, 16.pth", "size": "32x64", "n": [1]}}
    assert set(binds(read, [runs])) == {
        (raw, raw, False),
        (weights, weights, False),
        (str(runs), str(runs), True),
    }


def test_links_lead_to_places_that_are_given_too(tmp_path):
    """Also over several links, and out of folders that links lead to; inner ones need nothing."""
    for name in ("raw/a", "disk1/photos", "disk2"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "disk2" / "one.png").touch()
    (tmp_path / "raw" / "photos").symlink_to("../disk1/photos")
    (tmp_path / "raw" / "inner").symlink_to("a")
    (tmp_path / "raw" / "lost").symlink_to("/nowhere/at/all")
    (tmp_path / "disk1" / "photos" / "one.png").symlink_to(tmp_path / "disk2" / "one.png")
    found = {bind.source for bind in binds(str(tmp_path / "raw"), [])}
    assert found == {str(tmp_path / name) for name in ("raw", "disk1/photos", "disk2")}


@pytest.mark.parametrize("place", ["/", "/usr", "/tmp", "/home", "/etc"])
def test_no_place_hides_the_files_of_the_image(place):
    with pytest.raises(InputError, match=f"{place} is a folder that the containers need"):
        binds({"raw_data": place}, [])


def test_too_many_places_are_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    for number in range(120):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / "raw" / f"{number}").symlink_to(tmp_path / f"{number}")
    with pytest.raises(InputError, match="copy the files into one folder"):
        binds(str(tmp_path / "raw"), [])


# Cards.


def test_the_device_is_what_the_machine_has(tmp_path):
    assert device_of("auto", tmp_path) == "cpu"
    (tmp_path / "nvidiactl").touch()
    assert device_of("auto", tmp_path) == "cuda" and device_of("cpu", tmp_path) == "cpu"
    (tmp_path / "davinci_manager").touch()
    assert device_of("auto", tmp_path) == "npu"


def test_nvidia_cards_are_asked_for_as_each_engine_knows_them():
    every = [{"count": -1, "capabilities": [["gpu"]]}]
    assert cards_for("cuda", DOCKER)["device_requests"] == every
    by_name = [{"driver": "cdi", "device_ids": ["nvidia.com/gpu=all"]}]
    assert cards_for("cuda", PODMAN)["device_requests"] == by_name
    assert cards_for("cpu", DOCKER) == {"device_requests": [], "mounts": [], "options": {}}


def test_ascend_cards_come_with_their_driver_or_by_its_runtime(tmp_path):
    for name in ("davinci0", "davinci1", "davinci_manager", "devmm_svm", "hisi_hdc"):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / name).touch()
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/npu-smi").touch()
    given = cards_for("npu", DOCKER, tmp_path)
    names = ("davinci0", "davinci1", "davinci_manager", "devmm_svm", "hisi_hdc")
    assert given["options"]["devices"] == [f"/dev/{one}:/dev/{one}:rwm" for one in names]
    assert given["options"]["group_add"] == [str(os.getgid())]
    assert [one["source"] for one in given["mounts"]] == ["/usr/local/bin/npu-smi"]
    assert all(one["read_only"] for one in given["mounts"])

    by_runtime = cards_for("npu", DOCKER | {"Runtimes": {"ascend": {}}}, tmp_path)
    assert by_runtime["options"] == {"runtime": "ascend"} and not by_runtime["mounts"]
    assert by_runtime["environment"] == {"ASCEND_VISIBLE_DEVICES": "0,1"}


# A step's container.


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What the program of a step's container is asked for, and its environment."""

    def ask(engine=DOCKER, parameters=None, **options):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", URI or f"sqlite:///{tmp_path}/mlflow.db")
        place = Containers(EngineOptions(engine="docker", **options))
        place.engine = engine
        place.mlflow = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "PIPELINE_STORE": "sqlite"}
        folder = tmp_path / "runs" / "demo-1" / "prepare"
        run = SimpleNamespace(folder=folder.parent)
        screen = SimpleNamespace(is_terminal=False)
        task = SimpleNamespace(component="prepare", image="pix2pixhd-prepare:cpu", folder=folder)
        task.parameters, task.environment = parameters or {}, {"OF_TASK": "1"}
        task.engine = SimpleNamespace(run=run, screen=screen)
        command, environment = place.command(task, ["-c", "pass", "--executor_input", "{}"])
        return json.loads(command[-1]), environment

    return ask


def test_secrets_stand_in_the_environment_alone(asked, monkeypatch):
    secrets = {"MLFLOW_TRACKING_PASSWORD": "swordfish", "AWS_SECRET_ACCESS_KEY": "opensesame"}
    secrets |= {"OUR_STORE": "https://me:mellon@store.example/data", "PIPELINE_CARRIED": "{}"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    container, environment = asked(parameters={"raw_data": "env://OUR_STORE"})
    assert secrets.keys() <= set(container["names"]) and {"OF_TASK"} <= set(container["names"])
    assert not any(value in json.dumps(container) for value in secrets.values() if len(value) > 2)
    assert {name: environment[name] for name in secrets} == secrets


def test_only_what_a_step_needs_of_our_environment_is_taken(asked, monkeypatch):
    for name in ("LD_PRELOAD", "GITHUB_TOKEN", "PIPELINE_LOCKS", "PYTHONPATH", "HOME"):
        monkeypatch.setenv(name, "of this machine")
    names = asked()[0]["names"]
    taken = {"LD_PRELOAD", "GITHUB_TOKEN", "PIPELINE_LOCKS", "PYTHONPATH", "HOME", "PATH"}
    assert not taken & set(names)


def test_a_certificate_comes_with_its_variable(asked, monkeypatch, tmp_path):
    (tmp_path / "ours.pem").touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ours.pem"))
    assert str(tmp_path / "ours.pem") in [one["source"] for one in asked()[0]["mounts"]]


def test_the_run_and_the_files_of_mlflow_are_written(asked, tmp_path, monkeypatch):
    """Where paths have blanks and quotes too, which MLflow escapes in addresses."""
    folder = tmp_path / "it's %41 folder"
    folder.mkdir()
    uri = f"sqlite:///{str(folder).replace('%', '%25')}/mlflow.db"
    monkeypatch.setattr("tests.shared.pipeline.engines.test_places.URI", uri)
    mounts = {one["target"]: one["read_only"] for one in asked()[0]["mounts"]}
    assert mounts[str(folder / "mlartifacts")] is False
    assert mounts[str(tmp_path / "runs" / "demo-1")] is False
    assert [path.name for path in tmp_path.iterdir() if "27" in path.name] == []


def test_operators_that_an_npu_compiled_are_kept_on_this_machine(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("ACL_OP_COMPILER_CACHE_DIR", raising=False)
    monkeypatch.setenv("TASK_QUEUE_ENABLE", "2")
    place = str(tmp_path / "caches" / "pix2pix-pipeline" / "npu-operators")
    container, environment = asked(container_device="npu")
    assert environment["ACL_OP_COMPILER_CACHE_DIR"] == place
    assert {"ACL_OP_COMPILER_CACHE_DIR", "TASK_QUEUE_ENABLE"} <= set(container["names"])
    assert {one["target"]: one["read_only"] for one in container["mounts"]}[place] is False
    names = asked(container_device="cpu")[0]["names"]
    assert "ACL_OP_COMPILER_CACHE_DIR" not in names

    monkeypatch.setenv("ACL_OP_COMPILER_CACHE_DIR", str(tmp_path / "his"))
    container, _ = asked(container_device="npu")
    assert str(tmp_path / "his") in [one["target"] for one in container["mounts"]]


def test_who_and_how_much_a_container_is(asked):
    options = asked()[0]["options"]
    assert options["user"] == f"{os.getuid()}:{os.getgid()}" and options["network_mode"] == "host"
    assert options["working_dir"] == os.getcwd() and "mem_limit" not in options
    options = asked(container_memory_gb=2, container_shm_gb=0.5)[0]["options"]
    assert options["mem_limit"] == options["memswap_limit"] == 2**31
    assert options["shm_size"] == 2**29
    rootless = {"SecurityOptions": ["name=rootless", "name=selinux"]}
    options = asked(engine=DOCKER | rootless)[0]["options"]
    assert options["user"] == "0:0" and "label=disable" in options["security_opt"]


# No engine.


def test_a_missing_engine_says_what_starts_one(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(InputError, match="no.sock.*No such file.*systemctl start docker") as said:
        connect()
    assert "\n" not in str(said.value)


def test_an_engine_that_is_none_is_one_sentence(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "other.sock"))  # and does not listen
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/other.sock")
        with pytest.raises(InputError, match="no container engine answers"):
            connect()
    monkeypatch.setenv("DOCKER_HOST", "nonsense://x")
    with pytest.raises(InputError, match="no container engine answers"):
        connect()


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--container-memory-gb", "4"], "--container-memory-gb is of containers"),
        (["--images", "registry.example/team/pix2pixhd:1"], "--images is of containers"),
        (["--engine", "docker", "--host", "http://kfp:8888"], "--engine docker is of this machine"),
    ],
)
def test_flags_that_have_no_meaning_are_refused(words, refusal, tmp_path):
    done = call("submit", *words, cwd=tmp_path)
    assert done.returncode == 2 and refusal in done.stderr, done.stderr
    assert not (tmp_path / "runs").exists() and "Traceback" not in done.stderr


def test_preflight_says_that_there_is_no_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    done = call("preflight", "--engine", "docker", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "containers: --engine docker: no container engine answers" in done.stderr
    assert Path(tmp_path / "runs").exists() is False


# Containers that only answer a question.


def engine_with(labels: dict[str, dict[str, str]], remove: Callable[[str], None]):
    """An engine with a container for each name, which filters as Docker's interface does."""

    def listed(filters: dict[str, list[str]], **_) -> list[dict[str, str]]:
        def has(name: str, wanted: str) -> bool:
            key, equals, value = wanted.partition("=")
            return key in labels[name] and (not equals or labels[name][key] == value)

        return [{"Id": one} for one in labels if all(has(one, each) for each in filters["label"])]

    def get(name: str):
        return SimpleNamespace(labels=labels[name], remove=lambda force: remove(name))

    api, containers = SimpleNamespace(containers=listed), SimpleNamespace(get=get)
    return SimpleNamespace(api=api, containers=containers)


def test_a_probe_whose_process_was_killed_is_removed_at_the_next_start():
    """Of this machine's alone, and of nobody who still asks."""
    waits = [sys.executable, "-S", "-c", "input()"]
    asking = [subprocess.Popen(waits, stdin=subprocess.PIPE) for _ in range(2)]
    begins = [f"{one.pid} {psutil.Process(one.pid).create_time()}" for one in asking]
    asking[0].kill()
    asking[0].wait()
    here, removed = {MACHINE: platform.node()}, []
    labels = {
        "of a killed one": here | {PROBE: begins[0]},
        "of one that asks": here | {PROBE: begins[1]},
        "of a number that is another's by now": here | {PROBE: f"{asking[1].pid} 1.0"},
        "without a number": here | {PROBE: "x"},
        "of another machine": {MACHINE: "other", PROBE: begins[0]},
        "a step": here | {RUN: "/runs/demo-1", TASK: "/runs/demo-1/prepare"},
    }
    sweep_probes(engine_with(labels, removed.append))
    asking[1].communicate(b"\n")
    assert removed == [
        "of a killed one",
        "of a number that is another's by now",
        "without a number",
    ]


@pytest.mark.parametrize(
    "gone",
    [
        NotFound("404 Client Error: No such container: x"),
        APIError("500: container x does not exist in database: no such container"),
    ],
)
def test_what_is_removed_while_it_is_listed_is_passed_over(gone):
    labels = {name: {MACHINE: platform.node(), RUN: f"/runs/{name}"} for name in "ab"}
    engine = engine_with(labels, lambda name: None)
    get = engine.containers.get

    def gone_or_there(name: str):
        if name == "a":
            raise gone
        return get(name)

    engine.containers.get = gone_or_there
    assert [one.labels[RUN] for one in ours(engine, RUN)] == ["/runs/b"]
    assert list(ours(engine, RUN, "/runs/c")) == []

    def removed_by_others(**_):
        raise gone

    remove(SimpleNamespace(remove=removed_by_others))


def test_an_engine_that_fails_is_not_passed_over():
    def fails(*_, **__):
        raise APIError("500: storage is broken")

    engine = engine_with({"a": {MACHINE: platform.node(), RUN: "/runs/a"}}, print)
    engine.containers.get = fails
    with pytest.raises(APIError, match="storage"):
        list(ours(engine, RUN))
    with pytest.raises(APIError, match="storage"):
        remove(SimpleNamespace(remove=fails))

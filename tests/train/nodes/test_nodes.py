"""The launcher of a training on several nodes, against a cluster on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests import tiny
from tests.fake_kubernetes import CRD, FakeKubernetes, condition, description_of, whole_description
from tests.places import ROOT
from tests.train.nodes.launching import (
    ASCENDJOB,
    CARDS,
    CONFIG,
    CONTAINER,
    KINDS,
    POD,
    TRAINJOB,
    launch,
)


@pytest.fixture
def workspace(tmp_path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def dataset(workspace) -> Path:
    tiny.dataset(workspace / "dataset")
    return workspace / "dataset"


def trains(fake: FakeKubernetes, workspace: Path, epoch: int = 1):
    """An act: rank 0 has written the model."""

    def act(_, job) -> None:
        folder = workspace / "run-1" / "train_global" / "nodes" / "model"
        if not folder.exists() or epoch:
            tiny.model(folder, tiny.architecture(), epoch=epoch, metrics={"G": 0.5})

    return act


def starts(fake: FakeKubernetes, job: dict) -> None:
    """An act: two pods run."""
    fake.add_pod(job, 0)
    fake.add_pod(job, 1)


def done(fake: FakeKubernetes, job: dict) -> None:
    condition("Complete" if job["kind"] == "TrainJob" else "Succeeded")(fake, job)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_on_nodes_is_a_job_of_the_cluster(cluster, workspace, dataset, capsys, kind):
    def speaks(*lines: str):
        return lambda fake, _: fake.say(0, *lines)

    cluster.plot = [starts, speaks("epoch 1", "epoch 1"), speaks("epoch 2")]
    cluster.plot += [trains(cluster, workspace), done]
    assert launch(dataset, workspace, KINDS[kind]) == {"G": 0.5}

    # What was asked for, checked by the stand-in; and where it is kept.
    (body,) = cluster.posted
    artifacts = workspace.parent / "artifacts"
    assert yaml.safe_load((artifacts / "job").read_text()) == body
    assert (artifacts / "model" / "model.json").is_file()
    name = body["metadata"]["name"]

    # The job's life, told once.
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.startswith("epoch")] == ["epoch 1"] * 2 + ["epoch 2"]
    assert sum("node 0 (pod " in line for line in told) == 1
    assert cluster.jobs == {} and cluster.count("DELETE") == 1
    assert f"team/{name}: deleted" in told[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_job_has_what_the_cluster_says(cluster, workspace, dataset, kind, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("MLFLOW_RUN_ID", "a" * 32)
    cluster.plot = [trains(cluster, workspace), done]
    launch(dataset, workspace, KINDS[kind], nodes=3, epochs=1.0)
    (body,) = cluster.posted
    folder = workspace / "run-1" / "train_global" / "nodes"
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe == {"train_global": CONFIG | {"nodes": 3}}
    assert (recipe["train_global"]["nodes"], recipe["train_global"]["epochs"]) == (3, 1)
    step = ["python", "-m", "components.train", "--recipe", str(folder / "recipe.yaml")]
    step += ["--recipe-section", "train_global", "--model", str(folder / "model")]
    step += ["--dataset", str(dataset)]
    env = [*CONTAINER["env"], {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow:5000"}]
    env += [{"name": "MLFLOW_RUN_ID", "value": "a" * 32}]

    if kind == "trainjob":
        spec, (patch,) = body["spec"], body["spec"]["runtimePatches"]
        trainer = spec["trainer"]
        assert trainer["command"] + trainer["args"] == step
        assert (trainer["numNodes"], trainer["numProcPerNode"]) == (3, 4)
        assert trainer["resourcesPerNode"] == {"requests": CARDS, "limits": CARDS}
        assert trainer["image"] == CONTAINER["image"] and trainer["env"] == env
        assert spec["activeDeadlineSeconds"] == 36000
        assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
        (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        pod = job["template"]["spec"]["template"]["spec"]
        mounts = CONTAINER["volumeMounts"]
        more = {"volumeMounts": mounts, "securityContext": {"runAsUser": 1000}}
        assert pod == POD | {"containers": [{"name": "node"} | more]}
    else:
        spec = body["spec"]
        assert spec["runPolicy"]["schedulingPolicy"] == {"minAvailable": 3, "queue": "night"}
        replicas = {name: one["replicas"] for name, one in spec["replicaSpecs"].items()}
        assert replicas == {"Master": 1, "Worker": 2}
        for one in spec["replicaSpecs"].values():
            pod = one["template"]["spec"]
            (container,) = pod.pop("containers")
            more = {"schedulerName": "volcano", "priorityClassName": "high"}
            assert pod == POD | more and container["name"] == "ascend"
            assert container["env"] == env and container["resources"]["limits"] == CARDS
            assert container["command"] + container["args"] == step
            labels = one["template"]["metadata"]["labels"]
            assert labels["ring-controller.atlas"] == "ascend-910b"
        assert body["metadata"]["labels"]["framework"] == "pytorch"


@pytest.mark.slow  # it is 450 KB
@pytest.mark.skipif(not CRD.is_file(), reason=f"Trainer's CRD is not at {CRD} (TRAINJOB_CRD)")
def test_the_train_job_is_one_by_trainer_s_whole_description(cluster, workspace, dataset):
    cluster.plot = [trains(cluster, workspace), done]
    launch(dataset, workspace, TRAINJOB)
    whole = whole_description()
    assert list(whole.iter_errors(cluster.posted[0])) == []
    wrong = json.loads(json.dumps(cluster.posted[0]))
    wrong["spec"]["trainer"]["numNodes"] = "two"
    wrong["spec"]["trainer"]["devices"] = 4
    assert len(list(whole.iter_errors(wrong))) == 2


def test_the_descriptions_find_what_is_wrong():
    body = {"kind": "AscendJob", "spec": {"replicaSpecs": {"Master": {"replicas": "1"}}}}
    assert [error.json_path for error in description_of("ascendjobs").iter_errors(body)] == [
        "$.spec.replicaSpecs.Master.replicas"
    ]


# Faults of the API.

REFUSALS = {
    "401": "401",
    "403": "403",
    "404": "404",
    "HTML": "answers, but not as a Kubernetes API",
    "hangs": "has not answered for 1 s",
    "refuses": "has not answered for 1 s",
    "cut off": "has not answered for 1 s",
    "drips": "has not answered for 1 s",
    "truncated JSON": "has not answered for 1 s",
    "503": "503",
}


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_api_that_does_not_answer_as_one_is_a_sentence(
    cluster, workspace, dataset, capsys, fault, method
):
    cluster.faults[method] = [fault] * 50
    begun = time.monotonic()
    with pytest.raises(SystemExit) as end:
        launch(dataset, workspace, TRAINJOB)
    assert time.monotonic() - begun < 10
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and REFUSALS[fault] in said and "Traceback" not in said
    assert end.value.code == (2 if fault in ("401", "403", "404") else 1)


@pytest.mark.parametrize("fault", ["503", "cut off", "HTML", "429", "done, but cut off"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "log"])
def test_what_passes_is_tried_again_and_nothing_is_done_twice(
    cluster, workspace, dataset, capsys, fault, method
):
    if method == "log" and fault == "HTML":
        pytest.skip("a log may say anything")
    cluster.plot = [starts, lambda fake, _: fake.say(0, "epoch 1")]
    cluster.plot += [trains(cluster, workspace), done]
    cluster.faults[method] = ["", fault] if method in ("GET", "log") else [fault]
    assert launch(dataset, workspace, TRAINJOB) == {"G": 0.5}
    told = capsys.readouterr().out.splitlines()
    assert told.count("epoch 1") == 1
    assert len(cluster.posted) == 1 and cluster.jobs == {}


def test_a_webhook_that_refuses_is_quoted(cluster, workspace, dataset, capsys):
    broken = TRAINJOB | {"pod": {"volumes": [{"nme": "x"}]}}
    with pytest.raises(SystemExit) as end:
        launch(dataset, workspace, broken)
    assert end.value.code == 2
    assert "does not take it (HTTP 422: $.spec.runtimePatches" in capsys.readouterr().err


# Ends of a job.


def fails(fake: FakeKubernetes, workspace: Path, dataset: Path, capsys, *plot, **template) -> str:
    """The plot's end as the step says it; the job is deleted."""
    fake.plot = [starts, *plot]
    with pytest.raises(SystemExit) as end:
        launch(dataset, workspace, TRAINJOB | template)
    said = capsys.readouterr()
    assert said.err.count("\n") == 1, said.err
    assert fake.jobs == {}
    return f"{end.value.code}: {said.err.strip()}"


failed = condition("Failed", "JobsFailed", "one of the jobs failed")


def test_what_rank_0_says_last_is_the_reason(cluster, workspace, dataset, capsys):
    def act(fake, _):
        fake.say(0, "train failed: the losses are no numbers.", "Traceback of torchrun ...")
        fake.end(0, 1, at="2026-11-30T08:00:05Z")
        fake.end(1, 1, at="2026-11-30T08:00:09Z")

    said = fails(cluster, workspace, dataset, capsys, act, failed)
    assert said == "1: train failed: the losses are no numbers."


def test_a_training_that_refuses_is_a_refusal(cluster, workspace, dataset, capsys):
    def act(fake, _):
        fake.say(0, "train_global refused: --size 7x7: both sides should be 16 pixels or more.")
        fake.end(0, 1)

    said = fails(cluster, workspace, dataset, capsys, act)
    assert said.startswith("2: train refused: ") and "both sides should be" in said


def test_the_first_node_to_end_is_the_cause(cluster, workspace, dataset, capsys):
    def act(fake, _):
        fake.say(0, "train failed: rank 1 is gone.")
        fake.say(1, "Bus error")
        fake.end(0, 1, at="2026-11-30T08:00:09Z")
        fake.end(1, 135, at="2026-11-30T08:00:01Z")

    said = fails(cluster, workspace, dataset, capsys, act, failed)
    assert "node 1" in said and "exit code 135: Bus error" in said


def test_memory_that_is_used_up_is_the_cause(cluster, workspace, dataset, capsys):
    def act(fake, _):
        fake.say(0, "train failed: rank 1 is gone.")
        fake.end(0, 1, at="2026-11-30T08:00:01Z")
        fake.end(1, 137, "OOMKilled", at="2026-11-30T08:00:09Z")

    said = fails(cluster, workspace, dataset, capsys, act)
    assert "node 1" in said and "OOMKilled" in said and "memory_limit" in said


def test_a_pod_that_is_evicted_is_the_cause(cluster, workspace, dataset, capsys):
    def act(fake, _):
        fake.pod(1)["status"] = {"phase": "Failed", "reason": "Evicted", "message": "low disk"}

    assert "ended by Kubernetes (Evicted: low disk)" in fails(
        cluster, workspace, dataset, capsys, act
    )


def test_a_job_that_fails_without_pods_says_why(cluster, workspace, dataset, capsys):
    said = fails(cluster, workspace, dataset, capsys, failed)
    assert "JobsFailed: one of the jobs failed" in said


def test_a_job_that_somebody_deletes_is_no_success(cluster, workspace, dataset, capsys):
    def act(fake, job):
        fake.jobs.clear()

    assert "was deleted by somebody else" in fails(cluster, workspace, dataset, capsys, act)


def test_a_job_that_somebody_replaces_is_not_ours(cluster, workspace, dataset, capsys):
    def act(fake, job):
        job["metadata"]["uid"] = "other"

    cluster.plot = [starts, act, done]
    with pytest.raises(SystemExit):
        launch(dataset, workspace, TRAINJOB)
    assert "was deleted by somebody else" in capsys.readouterr().err
    assert len(cluster.jobs) == 1


def test_images_that_cannot_be_pulled_end_the_step(cluster, workspace, dataset, capsys):
    def act(fake, _):
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
        status = {"containerStatuses": [{"name": "node", "state": waiting}]}
        fake.pod(1)["status"] = {"phase": "Pending"} | status

    said = fails(cluster, workspace, dataset, capsys, act)
    assert said.startswith("1: ") and "ImagePullBackOff: no such image" in said


def test_nodes_that_nobody_has_are_told_and_waited_for_with_a_limit(
    cluster, workspace, dataset, capsys
):
    message = "0/4 nodes are available: 4 Insufficient huawei.com/Ascend910"

    def act(fake, job):
        lacking = {"type": "PodScheduled", "status": "False"}
        lacking |= {"reason": "Unschedulable", "message": message}
        for _, pod in fake.pods.items():
            pod["status"] = {"phase": "Pending", "conditions": [lacking]}

    cluster.plot = [starts, act]
    with pytest.raises(SystemExit) as end:
        launch(dataset, workspace, ASCENDJOB)
    said = capsys.readouterr()
    assert end.value.code == 1 and cluster.jobs == {}
    assert said.out.count(f"Pending, waits (Unschedulable: {message})") == 2
    assert "has not begun after" in said.err and message in said.err


def test_a_job_that_takes_too_long_is_ended(cluster, workspace, dataset, capsys, monkeypatch):
    monkeypatch.setattr("components.train.nodes.watching.MINUTE_S", 0.01)
    said = fails(cluster, workspace, dataset, capsys, timeout_min=10)
    assert "took more than 10 min" in said


def test_a_complete_job_without_its_model_is_no_success(cluster, workspace, dataset, capsys):
    said = fails(cluster, workspace, dataset, capsys, done)
    assert said.startswith("1: ") and "says that it is complete, but" in said
    cluster.plot = [trains(cluster, workspace, epoch=0), done]
    with pytest.raises(SystemExit):
        launch(dataset, workspace, TRAINJOB)
    assert "has 0 of 1 epochs" in capsys.readouterr().err


def test_an_api_that_falls_silent_leaves_the_job_to_the_next_attempt(
    cluster, workspace, dataset, capsys
):
    def falls_silent(fake, _):
        fake.faults["GET"] = ["hangs"] * 50

    cluster.plot = [starts, falls_silent]
    with pytest.raises(SystemExit) as end:
        launch(dataset, workspace, TRAINJOB)
    said = capsys.readouterr().err
    assert end.value.code == 1 and "another attempt of this step watches it" in said
    assert len(cluster.jobs) == 1 and cluster.count("DELETE") == 0

    # And it does.
    cluster.faults.clear()
    cluster.plot = [lambda fake, _: None, trains(cluster, workspace), done]
    assert launch(dataset, workspace, TRAINJOB) == {"G": 0.5}
    assert len(cluster.posted) == 1 and "of an earlier attempt goes on" in capsys.readouterr().out


def test_a_job_that_failed_is_gone_before_the_next_one_is_made(cluster, workspace, dataset):
    cluster.plot = [starts, failed]
    cluster.faults["DELETE"] = ["403"]
    with pytest.raises(SystemExit):
        launch(dataset, workspace, TRAINJOB)
    (name,) = cluster.jobs
    cluster.deletes_after, cluster.calls[:] = 3, []
    cluster.plot = [lambda fake, _: None, trains(cluster, workspace), done]
    launch(dataset, workspace, TRAINJOB)
    place = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs/{name}"
    jobs = [call for call in cluster.calls if "trainjobs" in call]
    first = ["GET", "DELETE", "GET", "GET", "GET"]
    assert jobs[:6] == [f"{method} {place}" for method in first] + [
        f"POST {place.removesuffix(f'/{name}')}"
    ]


def test_a_job_of_this_name_that_is_not_ours_is_left_alone(cluster, workspace, dataset, capsys):
    cluster.plot = [starts, lambda fake, _: fake.faults.update(GET=["hangs"] * 50)]
    with pytest.raises(SystemExit):
        launch(dataset, workspace, TRAINJOB)
    cluster.faults.clear()
    (job,) = cluster.jobs.values()
    job["metadata"]["labels"] = {}
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        launch(dataset, workspace, TRAINJOB)
    assert end.value.code == 2 and "was not made by this step" in capsys.readouterr().err
    assert len(cluster.jobs) == 1 and cluster.count("DELETE") == 0


# A process.

# In an image without torch.
PROGRAM = """
import json, sys
from pathlib import Path
sys.modules["torch"] = None
from tests.train.nodes.launching import launch
dataset, workspace, template = sys.argv[1:]
launch(Path(dataset), Path(workspace), json.loads(template))
"""


@pytest.mark.parametrize(
    "how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stopped_launcher_deletes_its_job(cluster, workspace, dataset, how):
    cluster.plot = [starts]
    words = [sys.executable, "-c", PROGRAM, dataset, workspace, json.dumps(TRAINJOB)]
    process = subprocess.Popen(
        [str(word) for word in words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 60
        while not cluster.pods and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(how)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + how, out + err
    assert cluster.count("DELETE") == 1 and cluster.jobs == {}
    assert "train stopped" in err and "Traceback" not in err

"""What a job runs on its nodes, run here: each node a process, with what its operator sets."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared import servers
from shared.contracts.model import ModelCard
from tests import tiny
from tests.fake_kubernetes import FakeKubernetes, condition
from tests.places import ROOT
from tests.train.nodes.launching import KINDS, launch

DEVICES = {"trainjob": 1, "ascendjob": 2}


class Operator:
    """Starts a process for each node of a job, and tells how they do."""

    def __init__(self):
        self.nodes: list[subprocess.Popen] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])

    def __call__(self, fake: FakeKubernetes, job: dict) -> None:
        if not self.nodes:
            for node in range(2):
                fake.add_pod(job, node)
                self.start(fake, job, node)
        codes = [one.poll() for one in self.nodes]
        for node, code in enumerate(codes):
            if code is not None and fake.pod(node)["status"]["phase"] == "Running":
                fake.end(node, code)
        if codes == [0, 0]:
            condition("Complete" if job["kind"] == "TrainJob" else "Succeeded")(fake, job)

    def start(self, fake: FakeKubernetes, job: dict, node: int) -> None:
        if job["kind"] == "TrainJob":  # as Trainer's torch plugin
            trainer = job["spec"]["trainer"]
            words, env = trainer["command"] + trainer["args"], trainer["env"]
            said = dict(PET_NNODES=trainer["numNodes"], PET_NODE_RANK=node)
            said |= dict(PET_NPROC_PER_NODE=trainer["numProcPerNode"])
            said |= dict(PET_MASTER_ADDR="127.0.0.1", PET_MASTER_PORT=self.port)
        else:  # as MindCluster's operator, of two cards a node
            replicas = job["spec"]["replicaSpecs"]["Worker" if node else "Master"]
            (container,) = replicas["template"]["spec"]["containers"]
            words, env = container["command"] + container["args"], container["env"]
            said = dict(RANK=node, WORLD_SIZE=4, LOCAL_WORLD_SIZE=2, LOCAL_RANK="0,1")
            said |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=self.port)
        said |= {one["name"]: one["value"] for one in env if "value" in one}
        said |= dict(PYTHONPATH=ROOT, OMP_NUM_THREADS=1)
        said[servers.PATIENCE] = 60  # four processes of a busy machine are silent for seconds
        said |= dict(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        process = subprocess.Popen(
            words,
            cwd="/",
            env=os.environ | {name: str(value) for name, value in said.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def tell() -> None:
            for line in process.stdout:
                fake.say(node, line.rstrip("\n"))

        threading.Thread(target=tell, daemon=True).start()
        self.nodes.append(process)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_job_runs_on_its_nodes_is_one_training(cluster, tmp_path, capsys, kind, monkeypatch):
    workspace = tmp_path / "workspace"
    dataset = tiny.dataset(workspace / "dataset")
    cluster.always = operator = Operator()
    try:
        launch(workspace / "dataset", workspace, KINDS[kind], devices=DEVICES[kind])
    finally:
        for one in operator.nodes:
            one.kill()
    told = capsys.readouterr().out
    assert sum(line.startswith("train global:") for line in told.splitlines()) == 1
    card = ModelCard.read(tmp_path / "artifacts" / "model")
    assert card.epoch == 1 and card.images_seen == len(dataset.train)

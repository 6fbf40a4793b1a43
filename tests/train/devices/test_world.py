"""What torchrun and the operators of Kubernetes say in the environment: understood, or refused in
one sentence, before torch is loaded."""

import os
import re

import pytest

from components.train.devices.world import World
from shared.errors import InputError

MEETING = dict(MASTER_ADDR="10.0.0.1", MASTER_PORT="29500")
PET_MEETING = dict(PET_MASTER_ADDR="job-node-0-0.job", PET_MASTER_PORT="29500")

# kubeflow/trainer, pkg/runtime/framework/plugins/torch/torch.go
TRAINJOB = dict(PET_NNODES="2", PET_NODE_RANK="1", PET_NPROC_PER_NODE="4", **PET_MEETING)
# MindCluster, "Ascend Operator environment variables"
ASCENDJOB = dict(RANK="1", WORLD_SIZE="16", LOCAL_WORLD_SIZE="8", LOCAL_RANK="0,1,2,3,4,5,6,7")
ASCENDJOB |= MEETING
# kubeflow/training-operator, pkg/controller.v1/pytorch/envvar.go: 1.3, and 1.8
OLD_PYTORCHJOB = dict(RANK="1", WORLD_SIZE="2", PYTHONUNBUFFERED="0", **MEETING)
PYTORCHJOB = dict(RANK="1", WORLD_SIZE="8", PET_NNODES="2", PET_NODE_RANK="1", **MEETING)
PYTORCHJOB |= dict(PET_NPROC_PER_NODE="4", PET_MASTER_ADDR="10.0.0.1", PET_MASTER_PORT="29500")
TORCHRUN = dict(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4", **MEETING)
TORCHRUN |= dict(TORCHELASTIC_RUN_ID="none", TORCHELASTIC_USE_AGENT_STORE="True", GROUP_RANK="1")


@pytest.fixture
def said(monkeypatch):
    """Make the environment say this about processes, and nothing else."""
    for name in os.environ:
        if re.match("(PET|TORCHELASTIC|SLURM|OMPI|PMI|LOCAL|MASTER)_|RANK$|WORLD_SIZE$", name):
            monkeypatch.delenv(name)

    def say(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return say


PLACE = ("10.0.0.1", 29500)
PET_PLACE = ("job-node-0-0.job", 29500)


@pytest.mark.parametrize(
    ("variables", "asked", "world"),
    [
        ({}, {}, World()),
        ({}, dict(devices=8), World(0, 8, 0, 8, False, True)),
        (TRAINJOB, {}, World(4, 8, 0, 4, False, False, *PET_PLACE)),
        (TRAINJOB, dict(devices=4, nodes=2), World(4, 8, 0, 4, False, False, *PET_PLACE)),
        (TRAINJOB | {"PET_NODE_RANK": "0"}, {}, World(0, 8, 0, 4, False, True, *PET_PLACE)),
        (TRAINJOB | {"PET_NNODES": "2:2"}, {}, World(4, 8, 0, 4, False, False, *PET_PLACE)),
        (
            TRAINJOB | {"PET_NPROC_PER_NODE": "auto"},  # as many as torch sees
            dict(seen=lambda: 3),
            World(3, 6, 0, 3, False, False, *PET_PLACE),
        ),
        (
            TRAINJOB | {"PET_NPROC_PER_NODE": "gpu"},
            dict(devices=2, seen=lambda: 3),
            World(2, 4, 0, 2, False, False, *PET_PLACE),
        ),
        # One node is this machine; as many processes as are said.
        (dict(TRAINJOB, PET_NNODES="1", PET_NODE_RANK="0"), {}, World(0, 4, 0, 4, False, True)),
        (
            dict(PET_NNODES="1", PET_NODE_RANK="0", PET_NPROC_PER_NODE="1", **PET_MEETING),
            {},
            World(),
        ),
        (ASCENDJOB, {}, World(8, 16, 0, 8, False, False, *PLACE)),
        (ASCENDJOB | {"LOCAL_RANK": "[0, 1]", "LOCAL_WORLD_SIZE": "2", "RANK": "3"}, {},
         World(6, 16, 0, 2, False, False, *PLACE)),
        # A list of one is a number, and means the same.
        (dict(ASCENDJOB, WORLD_SIZE="2", LOCAL_WORLD_SIZE="1", LOCAL_RANK="0"), {},
         World(1, 2, 0, 1, True, False, *PLACE)),
        (OLD_PYTORCHJOB, {}, World(1, 2, 0, 1, False, False, *PLACE)),
        (OLD_PYTORCHJOB, dict(devices=4), World(4, 8, 0, 4, False, False, *PLACE)),
        (PYTORCHJOB, {}, World(4, 8, 0, 4, False, False, *PLACE)),
        (PYTORCHJOB | {"WORLD_SIZE": "2", "PET_NPROC_PER_NODE": "auto"}, dict(devices=4),
         World(4, 8, 0, 4, False, False, *PLACE)),
        (TORCHRUN, {}, World(5, 8, 1, 4, True, False, *PLACE)),
        # Inside a TrainJob, which says the same of this node and torchrun.
        (TRAINJOB | TORCHRUN, dict(devices=4, nodes=2), World(5, 8, 1, 4, True, False, *PLACE)),
        (dict(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", **MEETING), {},
         World(0, 2, 0, 1, True, True, *PLACE)),
        (dict(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0"), {}, World()),
        (dict(SLURM_STEP_NUM_TASKS="1", RANK=" "), {}, World()),
    ],
)  # fmt: skip
def test_who_is_there(said, variables, asked, world):
    said(variables)
    assert World.from_environment(**asked) == world


@pytest.mark.parametrize(
    ("variables", "asked", "sentence"),
    [
        # Half set, of any dialect.
        (dict(RANK="1"), {}, "RANK is 1 but WORLD_SIZE is not set"),
        (dict(WORLD_SIZE="2"), {}, "WORLD_SIZE is 2 but RANK is not set"),
        (dict(LOCAL_RANK="1"), {}, "LOCAL_RANK is 1 but RANK is not set"),
        (dict(LOCAL_WORLD_SIZE="2"), {}, "LOCAL_WORLD_SIZE is 2 but RANK is not set"),
        (dict(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0"), {}, "MASTER_ADDR is not set"),
        (dict(OLD_PYTORCHJOB, MASTER_PORT=""), {}, "MASTER_PORT is not set"),
        (dict(OLD_PYTORCHJOB, LOCAL_WORLD_SIZE="2"), {}, "but LOCAL_RANK is not set"),
        (dict(TRAINJOB, PET_MASTER_ADDR=""), {}, "MASTER_ADDR is not set"),
        (dict(TRAINJOB, PET_NODE_RANK=""), {}, "PET_NNODES is 2 but PET_NODE_RANK is not set"),
        (dict(PET_NODE_RANK="1", **PET_MEETING), {}, "node 1 by RANK or PET_NODE_RANK"),
        (dict(TORCHELASTIC_RUN_ID="none"), {}, "TORCHELASTIC_RUN_ID is none but RANK is not set"),
        # Not numbers, or beyond the others.
        (dict(TORCHRUN, RANK="-1"), {}, "RANK is '-1', which should be a whole number"),
        (dict(TORCHRUN, RANK="8"), {}, "RANK is 8 but WORLD_SIZE is 8"),
        (dict(TORCHRUN, WORLD_SIZE="0", RANK="0"), {}, "RANK is 0 but WORLD_SIZE is 0"),
        (dict(TORCHRUN, LOCAL_RANK="4"), {}, "LOCAL_RANK is 4 but LOCAL_WORLD_SIZE is 4"),
        (dict(TORCHRUN, WORLD_SIZE="9"), {}, "WORLD_SIZE is 9, which 4 processes"),
        (dict(TORCHRUN, MASTER_PORT="x"), {}, "MASTER_PORT is 'x'"),
        (dict(TORCHRUN, MASTER_PORT="65536"), {}, "MASTER_PORT is 65536"),
        (dict(OLD_PYTORCHJOB, LOCAL_RANK="zero"), {}, "LOCAL_RANK is 'zero'"),
        (dict(OLD_PYTORCHJOB, RANK="2"), {}, "this is node 2 "),
        (dict(TRAINJOB, PET_NNODES="1:4"), {}, "PET_NNODES is '1:4'"),
        (dict(TRAINJOB, PET_NNODES="0"), {}, "the environment says 0 nodes"),
        (dict(TRAINJOB, PET_NPROC_PER_NODE="0"), {}, "says 0 processes on each node"),
        (dict(TRAINJOB, PET_NPROC_PER_NODE="many"), {}, "PET_NPROC_PER_NODE is 'many'"),
        (dict(TRAINJOB, PET_NODE_RANK="2"), {}, "this is node 2 "),
        (dict(ASCENDJOB, LOCAL_RANK="0,2"), {}, "LOCAL_RANK is '0,2'"),
        (dict(ASCENDJOB, LOCAL_RANK="0,1"), {}, "LOCAL_RANK lists 2 devices but LOCAL_WORLD_SIZE"),
        (dict(ASCENDJOB, WORLD_SIZE="12"), {}, "WORLD_SIZE is 12, which nodes of 8 devices"),
        (dict(ASCENDJOB, RANK="2"), {}, "this is node 2 "),
        # Two that differ.
        (dict(PYTORCHJOB, PET_NODE_RANK="0"), {}, "PET_NODE_RANK is 0, but by RANK, WORLD_SIZE"),
        (dict(PYTORCHJOB, WORLD_SIZE="6"), {}, "WORLD_SIZE is 6, which 2 nodes"),
        (dict(PYTORCHJOB, PET_MASTER_ADDR="b"), {}, "MASTER_ADDR is 10.0.0.1 but PET_MASTER_ADDR"),
        (dict(ASCENDJOB, PET_NNODES="4"), {}, "PET_NNODES is 4, but by RANK"),
        (dict(TRAINJOB, RANK="1", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4"), {},
         "PET_NODE_RANK is 1, but by RANK"),
        # What was asked for is not what is there.
        (TRAINJOB, dict(devices=2), "--devices 2 contradicts"),
        (TRAINJOB, dict(nodes=3), "--nodes 3 contradicts"),
        (TORCHRUN, dict(devices=8), "--devices 8 contradicts"),
        (TORCHRUN, dict(nodes=4), "--nodes 4 contradicts"),
        (ASCENDJOB, dict(devices=4), "--devices 4 contradicts"),
        ({}, dict(nodes=2), "--nodes 2, but nothing in the environment says"),
        # Others' processes would each train alone.
        (dict(SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="1"), {}, "srun has started 2 processes"),
        (dict(OMPI_COMM_WORLD_SIZE="4"), {}, "mpirun has started 4 processes"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(said, variables, asked, sentence):
    said(variables)
    with pytest.raises(InputError) as refusal:
        World.from_environment(**asked)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")

"""Variables of CANN and torch_npu: ours where an owner has set none, his where he has, before
torch_npu is loaded."""

import os
import re

import pytest

from components.train.devices.joined import COLLECTIVES
from shared.ascend import environment
from tests import tiny
from tests.asking import as_flags, refusal
from tests.on_npu import on_npu
from tests.places import ROOT

OURS = {
    "TASK_QUEUE_ENABLE": "1",
    "ACL_OP_COMPILER_CACHE_MODE": "enable",
    "ACL_OP_COMPILER_CACHE_DIR": "/caches/pix2pix-pipeline/npu-operators",
    "HCCL_CONNECT_TIMEOUT": "600",
    "HCCL_EXEC_TIMEOUT": "3672",
    "HCCL_EVENT_TIMEOUT": "3740",
    "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
}
CACHES = {"XDG_CACHE_HOME": "/caches"}


def test_what_nobody_has_set_is_set():
    assert environment.defaults(CACHES) == OURS
    assert environment.defaults(CACHES | OURS) == {}  # as in a rank, which inherits them
    alone, rank = CACHES | {"LOCAL_WORLD_SIZE": "1"}, CACHES | {"LOCAL_WORLD_SIZE": "8"}
    assert environment.defaults(alone) == OURS
    assert environment.defaults(rank) == OURS | {"CPU_AFFINITY_CONF": "1"}


@pytest.mark.parametrize("name", [*OURS, "CPU_AFFINITY_CONF"])
def test_what_an_owner_has_set_stays(name):
    given = CACHES | {"LOCAL_WORLD_SIZE": "2", name: "his"}
    assert name not in environment.defaults(given)


def test_other_names_of_the_same_are_his_choice_too():
    found = environment.defaults(CACHES | {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"})
    assert "PYTORCH_NPU_ALLOC_CONF" not in found  # torch_npu ends where both are set
    found = environment.defaults(CACHES | {"ASCEND_CACHE_PATH": "/his"})
    assert "ACL_OP_COMPILER_CACHE_DIR" not in found


def test_time_limits_of_hccl_agree_with_each_other_and_with_ours():
    """Its documentation: EVENT above EXEC; a 910 rounds EXEC down to a multiple of 68."""
    assert COLLECTIVES.total_seconds() <= int(OURS["HCCL_EXEC_TIMEOUT"]) // 68 * 68
    for execution, event in (("1800", "1868"), ("0", "0")):
        found = environment.defaults({"HCCL_EXEC_TIMEOUT": execution})
        assert found["HCCL_EVENT_TIMEOUT"] == event
    assert "HCCL_EXEC_TIMEOUT" not in environment.defaults({"HCCL_EVENT_TIMEOUT": "300"})


def test_an_owners_values_are_said(monkeypatch):
    for name, value in (OURS | CACHES | {"CPU_AFFINITY_CONF": "1"}).items():
        monkeypatch.setenv(name, value)
    for name in ("PYTORCH_ALLOC_CONF", environment.VISIBLE, environment.JIT_COMPILE):
        monkeypatch.delenv(name, raising=False)
    assert environment.kept() == []
    monkeypatch.setenv("TASK_QUEUE_ENABLE", "2")
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "3")
    assert environment.kept() == ["TASK_QUEUE_ENABLE=2", "ASCEND_RT_VISIBLE_DEVICES=3"]


def test_the_page_has_every_variable_with_its_value_and_reason():
    page = (ROOT / "docs" / "ascend_setup.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    values = {
        name: value
        for row in rows
        for name in re.findall("`([A-Z_]+)`", row[0])
        for value in row[1:2]
    }
    switches = (environment.JIT_COMPILE, environment.INTERNAL_FORMAT, environment.VISIBLE)
    assert {*OURS, "CPU_AFFINITY_CONF", *switches} <= values.keys()
    for name, value in environment.VALUES.items():
        assert values[name].strip("`").startswith(value), name
    assert all(len(row) >= 3 and row[2] for row in rows if row[0] != "`ASCEND_RT_VISIBLE_DEVICES`")


def test_switches_of_ours_are_0_or_1(monkeypatch):
    monkeypatch.setenv(environment.JIT_COMPILE, "yes")
    assert refusal(environment.is_on, environment.JIT_COMPILE) == (
        "PIPELINE_NPU_JIT_COMPILE is 'yes', which should be 0 or 1: set it so, or unset it."
    )


def test_two_names_of_the_allocator_are_refused(monkeypatch):
    monkeypatch.setenv("PYTORCH_NPU_ALLOC_CONF", "a")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "a")
    assert "are both set, and torch_npu takes one: unset one" in refusal(
        environment.refuse_two_allocators
    )


def test_a_pod_keeps_operators_on_its_workspace(monkeypatch):
    monkeypatch.setattr(os, "environ", {"HOME": "/home/app"})
    environment.keep_operators_on("/workspace")
    place = "/workspace/pix2pix-pipeline/npu-operators"
    assert os.environ["ACL_OP_COMPILER_CACHE_DIR"] == place
    environment.keep_operators_on("/another")  # an owner's own word stays
    assert os.environ["ACL_OP_COMPILER_CACHE_DIR"] == place


# In programs.


@pytest.mark.slow
def test_ranks_have_it_before_torch_npu_is_loaded(tmp_path):
    """A training on cards 2 and 5 that an owner has set up in part."""
    tiny.dataset(tmp_path / "dataset")
    places = dict(dataset=tmp_path / "dataset", model=tmp_path / "model")
    numbers = tiny.TRAIN | dict(epochs=1, epochs_decay=0, devices=2, cards=[2, 5], device="npu")
    his = dict(XDG_CACHE_HOME=str(tmp_path / "caches"), TASK_QUEUE_ENABLE="2")
    done = on_npu("train", *as_flags(**places, **numbers), NPU_STAND_IN_COUNT="2", **his)
    assert done.returncode == 0, done.stderr
    assert "TASK_QUEUE_ENABLE=2, ASCEND_RT_VISIBLE_DEVICES=2,5" in done.stdout
    assert (tmp_path / "caches" / "pix2pix-pipeline" / "npu-operators").is_dir()

    expected = environment.defaults(his | {"LOCAL_WORLD_SIZE": "2"}) | his
    expected |= {"ASCEND_RT_VISIBLE_DEVICES": "2,5", "CPU_AFFINITY_CONF": "1"}
    found = [process["environment"] for process in done.processes]
    assert sorted(one["RANK"] for one in found) == ["0", "1"]
    for one in found:
        assert {name: one.get(name) for name in expected} == expected

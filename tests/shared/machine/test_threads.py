"""Threads of computation: as many as the process may use, and none that spins while others work."""

import os
import re
import subprocess
import sys

import pytest
import torch

from components.train.__main__ import main as train
from shared.machine import cgroups, threads
from tests import tiny
from tests.asking import as_flags
from tests.places import ROOT

VERSION_2 = {
    "proc/self/cgroup": "0::/pods/a\n",
    "sys/fs/cgroup/pods/a/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/pods/cpu.max": "max 100000\n",
}
VERSION_1 = {
    "proc/self/cgroup": "7:cpu,cpuacct:/docker/of-the-host\n3:memory:/a\n1:name=systemd:/a\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us": "1000\n",  # of others
    "sys/fs/cgroup/cpu/docker/cpu.cfs_period_us": "100000\n",
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of eight CPUs with such files, and an environment that says nothing."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    for name in (threads.COUNT, *threads.WAITING):
        monkeypatch.setenv(name, "")  # so that what is set is taken back
        monkeypatch.delenv(name)

    def machine(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return machine


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        (VERSION_2, 2),
        (VERSION_2 | {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (VERSION_2 | {"sys/fs/cgroup/pods/a/cpu.max": "3200000 100000\n"}, 8),
        (VERSION_1 | {"proc/self/cgroup": "7:cpu,cpuacct:/elsewhere\n"}, 3),
        (VERSION_1, 1),
        (VERSION_1 | {"sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us": "-1\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    ],
)
def test_a_process_takes_the_cpus_that_it_has_time_of(machine, files, count):
    machine(files)
    assert threads.usable_cpus() == count
    threads.set_defaults()
    assert os.environ.get(threads.COUNT) == (str(count) if count < 8 else None)
    of = f"{count} of 8 threads, as this process may use no more" if count < 8 else "8 threads"
    assert threads.described(count) == of


def test_what_the_environment_says_stays(machine, monkeypatch):
    machine(VERSION_2)
    monkeypatch.setenv(threads.COUNT, "5")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    threads.set_defaults()
    assert os.environ[threads.COUNT] == "5" and "GOMP_SPINCOUNT" not in os.environ
    assert threads.described(5) == "5 of 8 threads (OMP_NUM_THREADS)"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    threads.set_defaults()
    assert int(os.environ["GOMP_SPINCOUNT"]) < 300_000


PRESSURE = "some avg10={} avg60=90.00 avg300=9.00 total=1\nfull avg10=99.00 avg60=0 avg300=0\n"


@pytest.mark.parametrize(
    ("files", "load", "remark"),
    [
        (PRESSURE.format("12.00"), 99, ""),
        (
            PRESSURE.format("97.40"),
            0,
            "The machine is busy: work waited for a CPU in 97 % of the last ten seconds; "
            "everything takes longer.",
        ),
        ("", 8.5, ""),
        ("", 24, "The machine is busy: its load is 24.0 on 8 CPUs; everything takes longer."),
    ],
)
def test_other_work_is_said(machine, monkeypatch, files, load, remark):
    machine({"proc/pressure/cpu": files})
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0, 0))
    assert threads.busy_remark() == remark


def test_a_training_says_its_threads_and_other_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(threads, "busy_remark", lambda: "The machine is busy.")
    monkeypatch.setattr(os, "cpu_count", lambda: 1 << 20)
    tiny.dataset(tmp_path / "dataset")
    flags = tiny.TRAIN | dict(epochs=1, epochs_decay=0, device="cpu", ndf=4, save_every_minutes=1)
    flags |= dict(precision="fp32")
    train(as_flags(dataset=tmp_path / "dataset", model=tmp_path / "model", **flags))
    said = capsys.readouterr().out
    count = threads.described(torch.get_num_threads())
    assert f"), {count}, fp32, torch " in said and "of 1048576 threads" in count
    assert "\nThe machine is busy.\n" in said


def openmp_of(*words: str, bound_to: set[int] | None = None) -> tuple[dict, str]:
    """What OpenMP says of itself when a command of ours loads it, and what that prints."""
    ours = {threads.COUNT, *threads.WAITING}
    given = {name: value for name, value in os.environ.items() if name not in ours}
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=given | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=bound_to and (lambda: os.sched_setaffinity(0, bound_to)),
    )
    said = re.findall(r"(\w+) = '(.*)'", ended.stderr)
    return dict(reversed(said)), ended.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="another OpenMP, and no affinity")
def test_openmp_is_told_before_a_step_loads_it(tmp_path):
    """The step refuses, once torch is there."""
    step = ("-m", "components.train", "--dataset", str(tmp_path), "--model", str(tmp_path / "m"))
    told, _ = openmp_of(*step)
    if "GOMP_SPINCOUNT" not in told:
        pytest.skip("torch has another OpenMP than GNU's")
    assert int(told["GOMP_SPINCOUNT"]) == int(threads.WAITS["GOMP_SPINCOUNT"])


@pytest.mark.skipif(sys.platform != "linux", reason="there is no affinity")
def test_a_process_bound_to_one_cpu_computes_with_one_thread():
    script = "from shared.device import pick; print(pick('cpu').describe())"
    _, said = openmp_of("-c", script, bound_to={min(os.sched_getaffinity(0))})
    alone = (
        "1 thread," if os.cpu_count() == 1 else f"1 of {os.cpu_count()} threads, as this process"
    )
    assert alone in said

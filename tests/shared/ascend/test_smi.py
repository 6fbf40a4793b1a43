"""How busy NPUs are, as npu-smi tells it and MLflow gets it; training never waits for it."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from components.train.__main__ import main
from shared.ascend import smi
from shared.tracking import JOURNAL, system
from shared.tracking.store import URI
from tests import tiny
from tests.asking import as_flags
from tests.stand_ins import npu_smi

SILENT = "dcmi module initialize failed. ret is -8005"
LINE = "warning: MLflow: the run goes on without figures of npu-smi ({}).\n"


def chip(number: int, busy: float, used: float, whole: float, **more: float) -> dict[str, float]:
    figures = dict(utilization_percentage=busy, memory_usage_megabytes=used, **more)
    figures["memory_usage_percentage"] = 100 * used / whole
    return {f"npu_{number}_{name}": value for name, value in figures.items()}


@pytest.mark.parametrize(
    "table, figures",
    [
        (
            npu_smi.B910.replace("| 0           0 ", "| 12          0 ", 1),
            chip(0, 12, 3396, 65536, power_usage_watts=94.7, temperature_celsius=54)
            | chip(1, 0, 3396, 65536, power_usage_watts=94.7, temperature_celsius=54),
        ),
        (npu_smi.A910, chip(3, 0, 0, 32768, power_usage_watts=62.2, temperature_celsius=26)),
        # A card of two chips says its watts at the first, and their numbers in torch.
        (
            npu_smi.A3,
            chip(4, 0, 3419, 65536, power_usage_watts=178.7, temperature_celsius=37)
            | chip(5, 0, 3196, 65536, temperature_celsius=36),
        ),
        (
            npu_smi.P310,
            chip(0, 0, 1074, 21534, power_usage_watts=15.8, temperature_celsius=42)
            | chip(1, 0, 1070, 21534, temperature_celsius=43),
        ),
        (npu_smi.B310, chip(0, 0, 3628, 15609, power_usage_watts=0, temperature_celsius=65)),
        (npu_smi.P950, chip(0, 0, 5239, 131072, power_usage_watts=195.6, temperature_celsius=56)),
        (SILENT, {}),
        ("", {}),
    ],
    ids=["910B", "910A", "A3", "310P", "310B", "950", "no driver", "nothing"],
)
def test_figures_of_every_generation(table, figures):
    assert smi.figures_of(table) == figures


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains beside an npu-smi that answers so, and returns the values of each metric of the
    machine in the journal."""
    tiny.dataset(tmp_path / "dataset", train=2)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv(JOURNAL, str(tmp_path / "journal"))
    monkeypatch.delenv(URI, raising=False)
    monkeypatch.setattr(system, "EVERY_S", 0.05)
    monkeypatch.setattr(system, "PATIENCE_S", 0.5)

    def call(answer: str, epochs: int) -> dict[str, list[float]]:
        npu_smi.install(tmp_path / "bin", {"info": answer})
        values = tiny.TRAIN | dict(dataset=tmp_path / "dataset", model=tmp_path / "model")
        values |= dict(device="cpu", epochs=epochs, epochs_decay=0, validate_every_epochs=0)
        main(as_flags(**values))
        found: dict[str, list[float]] = {}
        for file in (tmp_path / "journal").glob("*.jsonl"):
            for entry in map(json.loads, file.read_text().splitlines()):
                for name, value in entry.get("values", {}).items():
                    if name.startswith("system/"):
                        found.setdefault(name, []).append(value)
        return found

    return call


def test_power_load_memory_and_temperature_are_curves_of_the_run(train, capsys):
    found = train(npu_smi.A3, epochs=4)
    assert {name: values[0] for name, values in found.items() if "npu" in name} == {
        f"system/{name}": value for name, value in smi.figures_of(npu_smi.A3).items()
    }
    assert "system/cpu_utilization_percentage" in found and not capsys.readouterr().err


def test_one_that_hangs_is_one_line_and_holds_nothing_up(train, capsys, tmp_path):
    found = train("!sleep 600 & echo $! > $0.child; wait", epochs=15)
    assert capsys.readouterr().err == LINE.format("no answer within 0.5 s")
    assert len(found["system/cpu_utilization_percentage"]) > 1
    assert not any("npu" in name for name in found)
    child, until = (tmp_path / "bin/npu-smi.child").read_text().strip(), time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < until, "what it started goes on"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "program, answer, reason",
    [
        ("npu-smi", f"echo {SILENT}", "dcmi module initialize failed; ret is -8005"),
        ("npu-smi", "kill -9 $$", "nothing"),
        ("nvidia-smi", "echo NVIDIA-SMI has failed; exit 9", "NVIDIA-SMI has failed"),
    ],
)
def test_a_program_without_cards_is_said_once(
    tmp_path, monkeypatch, capsys, program, answer, reason
):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(system, "EVERY_S", 0.01)
    (tmp_path / program).write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / program).chmod(0o755)
    rounds, five = [], threading.Event()

    def log(figures: dict[str, float]) -> None:
        rounds.append(figures)
        if len(rounds) == 5:
            five.set()

    sampler = system.Sampler(log)
    assert five.wait(20)
    sampler.stop()
    line = LINE.replace("npu-smi", program).format(reason)
    assert [one for one in capsys.readouterr().err.splitlines(True) if program in one] == [line]


def is_running(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().split()[2] != "Z"
    except OSError:
        return False

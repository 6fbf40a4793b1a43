"""The benchmarks of developers: that they compare values before they look at the clock, and run."""

import json
import time

import pytest

from components.prepare.__main__ import demo
from shared.tracking import store_uri
from tests import tiny
from tests.benchmarks import (
    blank_maps,
    cluster_features,
    prepare_scale,
    tracking_cost,
    train_loader,
)
from tests.benchmarks.train_step import compare_pooling, compare_steps
from tests.benchmarks.turns import Turns, interleaved


def test_calls_take_turns_and_are_compared_within_a_round(monkeypatch):
    """On a clock of its own: the machine is twice as slow in the second round that counts."""
    now, order = 0.0, []
    durations = iter([9, 9, 4, 2, 8, 4, 4, 1])

    def call(name):
        nonlocal now
        order.append(name)
        now += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    turns = interleaved({name: lambda name=name: call(name) for name in "ab"}, rounds=3)
    assert order == list("abababab")
    assert turns == {"a": Turns(4, 1), "b": Turns(2, 2)}


def test_a_step_and_pooling_equal_the_plain_ones():
    """The benchmark stops where losses or means differ."""
    steps = compare_steps(True, 32, 64, ngf=2, rounds=1)
    assert steps.keys() == {"plain fp32", "ours fp32", "ours bf16"}
    assert compare_pooling(32, 64, rounds=1).keys() == {"loop", "scatter-mean"}


def test_features_equal_the_references_loop(tmp_path, capsys):
    tiny.dataset(tmp_path, train=3, height=64, width=128)
    flags = ["--dataset", str(tmp_path), "--images", "2", "--rounds", "1", "--batch-size", "1"]
    cluster_features.main(flags)
    out = capsys.readouterr().out
    assert out.startswith("2 images of 64x128, ") and "pooling and picking            ours" in out


def test_samples_equal_those_of_a_plain_loader(tmp_path, capsys):
    demo(tmp_path / "raw", train=2, test=1, size="64x128")
    flags = ["--raw-data", str(tmp_path / "raw"), "--size", "32x64"]
    train_loader.main([*flags, "--rounds", "1", "--seconds", "0.01"])
    found = last_json(capsys)
    assert "cache of the data set" in found
    assert all(one["largest_photo_difference"] <= 2 for one in found.values())


@pytest.mark.parametrize(
    "benchmark, flags, things",
    [
        (prepare_scale.main, ["--counts", "20"], "pairs"),
        pytest.param(
            *(cluster_features.main, ["--scale", "--counts", "4"], "images"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_whole_step_has_its_time_and_memory(benchmark, flags, things, capsys):
    benchmark(flags)
    (row,) = last_json(capsys)
    assert row[things] == int(flags[-1])
    assert row[f"{things}_per_second"] == pytest.approx(row[things] / row["seconds"])
    assert 20 < row["peak_memory_mb"] < 4000


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
def test_logging_costs_less_than_a_hundredth_of_a_step(capsys, monkeypatch, tmp_path):
    """In the thread that waits for it, by its own processor time."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(tmp_path))
    monkeypatch.setattr(tracking_cost, "STEP_S", 0.02)
    tracking_cost.main(["--steps", "100"])
    assert 0 < last_json(capsys)["own_thread_ms"] < 1


@pytest.mark.slow
def test_blank_maps_agree_now(capsys):
    blank_maps.main(["--ngf", "2", "--height", "32", "--width", "64"])
    for of_maps in last_json(capsys).values():
        before, now = of_maps["one label or colour"]["torch fp32"]
        assert now < 1e-6 and before > 0.1
        assert of_maps["one label or colour"]["ONNX fp32"][1] < 1e-6
        assert of_maps["a street"]["ONNX fp32"][1] < 1e-4

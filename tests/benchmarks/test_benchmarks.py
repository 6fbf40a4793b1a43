"""The benchmarks of developers: that they compare values before they look at the clock, and run."""

import json
import time

import pytest

from components.prepare.__main__ import demo
from shared.errors import InputError, WorkFailed
from shared.tracking import store_uri
from tests import tiny
from tests.benchmarks import (
    blank_maps,
    cluster_features,
    precision_quality,
    prepare_scale,
    tracking_cost,
    train_loader,
    train_step,
    two_processes,
)
from tests.benchmarks.train_step import PIX2PIX, PIX2PIXHD, Case, compare_steps
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
    assert turns == {"a": Turns(4, 1, 1, 1), "b": Turns(2, 2, 2, 4)}


SMALL = PIX2PIXHD | dict(ngf=2, ndf=2, n_blocks_global=1, n_blocks_local=1)


@pytest.mark.parametrize(
    "case",
    [
        Case(SMALL | dict(feat_num=3), height=32, width=64),
        Case(SMALL | dict(netG="local"), dict(epochs_fix_global=1), height=32, width=64),
        Case(
            PIX2PIX | dict(netG="unet_128", ngf=2, ndf=2),
            *({}, 128, 128, 2),
            is_pix2pix=True,
        ),
    ],
    ids=["features", "local, global part fixed", "pix2pix"],
)
def test_a_step_equals_a_plain_one(case):
    """The benchmark stops where losses differ."""
    outcome = compare_steps(case, rounds=1)
    assert outcome.beside == "a plain step"
    assert outcome.largest_difference["fp32"] < 1e-5 < outcome.largest_difference["bf16"]
    assert outcome.turns.keys() == {"theirs", "fp32", "bf16"}


def test_no_clock_runs_where_losses_differ(monkeypatch):
    monkeypatch.setattr(train_step, "interleaved", None)
    monkeypatch.setitem(train_step.LIMITS, "bf16", 0.0)
    with pytest.raises(WorkFailed, match="losses in bf16 are .* nothing is timed"):
        compare_steps(Case(SMALL, height=32, width=64), rounds=1)


def test_a_folder_without_the_program_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} has no models.pix2pixHD_model"):
        compare_steps(Case(SMALL, height=32, width=64), 1, nvidia=tmp_path)


@pytest.mark.slow
def test_the_table_of_steps_is_printed_for_people_and_programs(capsys):
    train_step.main(["--cases", "labels", "VGG", "--rounds", "1"])
    found = last_json(capsys)
    assert found["labels"]["turns"]["fp32"]["seconds"] > 0
    assert found["VGG"]["largest_difference"]["bf16"] < 3e-2


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


@pytest.mark.slow
def test_a_training_on_many_pairs_has_its_time_and_memory(capsys):
    prepare_scale.main(["--counts", "20", "--train-steps", "3"])
    (row,) = last_json(capsys)
    assert row["step_ms"] > 0 and row["step_without_loading_ms"] > 0
    assert row["pairs"] == 20 and row["training_peak_memory_mb"] > 20


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


@pytest.mark.slow
def test_precisions_are_compared_by_trainings(tmp_path, capsys):
    tiny.dataset(tmp_path, train=2, test=2, height=64, width=128)
    flags = ["--dataset", str(tmp_path), "--seeds", "2", "--epochs", "1", "--epochs-decay", "0"]
    precision_quality.main([*flags, "--ngf", "2"])
    found = last_json(capsys)
    assert [len(runs) for runs in found.values()] == [2, 2]
    assert found["fp32"][0] != found["bf16"][0] != found["bf16"][1]
    assert {"G_GAN", "val/psnr_db", "val/ssim"} <= found["bf16"][0].keys()


@pytest.mark.slow
def test_two_processes_are_timed_beside_one(capsys):
    two_processes.main(["--rounds", "1", "--ngf", "2", "--height", "32", "--width", "64"])
    found = last_json(capsys)
    assert found["ratio"] > 0 and len(found) == 5

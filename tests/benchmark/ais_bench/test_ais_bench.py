"""ais_bench as a command, over a stand-in that speaks as its documentation says: a contract test,
no NPU took part."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components.benchmark.__main__ import main
from components.benchmark.ais_bench.failures import AisBenchFailed
from components.benchmark.ais_bench.figures import read_printed
from components.benchmark.ais_bench.rows import measure_om
from components.benchmark.ais_bench.tool import AisBench
from components.export.__main__ import main as export_main
from shared.contracts.exported import Graph, OmFile
from shared.data.images import read_ids, read_picture
from shared.files.digests import digests_of
from tests import tiny
from tests.asking import as_flags, refusal, refusal_of_command
from tests.places import STAND_INS
from tests.stand_ins.om import H, W, channels_om, maps_om

INPUT_BYTES, OUTPUT_BYTES = H * W * (1 + 4), H * W * 3 * 4  # of one sample of maps_om


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))


def other_ais_bench(folder: Path, monkeypatch, code: str) -> None:
    """An ais_bench that does only this."""
    (folder / "ais_bench").mkdir()
    (folder / "ais_bench" / "__init__.py").write_text("")
    (folder / "ais_bench" / "__main__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def problem(function, *args, **kwargs) -> str:
    with pytest.raises(AisBenchFailed) as stop:
        function(*args, **kwargs)
    assert "\n" not in str(stop.value)
    return str(stop.value)


# Figures


def test_figures_of_pure_inference(tmp_path, capsys):
    """Executions of 10 .. 14 ms; two inputs of 0.5 ms and one output of 0.25 ms are copied."""
    om = maps_om(tmp_path / "a_bs4.om", batch=4)
    result = AisBench(om, batch_size=4, device=0, warmup=2).pure(loop=5)
    assert result.figures() == pytest.approx(
        dict(
            batch_size=4,
            compute_ms_mean=12.0,
            compute_ms_p50=12.0,
            compute_ms_p90=13.6,
            compute_ms_p99=13.96,
            h2d_ms=1.0,
            d2h_ms=0.25,
            device_images_per_second=4000 / 12,
            images_per_second=4000 / 13.25,
        )
    )
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"benchmark: {shlex.quote(sys.executable)} -m ais_bench --model {om} --loop 5 --device 0 "
        "--warmup_count 2"
    )
    assert not Path(re.search(r"--output (\S+)", printed)[1]).exists()
    assert list(tmp_path.iterdir()) == [om]


def test_a_file_with_gears(tmp_path, capsys):
    om = maps_om(tmp_path / "gears.om", batch=None, dynamic_batch_size="1,2,4")
    assert AisBench(om, 2, gears=True).pure(loop=1).batch_size == 2
    assert "--dymBatch 2" in capsys.readouterr().out
    assert (
        problem(AisBench(om, 8, gears=True).pure, loop=1) == "the dymBatch parameter is not correct"
    )
    assert "dynamic batch om model detected" in problem(AisBench(om, 2).pure, loop=1)


def test_rows_of_several_batch_sizes(tmp_path):
    files = []
    for batch in (1, 4):
        maps_om(tmp_path / f"bs{batch}.om", batch=batch)
        files.append(OmFile(file=f"bs{batch}.om", soc_version="Ascend310P3", batch_sizes=[batch]))
    one, four, eight = measure_om(tmp_path, files, (1, 4, 8), loop=3, warmup=1)
    assert (one.runtime, one.device, one.precision) == ("ais_bench", "npu", "fp16")
    assert (one.batch_size, one.problem) == (1, "")
    assert four.device_images_per_second == pytest.approx(4000 / 11)
    assert four.images_per_second == pytest.approx(4000 / 12.25)
    latencies = [four.latency_ms_p50, four.latency_ms_p90, four.latency_ms_p99]
    assert latencies == pytest.approx([12.25, 13.05, 13.23])  # 11, 11.8, 11.98 and 1.25 of copies
    assert (four.end_to_end_images_per_second, four.peak_memory_mb, four.speedup) == (
        None,
        None,
        None,
    )
    assert (eight.batch_size, eight.problem) == (8, "no file was compiled for this batch size")


def test_a_compiled_file_of_another_export_is_said(tmp_path, capsys):
    """By the card that lies beside it."""
    om = maps_om(tmp_path / "generator_bs4.om", batch=4)
    tiny.export_card(tmp_path, tiny.architecture(), Graph(), files=digests_of([om]))
    measure = ["ais_bench", "pure", *as_flags(om=om, batch_size=4, warmup=0, loop=1)]
    main(measure)
    maps_om(om, batch=1)
    assert refusal_of_command(capsys, main, *measure) == (
        f"--om {om}: generator_bs4.om is not the file that was written with export.json: copy the "
        "folder again, or make it again with `python -m components.export`."
    )


@pytest.mark.parametrize(
    ("memory", "sentence"),
    [
        (
            4 * INPUT_BYTES - 1,
            r"out of memory \(load model from file failed, model file is \S+/gears.om\)",
        ),
        (
            4 * (INPUT_BYTES + OUTPUT_BYTES) - 1,
            r"out of memory \(\[207001\]\[Error code unknown\] Malloc ptrData failed\)",
        ),
    ],
)
def test_want_of_memory_is_a_row(tmp_path, monkeypatch, memory, sentence):
    monkeypatch.setenv("AIS_STAND_IN_MEMORY", str(memory))
    maps_om(tmp_path / "gears.om", batch=None, dynamic_batch_size="1,4")
    maps_om(tmp_path / "bs2.om", batch=2)
    files = [
        OmFile(file="bs2.om", soc_version="Ascend310P3", batch_sizes=[2]),
        OmFile(file="gears.om", soc_version="Ascend310P3", batch_sizes=[1, 4]),
    ]
    four, two = measure_om(tmp_path, files, (4, 2), loop=1, warmup=0)
    assert re.fullmatch(sentence, four.problem)
    assert four.images_per_second is four.device_images_per_second is four.latency_ms_p50 is None
    assert bool(two.problem) == (memory < 2 * (INPUT_BYTES + OUTPUT_BYTES))


def test_older_summaries_without_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("AIS_STAND_IN_PRINTS", "2023")
    result = AisBench(maps_om(tmp_path / "a.om"), 1).pure(loop=2)
    assert (result.h2d_ms, result.d2h_ms, result.compute_ms_mean) == (1.0, 0.25, 10.5)


@pytest.mark.parametrize("year", ["2023", "2025"])
def test_without_a_summary_file_the_printed_figures_are_taken(tmp_path, monkeypatch, year):
    monkeypatch.setenv("AIS_STAND_IN_SUMMARY", "0")
    monkeypatch.setenv("AIS_STAND_IN_PRINTS", year)
    result = AisBench(maps_om(tmp_path / "a.om", batch=2), 2).pure(loop=5)
    assert result.figures() == pytest.approx(
        dict(
            batch_size=2,
            compute_ms_mean=12.0,
            compute_ms_p50=12.0,
            compute_ms_p90=None,
            compute_ms_p99=13.96,
            h2d_ms=None,
            d2h_ms=None,
            device_images_per_second=2000 / 12,
            images_per_second=None,
        )
    )


@pytest.mark.parametrize(
    "throughput",
    [
        "[INFO] throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(0.6610000133514404): "
        "1512.8592735267011",
        "throughput 1000*batchsize(1)/NPU_compute_time.mean(0.6610000133514404): "
        "1512.8592735267011",
        "[INFO] Throughput 1000*batchsize.mean(1.0)/NPU_compute_time.mean(0.6610000133514404): "
        "1512.8592735267011",
    ],
)
def test_printed_figures_as_documented(throughput):
    """The sample of ais_bench's README, as versions of 2022 to 2026 print it."""
    result = read_printed(
        "[INFO] -----------------Performance Summary------------------\n"
        "[INFO] NPU_compute_time (ms): min = 0.6610000133514404, max = 0.6620000133514404, mean = "
        "0.6610000133514404, "
        f"median = 0.6610000133514404, percentile(99%) = 0.6620000133514404\n{throughput}\n"
    )
    assert result.device_images_per_second == pytest.approx(1512.8592735267011)
    assert (result.compute_ms_p50, result.compute_ms_p99) == (
        0.6610000133514404,
        0.6620000133514404,
    )


# Over files


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(3)
    pairs = {}
    for name in ("scene_2", "scene_10", "scene_1.v2"):
        labels, instances = rng.integers(0, 6, (2, H, W), dtype=np.uint8)
        pairs[name] = {"input": labels, "instance": instances}
    tiny.write(tmp_path / "dataset", {"test": pairs})
    return tmp_path / "dataset"


def prepared(dataset: Path, out: Path, *flags) -> list[Path]:
    export_main(["offline", "inputs", "--dataset", str(dataset), "--out", str(out), *flags])
    return [out / "labels", out / "instances"] if "maps" in flags else [out]


@pytest.mark.parametrize(("file_format", "outfmt"), [("bin", "BIN"), ("npy", "NPY")])
def test_from_a_data_set_to_pictures_with_maps(dataset, tmp_path, capsys, file_format, outfmt):
    """The seed's three scripts as one command each. Three samples in batches of two: the last one
    is filled up."""
    inputs = prepared(dataset, tmp_path / "inputs", "--form", "maps", "--format", file_format)
    om, out = maps_om(tmp_path / "bs2.om", batch=2), tmp_path / "results" / "bs2"
    flags = as_flags(om=om, inputs=",".join(map(str, inputs)), out=out, batch_size=2, outfmt=outfmt)
    main(["ais_bench", "inputs", *map(str, flags)])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    # Two batches: 10 and 11 ms.
    assert figures["device_images_per_second"] == pytest.approx(2000 / 10.5)
    names = [f"{name}_0.{file_format}" for name in ("scene_1", "scene_10", "scene_2")]
    assert {path.name for path in (out / "outputs").iterdir()} == set(names)

    pictures = tmp_path / "pictures"
    export_main(
        ["offline", "pictures", *as_flags(outputs=f"{out}/outputs", dataset=dataset, out=pictures)]
    )
    for name in ("scene_2", "scene_10", "scene_1.v2"):
        labels = read_ids(dataset / "test_label" / f"{name}.png")
        instances = read_ids(dataset / "test_inst" / f"{name}.png")
        wanted = np.stack([labels, 255 - labels, instances])
        np.testing.assert_array_equal(read_picture(pictures / f"{name}.png"), wanted)


def test_from_a_data_set_to_pictures_with_the_seeds_channels(dataset, tmp_path):
    inputs = prepared(dataset, tmp_path / "inputs")
    AisBench(channels_om(tmp_path / "seed.om"), 1).over_inputs(inputs, tmp_path / "out")
    outputs, pictures = tmp_path / "out" / "outputs", tmp_path / "pictures"
    assert (outputs / "scene_2_0.bin").stat().st_size == OUTPUT_BYTES
    export_main(["offline", "pictures", *as_flags(outputs=outputs, size=f"{H}x{W}", out=pictures)])
    labels = read_ids(dataset / "test_label" / "scene_2.png")
    wanted = np.stack([labels == c for c in range(3)]) * 255
    np.testing.assert_array_equal(read_picture(pictures / "scene_2.png"), wanted)


def test_inputs_that_ais_bench_refuses_leave_no_results(dataset, tmp_path):
    labels, instances = prepared(dataset, tmp_path / "inputs", "--form", "maps")
    om, out = maps_om(tmp_path / "a.om"), tmp_path / "out"
    text = problem(AisBench(om, 1).over_inputs, [labels], out)
    assert text == "Invalid args, args input dir num:1 not equal to model inputs num:2"
    text = problem(AisBench(om, 1).over_inputs, [instances, labels], out)
    assert text == f"arg0 tensorsize: {H * W} filesize: {4 * H * W} not match"
    assert (
        problem(AisBench(om, 2).over_inputs, [labels, instances], out)
        == "a.om takes batches of 1, not of 2"
    )
    (labels / "scene_2.bin").chmod(0o666)
    text = problem(AisBench(om, 1).over_inputs, [labels, instances], out)
    assert text.startswith(
        f"The file {labels}/scene_2.bin is group writable, or is others writable, as import file"
    )
    assert list(out.iterdir()) == []
    (labels / "scene_2.bin").chmod(0o640)
    AisBench(om, 1).over_inputs([labels, instances], out)
    assert (out / "outputs" / "scene_2_0.bin").is_file()


def test_results_that_overwrite_each_other_are_noticed(tmp_path):
    """It cuts names at the first dot."""
    for name in ("scene.1", "scene.2"):
        file = tmp_path / "inputs" / f"{name}.npy"
        file.parent.mkdir(exist_ok=True)
        np.save(file, np.zeros((36, H, W), np.float32))
        file.chmod(0o640)
    om = channels_om(tmp_path / "a.om")
    text = problem(AisBench(om, 1).over_inputs, [tmp_path / "inputs"], tmp_path / "out")
    assert text == "there are 1 result files for 2 inputs"


def test_over_inputs_refuses_before_it_starts(tmp_path):
    om, folder = maps_om(tmp_path / "a.om"), tmp_path / "inputs"
    text = refusal(AisBench(om, 1).over_inputs, [folder], tmp_path / "out")
    assert (
        f"--inputs {folder} is not a folder: "
        "give what `python -m components.export offline inputs` wrote" in text
    )
    folder.mkdir()
    (tmp_path / ".unfinished").touch()
    assert f"--inputs {folder} is not whole, as its command has not come to its end" in refusal(
        AisBench(om, 1).over_inputs, [folder], tmp_path / "out"
    )
    (tmp_path / ".unfinished").unlink()
    assert f"--out {tmp_path} is not empty: give a new or empty folder" in refusal(
        AisBench(om, 1).over_inputs, [folder], tmp_path
    )
    text = refusal(AisBench(om, 1).over_inputs, [folder], om)
    assert f"--out {om} cannot be written (File exists): give a place you can write to" in text
    text = refusal(AisBench(tmp_path / "b.om", 1).over_inputs, [folder], tmp_path / "out")
    assert (
        f"--om {tmp_path}/b.om is not a file: compile one with `python -m components.export "
        "--format om`" in text
    )


# What goes wrong


def test_not_installed(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    text = refusal(AisBench(maps_om(tmp_path / "a.om"), 1).pure, loop=1)
    assert text.startswith(
        f"ais_bench is not there for {sys.executable} (No module named ais_bench): it is not on "
        "PyPI"
    )
    assert "install the wheels of ais_bench and aclruntime" in text


def test_pypis_package_of_that_name_is_recognised(tmp_path, monkeypatch):
    """ais_bench_benchmark 3.1.20260630: ais_bench/__init__.py and benchmark/, but no __main__.py;
    its command is a console script."""
    (tmp_path / "ais_bench" / "benchmark").mkdir(parents=True)
    (tmp_path / "ais_bench" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = refusal(AisBench(maps_om(tmp_path / "a.om"), 1).pure, loop=1)
    assert "is not Ascend's tool for .om files but PyPI's ais-bench-benchmark" in text
    assert "`pip uninstall ais-bench-benchmark`, then install the wheels" in text


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "import aclruntime",
            "(No module named 'aclruntime'): it is not on PyPI, so install the wheels",
        ),
        (
            "raise ImportError('libascendcl.so: cannot open shared object file')",
            "ais_bench finds no CANN (libascendcl.so",
        ),
    ],
)
def test_half_installed(tmp_path, monkeypatch, code, sentence):
    other_ais_bench(tmp_path, monkeypatch, code)
    assert sentence in refusal(AisBench(maps_om(tmp_path / "a.om"), 1).pure, loop=1)


def test_no_npu(tmp_path, monkeypatch):
    monkeypatch.setenv("AIS_STAND_IN_DEVICES", "1")
    text = refusal(AisBench(maps_om(tmp_path / "a.om"), 1, device=1).pure, loop=1)
    assert text.startswith(
        "--device 1 cannot be opened by ais_bench (acl open device 1 failed): look at `npu-smi "
        "info`"
    )


def test_files_that_the_npu_cannot_run(tmp_path, monkeypatch):
    om = maps_om(tmp_path / "a.om", soc_version="Ascend910B")
    assert (
        problem(AisBench(om, 1).pure, loop=1)
        == "compiled for Ascend910B but the NPU is an Ascend310P3"
    )
    om.chmod(0o664)
    assert "is group writable" in problem(AisBench(om, 1).pure, loop=1)
    om.chmod(0o600)
    om.write_bytes(b"no model")
    assert (
        problem(AisBench(om, 1).pure, loop=1) == f"load model from file failed, model file is {om}"
    )
    text = problem(AisBench(maps_om(tmp_path / "ä.om"), 1).pure, loop=1)
    assert text == "path contains illegal char, legal chars include A-Z a-z 0-9 _ - / ."


def test_another_batch_size_than_the_files(tmp_path):
    om = maps_om(tmp_path / "bs4.om", batch=4)
    assert problem(AisBench(om, 8).pure, loop=1) == "bs4.om takes batches of 4, not of 8"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("", "ais_bench ended well but left no summary file and printed no figures"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "killed by the system, most likely for want of memory on the host",
        ),
        ("raise MemoryError", "out of memory (MemoryError)"),
        (
            "raise RuntimeError('[1][ACL: invalid parameter] ')",
            "RuntimeError: [1][ACL: invalid parameter]",
        ),
        (
            "import argparse; argparse.ArgumentParser().parse_args()",
            "unrecognized arguments: --model",
        ),
        ("raise SystemExit(1)", "it said nothing"),
    ],
)
def test_other_ends(tmp_path, monkeypatch, code, sentence):
    other_ais_bench(tmp_path, monkeypatch, code)
    assert sentence in problem(AisBench(maps_om(tmp_path / "a.om"), 1).pure, loop=1)


# The command


def test_command_line(tmp_path, capsys):
    om = maps_om(tmp_path / "a_bs2.om", batch=2)
    main(["ais_bench", "pure", "--om", str(om), "--batch-size", "2", "--loop", "3"])
    _, names, values, line = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", names.strip())[:4] == [
        "file",
        "batch",
        "NPU alone, images/s",
        "with copies, images/s",
    ]
    assert values.split() == "a_bs2.om 2 181.818 163.265 11.000 11.800 11.980 1.000 0.250".split()
    assert len(names) == len(values)
    assert json.loads(line)["om"] == str(om) and json.loads(line)[
        "images_per_second"
    ] == pytest.approx(2000 / 12.25)


@pytest.mark.parametrize(
    ("flags", "status", "start"),
    [
        (["--batch-size", "2"], 1, "ais_bench failed: a.om takes batches of 1, not of 2"),
        (["--device", "7"], 2, "ais_bench refused: --device 7 cannot be opened by ais_bench"),
    ],
)
def test_exit_statuses(tmp_path, capsys, flags, status, start):
    with pytest.raises(SystemExit) as stop:
        main(["ais_bench", "pure", "--om", str(maps_om(tmp_path / "a.om")), *flags])
    text = capsys.readouterr().err
    assert stop.value.code == status and text.startswith(start) and text.count("\n") == 1


# The stand-in itself


def test_the_stand_in_prints_what_is_documented(tmp_path):
    """ASCEND.md 6.2 and 6.4: lines, their order, exit statuses."""

    def run(*flags) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "ais_bench", *map(str, flags)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    om = maps_om(tmp_path / "pix2pixhd_bs1.om")
    done = run("--model", om, "--loop", 2)
    documented = [
        r"\[INFO\] acl init success",
        r"\[INFO\] open device 0 success",
        r"\[INFO\] create new context",
        r"\[INFO\] load model \S+pix2pixhd_bs1.om success",
        r"\[INFO\] create model description success",
        r"\[INFO\] try get model batchsize:1",
        r"\[INFO\] warm up 1 done",
        r"\[INFO\] -----------------Performance Summary------------------",
        r"\[INFO\] NPU_compute_time \(ms\): min = ([\d.]+), max = ([\d.]+), mean = ([\d.]+), "
        r"median = ([\d.]+), "
        r"percentile\(99%\) = ([\d.]+)",
        r"\[INFO\] throughput "
        r"1000\*batchsize\.mean\((\d+(?:\.\d+)?)\)/NPU_compute_time\.mean\(([\d.]+)\): ([\d.]+)",
        r"\[INFO\] -{54}",
        r"\[INFO\] unload model success, model Id is 1",
        r"\[INFO\] end to reset device 0",
        r"\[INFO\] end to finalize acl",
    ]
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(documented), done
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(documented, lines, strict=True))
    done = run("--model", "nope.om")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "error: argument --model/-m: om path:nope.om is illegal. Please check.\n"
    )
    (tmp_path / "empty").mkdir(mode=0o750)
    assert run("--model", om, "--input", tmp_path / "empty").returncode == 1

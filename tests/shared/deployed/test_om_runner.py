"""OmRunner over a stand-in for ais_bench that works as its documentation says: a contract test, no
NPU took part."""

import sys

import numpy as np
import pytest

from shared.contracts.exported import Graph
from shared.deployed.om_runner import OmRunner, unavailable
from tests.asking import refusal
from tests.places import STAND_INS
from tests.stand_ins.om import STEP, H, W, channels_om, maps_om


@pytest.fixture(autouse=True)
def ais_bench(monkeypatch):
    monkeypatch.syspath_prepend(STAND_INS)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "ais_bench"]:
        del sys.modules[name]


def feeds(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "labels": rng.integers(0, 35, (count, H, W), dtype=np.uint8),
        "instances": rng.integers(0, 256, (count, H, W), dtype=np.int32),
    }


def picture_of(batch: dict[str, np.ndarray]) -> np.ndarray:
    red, blue = (batch[name].astype(np.float32) * STEP - 1 for name in ("labels", "instances"))
    return np.stack([red, -red, blue], axis=1)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_pictures_are_the_networks_in_batches_of_any_size_up_to_the_files(tmp_path, count):
    runner = OmRunner(maps_om(tmp_path / "bs4.om", batch=4), Graph(), 4)
    assert (runner.name, runner.device, runner.precision) == ("om", "npu", "fp16")
    batch = feeds(count)
    found = runner(batch)
    assert found.dtype == np.float32 and found.shape == (count, 3, H, W)
    np.testing.assert_array_equal(found, picture_of(batch))
    swapped = {name: batch[name] for name in ("instances", "labels")}  # the order is the file's
    np.testing.assert_array_equal(runner(swapped), found)
    strided = {name: np.repeat(array, 2, axis=2)[:, :, ::2] for name, array in batch.items()}
    np.testing.assert_array_equal(runner(strided), found)


def test_the_seeds_form(tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (1, 36, H, W)).astype(np.float32)
    runner = OmRunner(channels_om(tmp_path / "seed.om"), Graph(form="onehot"), 1)
    np.testing.assert_array_equal(runner({"input_concat": x}), x[:, :3] * 2 - 1)


def test_uint8_pictures_stay_uint8(tmp_path):
    runner = OmRunner(maps_om(tmp_path / "u8.om", output="uint8"), Graph(output="uint8"), 1)
    batch = feeds(1)
    found = runner(batch)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, batch["labels"][:, None].repeat(3, axis=1))


@pytest.mark.parametrize("batch_size", [2, 4])
def test_gears(tmp_path, batch_size):
    file = maps_om(tmp_path / "gears.om", batch=None, dynamic_batch_size="1,2,4")
    batch = feeds(batch_size)
    np.testing.assert_array_equal(OmRunner(file, Graph(), batch_size)(batch), picture_of(batch))


def test_compute_works_on_what_upload_left_on_the_npu(tmp_path):
    """No copy in either direction between the two."""
    runner = OmRunner(maps_om(tmp_path / "bs2.om", batch=2), Graph(), 2)
    from ais_bench.infer import interface

    uploaded = runner.upload(feeds(2))
    assert [tensor.shape for tensor in uploaded] == [[2, H, W], [2, H, W]]
    copies = len(interface.H2D), len(interface.D2H)
    for _ in range(3):
        assert runner.compute(uploaded) is None
    assert (len(interface.H2D), len(interface.D2H)) == copies and len(runner.session.exec_ms) == 3
    assert runner.peak_memory_mb() > 10


def test_close_frees_the_npu(tmp_path, capfd):
    OmRunner(maps_om(tmp_path / "a.om"), Graph(), 1).close()
    assert "unload model success" in capfd.readouterr().out


def test_without_ais_bench_the_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    """None of these packages is on PyPI, nor installed here."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(STAND_INS)])
    text = refusal(OmRunner, tmp_path / "a.om", Graph(), 1)
    reason = "No module named 'ais_bench'"
    assert f"ais_bench is not there for {sys.executable} ({reason}): it is not on PyPI" in text
    assert "https://gitcode.com/Ascend/tools" in text and "`msit install benchmark`" in text


NO_CANN = "libascendcl.so: cannot open shared object file: No such file or directory"
NO_TQDM = "No module named 'tqdm'"
WHEELS = "is not on PyPI, so install the wheels of ais_bench and aclruntime"
LANGUAGE_MODELS = "is not Ascend's tool for .om files but PyPI's ais-bench-benchmark"


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("No module named 'ais_bench'", WHEELS),
        ("No module named 'aclruntime'", WHEELS),
        ("No module named 'ais_bench.infer'", LANGUAGE_MODELS),
        (NO_CANN, f"finds no CANN ({NO_CANN}): run `source"),
        (NO_TQDM, f"cannot be loaded ({NO_TQDM}): repair its installation"),
    ],
)
def test_each_way_of_not_being_there(reason, sentence):
    def fail():
        raise unavailable(reason)

    assert sentence in refusal(fail)


def test_refuses_files_that_cannot_be_loaded(tmp_path, monkeypatch):
    text = refusal(OmRunner, tmp_path / "a.om", Graph(), 1)
    remedy = "compile it with `python -m components.export --format om`"
    assert f"there is no {tmp_path}/a.om: {remedy}" in text

    file = maps_om(tmp_path / "a.om")
    monkeypatch.setenv("AIS_STAND_IN_DEVICES", "0")
    text = refusal(OmRunner, file, Graph(), 1)
    reason = "[507033][Error code unknown]"
    assert f"{file} cannot be loaded on NPU 0 ({reason}): see the lines of ais_bench above" in text
    monkeypatch.undo()
    monkeypatch.syspath_prepend(STAND_INS)

    file.chmod(0o666)
    assert f"{file} cannot be loaded on NPU 0 (permissions)" in refusal(OmRunner, file, Graph(), 1)
    file.chmod(0o600)
    file.write_bytes(b"no model")
    assert "([1][ACL: invalid parameter])" in refusal(OmRunner, file, Graph(), 1)


def test_refuses_another_batch_size(tmp_path):
    text = refusal(OmRunner, maps_om(tmp_path / "bs4.om", batch=4), Graph(), 8)
    assert "bs4.om takes batches of 4 but 8 are wanted: compile it for them too" in text
    gears = maps_om(tmp_path / "gears.om", batch=None, dynamic_batch_size="1,2")
    assert "gears.om has no gear for batches of 8: compile" in refusal(OmRunner, gears, Graph(), 8)


def test_refuses_an_output_of_another_export(tmp_path):
    text = refusal(OmRunner, maps_om(tmp_path / "a.om"), Graph(output="uint8"), 1)
    remedy = "compile it from the ONNX file"
    assert f"a.om returns float32 but the export has one uint8 picture: {remedy}" in text
    text = refusal(OmRunner, maps_om(tmp_path / "b.om", output="uint8"), Graph(), 1)
    assert "b.om returns uint8 but the export has one float picture" in text


def test_refuses_inputs_that_would_be_misread(tmp_path):
    """int32 in place of float32 has the same number of bytes: ais_bench itself would take it."""
    runner = OmRunner(maps_om(tmp_path / "a.om"), Graph(), 1)
    batch = feeds(1)
    text = refusal(runner, {"labels": batch["labels"]})
    assert "a.om takes labels, instances but is given labels: compile" in text
    text = refusal(runner, batch | {"instances": batch["instances"].astype(np.float32)})
    given = "is given float32 (1, 8, 16): compile it for this size"
    assert f"takes instances as int32 (1, 8, 16) but {given}" in text
    turned = {name: array.reshape(1, W, H) for name, array in batch.items()}
    text = refusal(runner.upload, turned)
    given = "is given uint8 (1, 16, 8): compile it for this size"
    assert f"takes labels as uint8 (1, 8, 16) but {given}" in text

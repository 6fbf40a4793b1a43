"""The clock: who is asked when, what a row says, and what becomes of a runtime that fails."""

import numpy as np
import pytest

from components.benchmark.measure.speed import Clock, describe_problem, measure_speed, speed_row
from components.benchmark.measure.workload import Workload
from shared.contracts.exported import Graph
from shared.deployed.form import Form
from tests import tiny


class Fake:
    """Writes down what it is called with; `most` pictures fit into its memory."""

    precision, batch_size = "fp32", None

    def __init__(self, name, calls, most=100, device="cpu"):
        self.name, self.calls, self.most, self.device = name, calls, most, device

    def __call__(self, feeds):
        count = len(feeds["labels"])
        if count > self.most:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        self.calls.append((self.name, feeds["labels"][:, 0, 0].tolist()))
        return np.zeros((count, 3, 32, 64), np.float32)

    def upload(self, feeds):
        return feeds["labels"][:, 0, 0].tolist()

    def compute(self, uploaded):
        self.calls.append((self.name, "device", uploaded))

    def peak_memory_mb(self):
        return 12.0


@pytest.fixture
def three_maps(tmp_path):
    """A workload of three maps of one label each: 0, 1, 2."""
    ids, photo = np.zeros((32, 64), np.uint8), np.zeros((3, 32, 64), np.uint8)
    pairs = {
        str(i): {"input": np.full((32, 64), i, np.uint8), "instance": ids, "photo": photo}
        for i in range(3)
    }
    manifest = tiny.write(tmp_path / "maps", {"train": {"2": pairs.pop("2")}, "test": pairs})
    form = Form(tiny.architecture(), Graph(), size=(32, 64))
    return Workload(tmp_path / "maps", manifest, form, 3)


def test_runtimes_take_turns_on_the_same_cycled_batches(three_maps):
    """A call, the device alone, then the way from files to files, which is a call again. On a CPU
    the call is that of the device alone."""
    calls = []
    runners = [Fake("a", calls), Fake("b", calls, device="npu")]
    rows = measure_speed(runners, three_maps, (1, 2), rounds=2, warmup=1)
    batches = [[0], [1], [2], [0, 1], [2, 0], [1, 2]]  # three rounds of one map, three of two
    assert calls == [
        call
        for batch in batches
        for name in "ab"
        for call in ((name, batch), (name, "device", batch), (name, batch))
        if (name, call[1]) != ("a", "device")
    ]
    assert [(row.runtime, row.batch_size) for row in rows] == [
        ("a", 1),
        ("b", 1),
        ("a", 2),
        ("b", 2),
    ]
    for row in rows:
        assert (
            row.device_images_per_second > row.images_per_second / 10
            and row.end_to_end_images_per_second > 0
        )
        assert row.speedup is None, "there is no torch in fp32"
    for row in rows[::2]:
        assert row.device_images_per_second == row.images_per_second


def test_a_batch_that_does_not_fit_is_a_row(three_maps, tmp_path):
    rows = measure_speed(
        [Fake("torch", []), Fake("small", [], most=1)], three_maps, (1, 2), rounds=1, warmup=1
    )
    assert [(row.runtime, row.batch_size, row.problem) for row in rows] == [
        ("torch", 1, ""),
        ("small", 1, ""),
        ("torch", 2, ""),
        ("small", 2, "out of memory"),
    ]
    assert rows[3].images_per_second is None and rows[3].latency_ms_p50 is None
    assert [row.speedup for row in rows[::2]] == [1, 1] and rows[1].speedup > 0


def test_problems_in_a_few_words():
    assert describe_problem(MemoryError()) == "out of memory"
    assert (
        describe_problem(RuntimeError("Failed to allocate memory for requested buffer"))
        == "out of memory"
    )
    with pytest.raises(RuntimeError, match="launch failure"):  # of a card: no fault of a runtime
        describe_problem(RuntimeError("CUDA error: unspecified launch failure"))
    assert describe_problem(ValueError("Got: 1\n Expected: 2")) == "ValueError: Got: 1 Expected: 2"


def test_speed_row_of_known_durations():
    clock = Clock(Fake("a", []), calls=[0.1, 0.2, 0.3, 0.4, 1.0], device=[0.1] * 5, files=[0.5] * 5)
    baseline = Clock(Fake("torch", []), calls=[0.2, 0.6, 0.3, 0.8, 9.0])
    row = speed_row(clock, 4, baseline)
    assert row.images_per_second == pytest.approx(4 * 5 / 2.0)
    assert (row.device_images_per_second, row.end_to_end_images_per_second) == (
        pytest.approx(40),
        pytest.approx(8),
    )
    assert (row.latency_ms_p50, row.latency_ms_p90) == (pytest.approx(300), pytest.approx(760))
    assert row.latency_ms_p99 == pytest.approx(976)
    assert row.peak_memory_mb == 12
    assert row.speedup == pytest.approx(2), "the median of 2, 3, 1, 2, 9"

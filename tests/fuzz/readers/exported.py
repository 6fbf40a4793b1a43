"""Deployed files and measuring networks, and what Ascend's tool says of them."""

import sys
from pathlib import Path

import numpy as np
import onnx

from components.benchmark.ais_bench.figures import AisBenchFailed, read_printed, read_summary
from shared.contracts.exported import Graph
from shared.deployed.om_runner import OmRunner
from shared.deployed.runners import OnnxRunner
from shared.errors import InputError
from shared.scorers.networks import FeatureNetwork, LpipsNetwork
from tests import measuring
from tests.fuzz.engine import Target
from tests.fuzz.readers.raw import text_of
from tests.places import ROOT
from tests.stand_ins import om

SUMMARY = b"""{"npu_compute_time_list": [1.5, 1.6, 1.4], "throughput": 666.6,
"H2D_latency": {"mean": 0.1}, "D2H_latency": {"mean": 0.2},
"filesinfo": {"0": {"infiles": ["a", "b"], "outfiles": ["c"]}}}"""
PRINTED = (
    b"[INFO] NPU_compute_time (ms): min = 1.0, max = 2.0, mean = 1.5, median = 1.5, "
    b"percentile(99%) = 2.0\n"
    b"[INFO] throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(1.5): 666.6\n"
)


OF_STAND_IN = (AssertionError, LookupError, TypeError)  # for an ONNX file that can be none


def _read_summary(path: Path) -> None:
    read_summary(path.read_bytes())


def _graph(folder: Path) -> list[bytes]:
    file = om.maps_om(folder / "model.onnx")
    model = onnx.load(file)
    onnx.save(model, outside := folder / "outside.onnx", save_as_external_data=True,
              location="weights.bin", size_threshold=0)  # fmt: skip
    return [file.read_bytes(), om.channels_om(folder / "c.onnx").read_bytes(), outside.read_bytes()]


def _run_graph(path: Path) -> None:
    runner = OnnxRunner(path, "fp32")
    size = (1, om.H, om.W)
    runner({"labels": np.zeros(size, np.uint8), "instances": np.zeros(size, np.int32)})


def _compiled(folder: Path) -> list[bytes]:
    sys.path.insert(0, str(ROOT / "tests" / "stand_ins"))
    files = [om.maps_om(folder / "a.om"), om.maps_om(folder / "b.om", output="uint8")]
    return [file.read_bytes() for file in files]


def _run_compiled(path: Path) -> None:
    path.chmod(0o600)
    runner = OmRunner(path, Graph(), 1)
    size = (1, om.H, om.W)
    runner({"labels": np.zeros(size, np.uint8), "instances": np.zeros(size, np.int32)})
    runner.close()


def _distance(folder: Path) -> list[bytes]:
    return [Path(measuring.mean_difference(folder / "a.onnx")).read_bytes()]


def _features(folder: Path) -> list[bytes]:
    return [Path(measuring.mean_colour(folder / "a.onnx")).read_bytes()]


def _measure_distance(path: Path) -> None:
    picture = np.zeros((3, 8, 8), np.uint8)
    LpipsNetwork(str(path), (8, 8))(picture, picture)


def _measure_features(path: Path) -> None:
    FeatureNetwork(str(path), (8, 8))(np.zeros((3, 8, 8), np.uint8))


TARGETS = [
    Target("onnx", _graph, _run_graph, "model.onnx"),
    Target("om", _compiled, _run_compiled, "model.om", refusals=(InputError, *OF_STAND_IN)),
    Target("distance-network", _distance, _measure_distance, "network.onnx"),
    Target("feature-network", _features, _measure_features, "network.onnx"),
    Target("ais-bench-summary", lambda _: [SUMMARY], _read_summary, "summary.json", "json",
           (AisBenchFailed,)),
    Target("ais-bench-lines", lambda _: [PRINTED], lambda path: read_printed(text_of(path)),
           form="text", refusals=(AisBenchFailed,)),
]  # fmt: skip

"""Where the tests find what is outside of them."""

import importlib
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS = ("prepare", "train", "cluster", "export", "benchmark")  # in the order of the graph
# The class of each step's config in the graph.
CHECKED_BY = {
    "prepare": "components.prepare.config.PrepareConfig",
    "train_global": "components.train.config.TrainConfig",
    "cluster": "components.cluster.config.ClusterConfig",
    "train_local": "components.train.config.TrainConfig",
    "export": "components.export.config.ExportConfig",
    "benchmark": "components.benchmark.config.BenchmarkConfig",
}
STAND_INS = ROOT / "tests" / "stand_ins"
EXCERPT = ROOT.parent / "shared" / "data" / "cityscapes_samples"  # real images; not everywhere
NOWHERE = Path("/nowhere")  # a folder that is not there


def config_of(step: str) -> type:
    """The class of a step's config."""
    module = importlib.import_module(f"components.{step}.config")
    return getattr(module, f"{step.capitalize()}Config")


def put_atc(folder: Path) -> Path:
    """A folder for PATH in which `atc` is the stand-in of CANN's compiler; returns the program."""
    folder.mkdir(parents=True, exist_ok=True)
    atc = folder / "atc"
    program = shlex.join([sys.executable, str(STAND_INS / "atc.py")])
    atc.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    atc.chmod(0o755)
    return atc

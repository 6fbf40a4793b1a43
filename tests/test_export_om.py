"""From a model to pictures by way of an NPU: every command is real, atc and ais_bench are stand-ins (tests/stand_ins).

Contract tests: no NPU took part. What atc and ais_bench refuse, and how each fails, is in test_om and test_ais_bench.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from components.benchmark import ais_bench
from components.benchmark.config import BenchmarkConfig
from components.benchmark.run import run as benchmark
from components.export import offline
from components.export.config import ExportConfig
from components.export.run import run as export
from shared.checkpoint import load_generator
from shared.contracts import BenchmarkReport, DatasetManifest, ExportCard, Graph
from shared.images import read_picture
from shared.samples import PairReader
from shared.step import main
from shared.styles import Style
from shared.synthesiser import Synthesiser, feeds, to_pixels
from tests import tiny
from tests.test_export_forms import write_clusters, write_model

ROOT = Path(__file__).parents[1]
STAND_INS = Path(__file__).parent / "stand_ins"
OM = ("--format", "om", "--soc-version", "Ascend310P3")


class Machine:
    """One with CANN and an NPU; its models paint with contrast, so that errors show."""

    def __init__(self, root: Path):
        self.root = root
        self.dataset, self.models = root / "dataset", {}
        tiny.dataset(self.dataset, test=3)
        for name, feat_num in (("plain", 0), ("styled", 3)):
            card = write_model(root / name / "model", tiny.architecture(feat_num=feat_num), gain=0.3)
            if feat_num:
                write_clusters(root / name / "clusters", card)
        self.give_atc()

    def give_atc(self) -> None:
        file = self.root / "bin" / "atc"
        file.parent.mkdir()
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_INS / "atc.py"} "$@"\n')
        file.chmod(0o755)

    def enter(self, monkeypatch) -> None:
        monkeypatch.setenv("PATH", f"{self.root / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("HOME", str(self.root))
        monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
        monkeypatch.syspath_prepend(STAND_INS)

    def arguments(self, model: str, out: Path, *flags: str) -> list[str]:
        arguments = ["--model", self.root / model / "model", "--dataset", self.dataset, "--exported", out]
        if (clusters := self.root / model / "clusters").exists():
            arguments += ["--clusters", clusters]
        return [*map(str, arguments), "--parity-samples", "2", *OM, *flags]

    def export(self, model: str, out: Path, *flags: str) -> int:
        """Exit status."""
        with pytest.raises(SystemExit) as stop:
            main(export, ExportConfig, self.arguments(model, out, *flags))
        return stop.value.code

"""Steps as the pods of a cluster run them: kfp's executor on a KFP face, with a new artifact folder
for each pod and one workspace for all."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from shared.pipeline.engines.steps import EXECUTOR
from shared.workspace.place import RUN_ID
from tests.calling import environment
from tests.places import ROOT

OUTPUTS = {"prepare": "dataset", "train": "model", "cluster": "clusters"}
NAMES = {"config": {}, "given": {}, "code_version": "", "files_version": ""}


@dataclass
class Ended:
    """A pod that has ended."""

    code: int
    said: str
    artifact: Path


@dataclass
class Pods:
    """Starts the pods of one run."""

    folder: Path  # in which each pod has its own
    workspace: str  # "" = none
    run: str = "run-1"
    numbers: itertools.count = field(default_factory=itertools.count)

    def start(
        self, step: str, config: dict, environ: dict[str, str] | None = None, **inputs
    ) -> tuple[subprocess.Popen, Path]:
        """A pod that runs, and its artifact folder, which nobody has made.

        inputs: artifact folders as Path, parameters as str."""
        pod = self.folder / f"pod-{next(self.numbers)}"
        pod.mkdir(parents=True)
        face = pod / "component.py"
        face.write_text(
            f"from components.{step}.component import {step}\n{step} = {step}.python_func\n"
        )
        artifact = pod / OUTPUTS[step]
        parameters = {"workspace": self.workspace, **NAMES, "config": config}
        parameters |= {name: value for name, value in inputs.items() if isinstance(value, str)}
        folders = {name: value for name, value in inputs.items() if isinstance(value, Path)}
        executor_input = {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {name: _artifact(place) for name, place in folders.items()},
            },
            "outputs": {
                "artifacts": {
                    OUTPUTS[step]: _artifact(artifact),
                    "metrics": _artifact(pod / "metrics", "system.Metrics"),
                },
                "outputFile": str(pod / "executor_output.json"),
            },
        }
        command = [sys.executable, "-c", EXECUTOR, "--component_module_path", str(face)]
        command += ["--executor_input", json.dumps(executor_input)]
        command += ["--function_to_execute", step]
        given = environment() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        given |= {RUN_ID: self.run} | (environ or {})
        pipe = subprocess.PIPE
        started = subprocess.Popen(
            command, env=given, stdout=pipe, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        return started, artifact

    def run_one(self, step: str, config: dict, environ: dict | None = None, **inputs) -> Ended:
        """A pod that has ended."""
        started, artifact = self.start(step, config, environ, **inputs)
        said, _ = started.communicate(timeout=300)
        return Ended(started.returncode, said, artifact)


def _artifact(place: Path, kind: str = "system.Artifact") -> dict:
    return {"artifacts": [{"name": place.name, "uri": str(place), "type": {"schemaTitle": kind}}]}


def size_of(folder: Path) -> int:
    """Bytes of all files: what KFP uploads of an artifact."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def places_in(folder: Path) -> set[str]:
    """All files, by their places."""
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return {file.relative_to(folder).as_posix() for file in files}

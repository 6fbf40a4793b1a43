"""Programs run where neither torch nor this project is."""

import json
import subprocess
import sys
from pathlib import Path

# Runs scripts one after the other where torch and this project are not there.
ALONE = """
import json, runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "shared", "components", "onnx", "tests"):
            raise ModuleNotFoundError(f"No module named {name}", name=name)

sys.meta_path.insert(0, Absent())
for script, *arguments in json.load(sys.stdin):
    sys.argv = [script, *arguments]
    runpy.run_path(script)
"""


def run_alone(jobs: list[list[str | Path]]) -> subprocess.CompletedProcess:
    """Run each script with its arguments, isolated from the folder and the environment."""
    return subprocess.run(
        [sys.executable, "-I", "-c", ALONE],
        input=json.dumps([[str(word) for word in job] for job in jobs]),
        cwd="/",
        capture_output=True,
        text=True,
    )

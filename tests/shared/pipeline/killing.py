"""Pipelines that are killed and begun again, and what they have written in the end."""

import hashlib
import json
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from mlflow.tracking import MlflowClient

from shared.pipeline.processes import GUARD
from tests.calling import SMALL, command, environment

RECIPE = [*SMALL, "train_global.save_every_steps=2", "benchmark.rounds=1"]
WAIT_SECONDS = 900  # also on a busy machine
GONE_SECONDS = 30  # what the processes of a pipeline may live on after it


@dataclass
class Pipeline:
    """A pipeline on this machine, again and again started by the same person or timer."""

    folder: Path  # working directory; its `runs` holds one run, beside `earlier`
    scenes: Path
    verb: str = "submit"
    recipe: list[str] = field(default_factory=lambda: RECIPE)
    earlier: str = ""  # name of a finished run
    process: subprocess.Popen | None = None
    kills: list[str] = field(default_factory=list)
    heard: int = 0  # characters that it had said when it was started last

    @property
    def mark(self) -> str:
        """By which every process of it is found, whoever its parent is."""
        return str(self.folder)

    def start(self) -> None:
        """Begin, or go on."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        if self.verb == "submit" and self.record():
            arguments = ["submit", "--continue", "latest"]
        else:
            arguments = [self.verb, "--raw-data", self.scenes, "--set", *self.recipe]
        variables = environment() | {"KILL_MATRIX": self.mark, "TMPDIR": f"{self.folder}/tmp"}
        with open(self.folder / "said.txt", "a") as said:
            self.heard = said.tell()
            options = dict(stdout=said, stderr=said, env=variables, cwd=self.folder)
            self.process = subprocess.Popen(command(*arguments), **options)

    def record(self) -> dict:
        """What run.json says; {} before there is one."""
        runs = self.runs()
        assert len(runs) <= 1, "it was begun anew"
        return json.loads((runs[0] / "run.json").read_text()) if runs else {}

    def runs(self) -> list[Path]:
        found = [path.parent for path in self.folder.glob("runs/*/run.json")]
        return [run for run in found if run.name != self.earlier]

    def wait_for(self, step: str) -> None:
        """Return when a step runs, or has run."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.record().get("steps", {}).get(step, {}).get("state", "waiting") == "waiting":
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def wait_to_hear(self, words: str) -> None:
        """Return when it has said something since it was started last."""
        deadline = time.monotonic() + WAIT_SECONDS
        while words not in (self.folder / "said.txt").read_text()[self.heard :]:
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def kill(self, target: str, stop: signal.Signals) -> None:
        """Send a signal; within seconds no process may be left."""
        steps = self.record()["steps"]
        running = [step for step in steps if steps[step]["state"] == "running"]
        self.kills.append(f"{stop.name} to {target} in {', '.join(running) or 'no step'}")
        self.target(target).send_signal(stop)
        self.process.wait(WAIT_SECONDS)
        deadline = time.monotonic() + GONE_SECONDS
        while left := self.processes():
            assert time.monotonic() < deadline, (self.kills[-1], left)
            time.sleep(0.05)

    def target(self, name: str) -> psutil.Process:
        """The process of the verb, of the `submit` below `nightly`, or of the step."""
        process = psutil.Process(self.process.pid)
        if name == self.verb:
            return process
        submit = process if self.verb == "submit" else guarded_by(process)
        return submit if name == "submit" else guarded_by(submit)

    def processes(self) -> list[psutil.Process]:
        """All that live."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("KILL_MATRIX") == self.mark:
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
            except psutil.Error:
                continue
        return found

    def finish(self) -> Path:
        """Run to the end; the folder of the run."""
        self.start()
        assert self.process.wait(WAIT_SECONDS) == 0, self.said()
        assert self.record()["state"] == "finished"
        return self.run

    def temporary_files(self) -> set[str]:
        return {path.name for path in (self.folder / "tmp").iterdir()}

    @property
    def run(self) -> Path:
        return self.runs()[0]

    def said(self) -> str:
        return f"{self.kills}\n" + (self.folder / "said.txt").read_text()[-4000:]


def guarded_by(process: psutil.Process) -> psutil.Process:
    """The process that another has started under a guard."""
    (guard,) = [child for child in process.children() if str(GUARD) in child.cmdline()]
    return guard.children()[0]


# What a run has written.


def written_by_steps(run: Path) -> dict[str, str]:
    """Digest of every file that the steps have written, by its name; of those that hold times or
    absolute paths, and of training's state, which holds random numbers that nobody draws from after
    an epoch, only the names."""
    found = {}
    for path in (path for path in run.rglob("*") if path.is_file()):
        name = path.relative_to(run)
        if name.parts[0] not in ("journal", "run.json", "run.lock", "log.txt"):
            differs = path.name in ("executor_output.json", "training.pt")
            content = b"" if differs or name.parts[0] == "benchmark" else path.read_bytes()
            found[str(name)] = hashlib.sha256(content).hexdigest()
    return found


def statuses_in_mlflow(folder: Path) -> list[tuple[str, str]]:
    """(name, status) of every MLflow run of the pipelines of a working directory, and of the steps,
    in the order of their begin."""
    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'demo'")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    return [(run.info.run_name, run.info.status) for run in runs]

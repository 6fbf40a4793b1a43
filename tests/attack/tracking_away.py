"""MLflow that is away, hangs, talks nonsense or loses what it was told, while a network is trained.

Each training ends well; it is held no more than a second longer than by an MLflow that is well; and
after `pipeline.py sync` MLflow has every point of every curve, as of that one."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow import MlflowClient

from tests.asking import as_flags
from tests.attack import night
from tests.attack.trying import Case, Ended, Outcome, Target
from tests.loopback import FAULTS
from tests.mlflow_server import Way, mlflow_server

HELD = Path(__file__).parent / "inside" / "time_tracking.py"
EPOCHS = 60
MOST_HELD_S = 1.0
TRAIN = night.TRAIN | dict(epochs=EPOCHS, epochs_decay=0, dataset="dataset", model="long")
TRAIN |= dict(save_every_steps=0, save_every_epochs=EPOCHS, sample_every_epochs=EPOCHS // 2)
TRAINING = ["train", *as_flags(**TRAIN)]
SHORT = [*TRAINING, "--epochs", "6"]  # where MLflow does the same all the time


class Attack:
    """One training against one MLflow."""

    def __init__(
        self, name: str, way: Way, client: MlflowClient, begin: Callable[[], None], short: bool
    ):
        """begin: what is done to MLflow before the training."""
        self.name, self.way, self.client, self.begin = name, way, client, begin
        self.training = SHORT if short else TRAINING
        self.experiment = f"away-{time.time_ns()}"
        self.held = Path(tempfile.mkstemp()[1])

    def case(self, meanwhile: Callable[[Path], None]) -> Case:
        def prepare(_folder: Path) -> None:
            self.way.fault = None
            self.begin()

        environment = {
            "MLFLOW_TRACKING_URI": self.way.uri,
            "MLFLOW_EXPERIMENT_NAME": self.experiment,
            "HELD_LOG": str(self.held),
        }
        commands = [self.training]
        return Case(self.name, prepare, commands, [], self.then, meanwhile, environment, HELD, 300)

    def points(self) -> int:
        """How many points of curves MLflow has, but for how busy the machine was."""
        experiment = self.client.get_experiment_by_name(self.experiment)
        if experiment is None:
            return 0
        return sum(
            len(self.client.get_metric_history(run.info.run_id, key))
            for run in self.client.search_runs([experiment.experiment_id])
            for key in run.data.metrics
            if not key.startswith("system/")
        )

    def then(self, target: Target, ended: list[Ended]) -> tuple[Outcome, str]:
        """Deliver what was missed, and count."""
        self.way.fault, self.way.dies_after = None, None
        before = self.points()
        sync = [sys.executable, str(target.code / "pipeline.py"), "sync", "--run", "long.journal"]
        environment = target.environment() | {"MLFLOW_TRACKING_URI": self.way.uri}
        subprocess.run(
            sync, cwd=target.folder, env=environment, capture_output=True, text=True, timeout=300
        )
        after, held_s = self.points(), float(self.held.read_text() or "nan")
        self.held.unlink()
        told = f"{before} points at the end, {after} after sync, held {held_s:.2f} s"
        points, well_s = expected.setdefault(len(self.training), (after, held_s))
        if after < points:
            return Outcome.LOST, f"{told}, {points} expected"
        return (Outcome.HANG if held_s > well_s + MOST_HELD_S else Outcome.SAME), told


# Of the first training of each length, whose MLflow is well: points, and how long it was held.
expected: dict[int, tuple[int, float]] = {}


def epochs_of(folder: Path) -> int:
    """How many epochs the training has told so far."""
    count = 0
    for file in folder.glob("long.journal/*.jsonl"):
        count += file.read_text(errors="replace").count('"epoch_loss/G_GAN"')
    return count


def between(way: Way, fault: str, first: int, last: int) -> Callable[[Path], None]:
    """MLflow is faulty from one epoch to another."""

    def meanwhile(folder: Path) -> None:
        until = time.monotonic() + 200
        while (epoch := epochs_of(folder)) < last and time.monotonic() < until:
            way.fault = fault if epoch >= first else None
            if epoch + 1 >= EPOCHS or (folder / "long" / "model.json").is_file() and epoch == 0:
                break
            time.sleep(0.05)
        if last < EPOCHS:
            way.fault = None

    return meanwhile


def nothing(_folder: Path) -> None:
    pass


def cases(target: Target) -> Iterator[Case]:
    expected.clear()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlflow-")))
        server = stack.enter_context(mlflow_server(folder))
        way, client = Way(server), MlflowClient(server)
        stack.callback(way.http.shutdown)

        def attack(
            name: str, begin: Callable[[], None] = lambda: None, short: bool = True
        ) -> Attack:
            return Attack(name, way, client, begin, short)

        def fails(fault: str) -> Callable[[], None]:
            return lambda: setattr(way, "fault", fault)

        # Its curves, where all is well; then away for half of the epochs, and until the end.
        yield attack("MLflow is well", short=False).case(nothing)
        for fault in ("refuses", "hangs"):
            name = f"MLflow {fault} for 30 of {EPOCHS} epochs"
            yield attack(name, short=False).case(between(way, fault, 15, 45))
        name = "MLflow hangs from epoch 30 on"
        yield attack(name, short=False).case(between(way, "hangs", 30, EPOCHS))

        # Whatever it says, all the time.
        yield attack("MLflow is well, a short training").case(nothing)
        for fault in FAULTS:
            yield attack(f"MLflow: {fault}", fails(fault)).case(nothing)
        yield attack("MLflow loses its replies", fails("loses replies")).case(nothing)

        # What people and disks do.
        def delete(what: str) -> Callable[[Path], None]:
            def meanwhile(folder: Path) -> None:
                until = time.monotonic() + 100
                while epochs_of(folder) < 20 and time.monotonic() < until:
                    time.sleep(0.05)
                experiment = client.get_experiment_by_name(current.experiment)
                if experiment and what == "experiment":
                    client.delete_experiment(experiment.experiment_id)

            return meanwhile

        current = attack("the experiment is deleted meanwhile", short=False)
        yield current.case(delete("experiment"))

        def read_only(folder: Path) -> None:
            (folder / "long.journal").write_text("in the way")

        current = attack("there is no place for the journal, MLflow is well")
        case = current.case(nothing)
        prepare = case.prepare
        case.prepare = lambda folder: (prepare(folder), read_only(folder))
        yield case
        way.ended.set()

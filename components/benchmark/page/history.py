"""What MLflow knows of the time before a report: the losses of the training, and earlier
benchmarks."""

import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime

from components.benchmark.page.charts import Line
from shared import tracking
from shared.servers import said, within

MOST_RUNS = 20
MOST_POINTS = 300  # of a curve: more cannot be seen, and make a page heavy
PATIENCE_S = 20  # with a slow server
LOSS = re.compile(r"(?P<kind>loss|epoch_loss)/(?P<name>[GD]_\w+)")


@dataclass(frozen=True)
class EarlierRun:
    """A finished benchmark of the same experiment."""

    started: datetime  # UTC
    commit: str  # '' = unknown
    figures: dict[str, float]  # as BenchmarkReport.headline names them


@dataclass(frozen=True)
class Past:
    """What there was before a report."""

    # By training step, each loss over images seen.
    losses: dict[str, list[Line]] = field(default_factory=dict)
    runs: list[EarlierRun] = field(default_factory=list)  # newest first


def read_past() -> Past:
    """Ask MLflow for what was before the open run; without one there is nothing.

    A server that fails or is slow costs a warning, never more."""
    run_id = tracking.run_id()
    if run_id is None:
        return Past()

    try:
        return within(PATIENCE_S, lambda: _read(run_id))
    except Exception as error:
        print(
            "warning: MLflow: the report shows no losses and no earlier runs: "
            f"{said(error) or type(error).__name__}",
            file=sys.stderr,
        )
        return Past()


def _read(run_id: str) -> Past:
    """Ask the server; whatever it raises comes through."""
    # Finished benchmarks of the same experiment.
    client = tracking.client()
    this = client.get_run(run_id)
    experiment = [this.info.experiment_id]
    earlier = client.search_runs(
        experiment,
        "tags.step = 'benchmark' and attributes.status = 'FINISHED'",
        max_results=MOST_RUNS,
        order_by=["attributes.start_time DESC"],
    )

    # Trainings of the same pipeline run; of a repeated step the last one counts.
    trainings = []
    if parent := this.data.tags.get("mlflow.parentRunId"):
        children = f"tags.`mlflow.parentRunId` = '{parent}' and tags.step LIKE 'train%'"
        trainings = client.search_runs(experiment, children, order_by=["attributes.start_time ASC"])
    losses = {run.data.tags["step"]: _losses(client, run) for run in trainings}
    losses = {step: lines for step, lines in losses.items() if lines}
    return Past(losses, [_earlier(run) for run in earlier])


def _losses(client, run) -> list[Line]:
    """The loss curves of a training: by step, or where it was too short for them, by epoch."""
    found = [match for name in sorted(run.data.metrics) if (match := LOSS.fullmatch(name))]
    kind = "loss" if any(match["kind"] == "loss" for match in found) else "epoch_loss"
    lines = []
    for match in found:
        if match["kind"] == kind:
            history = client.get_metric_history(run.info.run_id, match[0])
            points = [(metric.step, metric.value) for metric in history]
            lines.append(Line(match["name"], thinned(points)))
    return lines


def _earlier(run) -> EarlierRun:
    """A benchmark as MLflow has it."""
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return EarlierRun(started, run.data.tags.get("git.commit", ""), run.data.metrics)


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of equally many neighbours, at most MOST_POINTS, by rising x."""
    points = sorted(points)
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size or 1)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]

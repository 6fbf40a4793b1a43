"""The steps of a run among the nodes of its workflow.

KFP runs a graph by Argo, and its API tells Argo's nodes (backend/src/apiserver/server/
api_converter.go): of the step `train_global` they are `train-global-driver`, `train-global`, and
below that `executor`, which has the pod, and where steps are retried `executor(0)`, `executor(1)`.
`root`, `root-driver` and a node that has the workflow's name are of the graph. What came from the
cache is skipped.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from shared.pipeline.graph import step_of
from shared.pipeline.server.answers import Run, Task, seconds_between

DRIVER = "-driver"
EXECUTOR = re.compile(r"executor(\(\d+\))?")
OF_GRAPH = {"root", "root-driver"}
FAILED = ("FAILED", "CANCELED")
NEVER = datetime.max.replace(tzinfo=UTC)
IN_WORDS = {"SKIPPED": "taken from the cache"}


class Step(NamedTuple):
    """A step as far as it is."""

    name: str
    state: str
    started: datetime | None
    ended: datetime | None
    pods: tuple[str, ...]  # the last one that was started comes last
    complaint: str  # what the server says of its failure

    @property
    def seconds(self) -> float:
        return seconds_between(self.started, self.ended or self.started)

    @property
    def words(self) -> str:
        """Its state."""
        return IN_WORDS.get(self.state, self.state.lower())


def steps_of(run: Run) -> list[Step]:
    """The steps that the server knows, in the order of their beginning."""
    tasks = run.run_details.task_details
    by_node = {task.node: task for task in tasks}
    drivers = {task.display_name: task for task in tasks if task.display_name.endswith(DRIVER)}
    steps = {}
    for task in tasks:
        name = task.display_name
        if _is_of_graph(task, by_node) or EXECUTOR.fullmatch(name) or name in drivers:
            continue
        steps[name] = _step(task, drivers.pop(name + DRIVER, None), by_node)
    # A driver that failed, or has just begun, is all there is of its step.
    for name, driver in drivers.items():
        if name not in OF_GRAPH and driver.state != "SUCCEEDED":
            steps.setdefault(name, _step(driver, None, by_node))
    return sorted(steps.values(), key=lambda one: (one.started or NEVER, one.name))


def _is_of_graph(task: Task, by_node: dict[str, Task]) -> bool:
    children = (by_node.get(child.pod_name or child.task_id) for child in task.child_tasks)
    names = {task.display_name, *(child.display_name for child in children if child)}
    return bool(names & OF_GRAPH)


def _step(task: Task, driver: Task | None, by_node: dict[str, Task]) -> Step:
    """What a task is, with its driver and its pods."""
    inside = list(_executors(task, by_node))
    name = step_of(task.display_name.removesuffix(DRIVER))
    if driver and driver.state in FAILED:  # the task itself was left out then
        inside, task = [], driver
    complaints = [one.complaint for one in (task, *inside)]
    # One that has others below has no pod.
    pods = tuple(one.node for one in inside if not any(_executors(one, by_node))) or (task.node,)
    return Step(
        name=name,
        state=task.state,
        started=task.start_time,
        ended=task.end_time,
        pods=pods,
        complaint=next(filter(None, reversed(complaints)), ""),
    )


def _executors(task: Task, by_node: dict[str, Task]) -> Iterator[Task]:
    """The nodes below a task that are of it, from the first try to the last."""
    below, seen = [task], set()
    while below:
        for child in below.pop(0).child_tasks:
            inner = by_node.get(child.pod_name or child.task_id)
            if inner and inner.node not in seen and EXECUTOR.fullmatch(inner.display_name):
                seen.add(inner.node)
                below.append(inner)
                yield inner

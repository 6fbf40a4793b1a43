"""What the pods of a job tell: what they wait for, how they ended, and what rank 0 says."""

import math
import re
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from components.train.nodes.api import Api, Missing, NotNow, Refused, Unanswered
from components.train.nodes.jobs import JOB, node_of
from shared.servers import plain, said

Json = dict[str, Any]
Time = tuple[datetime, int]  # and nanoseconds

PODS = "/api/v1/namespaces/{}/pods"
LOG_S = 20.0  # in which a log should be answered; a training does not end for its log
OVERLAP_S = 10  # of what is read of a log again, so that nothing is lost between two times
LAST_LINES = 40
STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
# How the last line of a step begins, see `shared/command.py`.
END_OF_STEP = re.compile(r"^train\w* (refused|failed): (.+)")
# What does not change by itself: images, and what a container is made from.
STUCK = {
    *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
}


class Ended(NamedTuple):
    """How the pod of a node failed."""

    pod: str
    node: int | None
    reason: str  # of Kubernetes: OOMKilled, Evicted, Error
    code: int | None
    message: str
    time: str

    @property
    def called(self) -> str:
        return called(self.pod, self.node)


class Wait(NamedTuple):
    """What a pod that does not run yet waits for."""

    pod: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"waits ({f'{self.reason}: {self.message}'.strip(': .')})"


def called(pod: str, node: int | None) -> str:
    return f"pod {pod}" if node is None else f"node {node} (pod {pod})"


def pods_of(api: Api, job: str, container: str, limit_s: float) -> list[Json]:
    """The pods of a job, the newest last. Raises as `Api.ask`, which limit_s is for."""
    where = PODS.format(api.namespace)
    found = api.ask("GET", where, limit_s=limit_s, labelSelector=f"{JOB}={job}")
    pods = [pod for pod in found.get("items") or [] if container in _names_in(pod)]
    return sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp") or "")


def _names_in(pod: Json) -> list[str]:
    return [one["name"] for one in pod.get("spec", {}).get("containers") or []]


def speaker_of(pods: Iterable[Json]) -> Json | None:
    """The newest pod of the node of rank 0, once its container has started."""
    started = [
        pod
        for pod in pods
        if node_of(pod) == 0 and pod.get("status", {}).get("phase") not in (None, "Pending")
    ]
    return started[-1] if started else None


def phase_of(pod: Json) -> str:
    """What a pod does, in a few words: Running, or Pending and why."""
    phase = pod.get("status", {}).get("phase") or "Pending"
    return f"{phase}, {wait}" if (wait := wait_of(pod)) else phase


def wait_of(pod: Json) -> Wait | None:
    """Why a pod does not run, where Kubernetes says it."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") in ("Running", "Succeeded", "Failed") and not _waiting(status):
        return None
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return Wait(name, one.get("reason", ""), said(one.get("message", "")))
    for waiting in _waiting(status):
        return Wait(name, waiting.get("reason", ""), said(waiting.get("message", "")))
    return None


def _waiting(status: Json) -> list[Json]:
    """Of containers that wait for something they may not get."""
    every = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    states = [one.get("state", {}).get("waiting") or {} for one in every]
    return [one for one in states if one.get("reason") in STUCK]


def failed_of(pods: Iterable[Json], container: str) -> list[Ended]:
    """The pods that failed, the first to end before those that failed because of it."""
    ended = []
    for pod in pods:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        states = {
            one["name"]: one.get("state", {}).get("terminated")
            for one in status.get("containerStatuses") or []
        }
        state = states.get(container) or {}
        if status.get("phase") != "Failed" and not state.get("exitCode"):
            continue
        reason = status.get("reason") or state.get("reason") or "Failed"
        message = said(status.get("message") or state.get("message") or "")
        when = state.get("finishedAt") or ""
        ended.append(Ended(name, node_of(pod), reason, state.get("exitCode"), message, when))
    return sorted(ended, key=lambda one: (one.reason == "Error", one.time or "9"))


# Logs.


class Log:
    """What rank 0 says, line by line; each is told once, whatever happens to the connection."""

    def __init__(self, api: Api, container: str):
        self._api, self._container = api, container
        self._pod = ""
        self._told: tuple[Time | None, int] = (None, 0)  # time of the last line, lines of it
        self._read_until: float | None = None  # time.monotonic()
        self.last_lines: list[str] = []

    def tell(self, pod: str) -> bool:
        """Print what is new in the log of a pod; whether it could be read."""
        if pod != self._pod:
            self._pod, self._told, self._read_until = pod, (None, 0), None
        query = {"container": self._container, "timestamps": "true"}
        asked = time.monotonic()
        if self._read_until is not None:
            query["sinceSeconds"] = str(math.ceil(asked - self._read_until) + OVERLAP_S)
        path = f"{PODS.format(self._api.namespace)}/{pod}/log"
        try:
            text = self._api.read_text(path, LOG_S, **query)
        except (Missing, NotNow, Unanswered, Refused):
            return False
        self._read_until = asked
        for line in self._new_in(text):
            self.last_lines = [*self.last_lines, line][-LAST_LINES:]
            print(line, flush=True)
        return True

    def _new_in(self, text: str) -> list[str]:
        """The lines behind the last one that was told, without their times."""
        new, (last, told), seen = [], self._told, 0
        for stamped in text.splitlines():
            found = STAMP.match(stamped)
            if not found:  # half a line, or not of a container
                continue
            when = time_of(found)
            if last is not None and when < last:
                continue
            if when == last:
                seen += 1
                if seen <= told:
                    continue
                told += 1
            else:
                last, told, seen = when, 1, 1
            new.append(plain(stamped[found.end() :]))
        self._told = last, told
        return new


def time_of(stamp: re.Match) -> Time:
    """The time of a line; zeros at the end of its fraction are left out."""
    zone = "+00:00" if stamp[3] == "Z" else stamp[3]
    return datetime.fromisoformat(stamp[1] + zone), int((stamp[2] or "").ljust(9, "0"))


def last_lines_of(api: Api, pod: str, container: str) -> list[str]:
    """The end of a pod's log; nothing where it cannot be read."""
    path = f"{PODS.format(api.namespace)}/{pod}/log"
    try:
        text = api.read_text(path, LOG_S, container=container, tailLines=str(LAST_LINES))
    except (Missing, NotNow, Unanswered, Refused):
        return []
    return [plain(line) for line in text.splitlines()]


def end_said_in(lines: Iterable[str]) -> tuple[str, str] | None:
    """How a step said that it ended, "refused" or "failed", and its sentence."""
    found = [match for line in lines if (match := END_OF_STEP.match(line))]
    return (found[-1][1], found[-1][2]) if found else None

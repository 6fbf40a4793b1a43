"""A job from its beginning to its end: made once, watched, told, and deleted."""

import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from components.train.nodes.api import Api, Missing, Taken
from components.train.nodes.jobs import CONTAINERS, JOB, PLACES, Template, node_of, state_of
from components.train.nodes.pods import (
    STUCK,
    Ended,
    Log,
    called,
    end_said_in,
    failed_of,
    last_lines_of,
    phase_of,
    pods_of,
    speaker_of,
    wait_of,
)
from shared.errors import InputError, WorkFailed

Json = dict[str, Any]


@dataclass(frozen=True)
class Patience:
    """Seconds."""

    look: float = 3.0  # between two looks
    settle: float = 6.0  # from the first pod that failed to the verdict: others may have caused it
    stuck: float = 180.0  # for images that are not pulled, and containers that are not made
    begin: float = 24 * 3600.0  # until all nodes run: a queue may be long
    lost: float = 600.0  # without an answer of the API
    gone: float = 300.0  # until a deleted job is gone with its pods
    delete: float = 20.0  # Kubernetes kills a pod 30 s after its SIGTERM


PATIENCE, MINUTE_S = Patience(), 60.0


class Job:
    """One job of the cluster; whoever has its name watches the same one."""

    def __init__(self, api: Api, template: Template, name: str):
        self.api, self.template, self.name = api, template, name
        self.place = PLACES[template.kind].format(api.namespace)
        self.kind = "TrainJob" if template.kind == "trainjob" else "AscendJob"
        self.container = CONTAINERS[template.kind]
        self.patience = PATIENCE
        self.uid = ""
        self.is_ours = False  # asked for by us, or by an earlier attempt

    @property
    def called(self) -> str:
        return f"{self.kind} {self.api.namespace}/{self.name}"

    # Made and deleted.

    def find(self) -> bool:
        """Whether an earlier attempt of the step has made the job, which goes on or is complete.

        One that failed, or is being deleted, is waited for to be gone with its pods: two trainings
        never write into one folder. Raises InputError where it is not ours."""
        found = self._find()
        if found is None:
            return False
        self.uid, self.is_ours = found["metadata"]["uid"], True
        if not state_of(found).is_failed and "deletionTimestamp" not in found["metadata"]:
            return True
        print(f"{self.called} of an earlier attempt is over: deleting it", flush=True)
        self.delete()
        self._wait_until_gone()
        return False

    def make(self, body: Json) -> None:
        """Make the job. Raises InputError where the cluster does not take it."""
        self.is_ours = True
        try:
            made = self.api.ask("POST", self.place, body)
        except Taken:  # by the same request, whose answer was lost
            made = self._find()
            if made is None:
                raise WorkFailed(f"{self.called} was deleted as soon as it was made.") from None
        except Missing as reason:
            raise InputError(
                f"the cluster knows no {self.kind} ({reason}): install what runs it, or write "
                "another launcher.kind into the file of --cluster."
            ) from None
        self.uid = made["metadata"]["uid"]

    def _find(self) -> Json | None:
        try:
            found = self.api.ask("GET", f"{self.place}/{self.name}")
        except Missing:
            return None
        if (found["metadata"].get("labels") or {}).get(JOB) != self.name:
            raise InputError(
                f"{self.called} is there, but was not made by this step: delete it, for nothing "
                "else may have its name."
            )
        return found

    def delete(self, limit_s: float | None = None) -> None:
        """Delete the job, its pods first; one that is gone already is fine. Raises as `Api.ask`."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        if self.uid:  # never another's
            options["preconditions"] = {"uid": self.uid}
        try:
            self.api.ask("DELETE", f"{self.place}/{self.name}", options, limit_s)
        except (Missing, Taken):
            pass

    def _wait_until_gone(self) -> None:
        until = time.monotonic() + self.patience.gone
        while self._find() is not None:
            if time.monotonic() > until:
                raise WorkFailed(
                    f"{self.called} of an earlier attempt is not gone {self.patience.gone:.0f} s "
                    "after it was deleted: look what its pods wait for."
                )
            time.sleep(self.patience.look)
        self.uid = ""

    # Watched.

    def watch(self) -> None:
        """Tell what the job does until it is complete.

        Raises WorkFailed, or InputError where the training refused, with the reason: it failed, was
        deleted by somebody else, cannot start, takes too long, or nothing is known of it."""
        told, begun = Told(), time.monotonic()
        log = Log(self.api, self.container)
        deadline = begun + MINUTE_S * self.template.timeout_min
        while True:
            job = self._look()
            pods = self._pods()
            state = state_of(job)
            told.say(self.called, f"{state.name} ({state.reason})" if state.reason else state.name)
            for pod in pods:
                name = pod["metadata"]["name"]
                told.say(called(name, node_of(pod)), phase_of(pod))
            if speaker := speaker_of(pods):
                log.tell(speaker["metadata"]["name"])

            # Over, or never to begin.
            failed = failed_of(pods, self.container)
            if state.is_done:
                return
            if state.is_failed or failed:
                self._fail(log, state.reason)
            self._refuse_what_is_stuck(pods, told)
            waited = time.monotonic() - begun
            if speaker is None and waited > self.patience.begin:
                self._say_never_begun(pods, waited)
            if self.template.timeout_min and time.monotonic() > deadline:
                raise WorkFailed(
                    f"{self.called} took more than {self.template.timeout_min} min (timeout_min of "
                    "the cluster's file): give it more, or train for fewer epochs a time."
                )
            time.sleep(self.patience.look)

    def _pods(self) -> list[Json]:
        return pods_of(self.api, self.name, self.container, self.patience.lost)

    def _look(self) -> Json:
        """The job as it is. Raises WorkFailed where it is another, or gone."""
        try:
            found = self.api.ask("GET", f"{self.place}/{self.name}", None, self.patience.lost)
        except Missing:
            found = None
        if found is None or found["metadata"].get("uid") != self.uid:
            raise WorkFailed(
                f"{self.called} was deleted by somebody else before it was complete: what it saved "
                "is kept."
            )
        if "deletionTimestamp" in found["metadata"] and not state_of(found).is_done:
            raise WorkFailed(
                f"{self.called} is being deleted by somebody else before it is complete: what it "
                "saved is kept."
            )
        return found

    def _fail(self, log: Log, reason: str) -> NoReturn:
        """Raise what the first pod that failed says, once all have had the time to say it."""
        time.sleep(self.patience.settle)
        pods = self._pods()
        if speaker := speaker_of(pods):
            log.tell(speaker["metadata"]["name"])
        failed, sentence = failed_of(pods, self.container), ""

        # The first to end is the cause; rank 0's words are told already.
        for one in failed:
            lines = last_lines_of(self.api, one.pod, self.container)
            if one.node != 0 and lines:
                print(f"the last lines of {one.called}:", *lines, sep="\n", flush=True)
            said = end_said_in(lines) if one.reason == "Error" else None
            if not sentence and said and said[0] == "refused":
                raise InputError(said[1])
            if said:
                sentence += f" {one.called}: {said[1]}" if sentence else said[1]
                break
            sentence = sentence or _how_it_ended(one, lines)
        if not failed:
            said = end_said_in(log.last_lines)
            sentence = said[1] if said else f"{self.called} failed: {reason or 'nobody says why'}."

        # Whom they may have waited for.
        for pod in pods:
            if wait := wait_of(pod):
                sentence += f" {called(wait.pod, node_of(pod))} {wait}."
        raise WorkFailed(sentence)

    def _refuse_what_is_stuck(self, pods: list[Json], told: "Told") -> None:
        for pod in pods:
            wait = wait_of(pod)
            if wait is None or wait.reason not in STUCK:
                told.forget(pod["metadata"]["name"])
            elif told.since(wait.pod) > self.patience.stuck:
                raise WorkFailed(
                    f"{called(wait.pod, node_of(pod))} {wait}: mend it in the file of --cluster."
                )

    def _say_never_begun(self, pods: list[Json], waited_s: float) -> NoReturn:
        waits = [wait for pod in pods if (wait := wait_of(pod))]
        why = f"{called(waits[0].pod, None)} {waits[0]}" if waits else "it has no pods"
        raise WorkFailed(f"{self.called} has not begun after {waited_s / 60:.0f} min: {why}.")


def _how_it_ended(one: Ended, lines: list[str]) -> str:
    """A sentence of a pod that did not say it itself."""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    match one.reason:
        case "OOMKilled":
            return (
                f"{one.called} had too little memory (OOMKilled): raise memory_limit in the file "
                "of --cluster, or lower --batch-size or --workers."
            )
        case "Error" | "Completed":
            about = f": {last.rstrip('.')}." if last else ", without a word."
            return f"{one.called} ended with exit code {one.code}{about}"
        case _:
            about = f"{one.reason}: {one.message}".rstrip(": ")
            return f"{one.called} was ended by Kubernetes ({about})."


@dataclass
class Told:
    """What was said last of each thing, and since when a pod is stuck."""

    last: dict[str, str] = field(default_factory=dict)
    stuck: dict[str, float] = field(default_factory=dict)

    def say(self, what: str, how: str) -> None:
        """Print how something is, where that has changed."""
        if self.last.get(what) != how:
            self.last[what] = how
            print(f"{what}: {how}", flush=True)

    def since(self, pod: str) -> float:
        """Seconds since it was asked for a pod first."""
        return time.monotonic() - self.stuck.setdefault(pod, time.monotonic())

    def forget(self, pod: str) -> None:
        self.stuck.pop(pod, None)

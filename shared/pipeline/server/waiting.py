"""Following a run of a server to its end, through whatever happens to the way there."""

import sys
import time

from shared.errors import InputError
from shared.pipeline.server.answers import Run
from shared.pipeline.server.client import Server
from shared.pipeline.server.logs import last_words
from shared.pipeline.server.reasons import NoAnswer
from shared.pipeline.server.runs import NOT_FOUND, command, get_run
from shared.pipeline.server.steps import FAILED, steps_of
from shared.pipeline.submitting import ServerOptions, WaitOptions
from shared.servers import patience_s, said
from shared.terminal.progress import duration
from shared.terminal.stopping import keeps

# Exit codes; that of a deadline is timeout(1)'s, as of a night.
CODES = {"SUCCEEDED": 0, "FAILED": 1, "CANCELED": 4, "SKIPPED": 5}
LOST, PAST_DEADLINE = 2, 124
# How long a server may be away, in times of the patience: an hour; and where it refuses a token or
# password that cannot be renewed, 5 minutes.
AWAY, REFUSING = 60, 5
LONGEST_PAUSE = 1.0  # between two looks for a server that is away, in times of the patience


def follow(server: Server, run: Run, options: WaitOptions) -> int:
    """Say how a run goes, a line for each change of a step, and return the exit code of its end.

    The run goes on whatever becomes of us: after the deadline, a signal, or where the server is
    away for too long."""
    goes_on = f"the run goes on; `{command('terminate', options, run)}` stops it"
    look = f"`{command('status', options, run, ' --wait')}` follows it again"
    keeps(goes_on, look)
    deadline = time.monotonic() + options.deadline_min * 60 if options.deadline_min else None
    known: dict[str, str] = {}
    outage = _Outage(server)
    while True:
        # How far it is; a look at it does not last longer than we have time.
        left = deadline - time.monotonic() if deadline else patience_s()
        try:
            run = get_run(server, run.run_id, max(0.1, min(left, patience_s())))
            outage.ends()
            known = _say_changes(known, run)
            if run.ended:
                return _end(server, run, options)
        except (NoAnswer, InputError) as failed:  # also of a file that has no token at the moment
            if getattr(failed, "status", 0) == NOT_FOUND and failed.is_of_api:
                return _give_up(f"run {run.name} is no longer there: somebody has deleted it", LOST)
            if outage.lasts_too_long(failed):
                return _give_up(f"--host {server.access.url} {_bare(failed)}; {goes_on}", LOST)

        # Until the next look.
        pause = options.poll_s if not outage.pause_s else outage.pause_s
        if deadline:
            left = deadline - time.monotonic()
            if left <= 0:
                reason = f"--deadline-min {options.deadline_min:g} has passed"
                return _give_up(f"{reason}: {goes_on}; {look}", PAST_DEADLINE)
            pause = min(pause, left)
        time.sleep(pause)


class _Outage:
    """How long a server has given no answer that counts."""

    def __init__(self, server: Server):
        self._server, self._since, self.pause_s = server, 0.0, 0.0
        self._said = ""

    def lasts_too_long(self, failed: Exception) -> bool:
        """Say what is wrong, once, and wait longer and longer."""
        now = time.monotonic()
        if not self.pause_s:
            self._since = now
        self.pause_s = min(max(0.1, 2 * self.pause_s), LONGEST_PAUSE * patience_s())
        if self._said != str(failed):
            self._said = str(failed)
            print(f"{self._server.access.url} {_bare(failed)}; it is asked again", flush=True)
        is_refusal = getattr(failed, "status", 0) in (401, 403)
        limit = REFUSING if is_refusal and not self._server.access.is_renewed else AWAY
        return now - self._since > limit * patience_s()

    def ends(self) -> None:
        if self.pause_s:
            away = duration(time.monotonic() - self._since)
            print(f"{self._server.access.url} answers again, after {away}", flush=True)
        self.pause_s, self._said = 0.0, ""


def _say_changes(known: dict[str, str], run: Run) -> dict[str, str]:
    """Print what is new since the last look; returns what is known now."""
    steps = steps_of(run)
    for step in steps:
        if known.get(step.name) != step.words and step.state:
            took = f" after {duration(step.seconds)}" if step.ended and step.started else ""
            print(said(f"{step.name}: {step.words}{took}"), flush=True)
    return {step.name: step.words for step in steps}


def _end(server: Server, run: Run, options: ServerOptions) -> int:
    """Say how the run has ended."""
    took = f" after {duration(run.seconds)}" if run.seconds else ""
    if run.ended == "SUCCEEDED":
        print(f"run {run.name} succeeded{took}", flush=True)
    else:
        reason = reason_of(server, run, options)
        print(f"run {run.name} {run.ended.lower()}{took}{reason}", file=sys.stderr, flush=True)
    return CODES[run.ended]


def reason_of(server: Server, run: Run, options: ServerOptions) -> str:
    """Where and why a run has failed, behind " in step"; "" where nobody says."""
    failed = [step for step in steps_of(run) if step.state in FAILED]
    # What was canceled because another failed comes after that.
    failed.sort(key=lambda step: step.state != "FAILED")
    if not failed:
        return f": {said(run.complaint)}" if run.complaint else ""
    step = failed[0]
    why = said(step.complaint) or last_words(server, run, step) or said(run.complaint)
    look = f"`{command('logs', options, run, f' --step={step.name}')}` shows more"
    return f" in step {step.name}: {f'{why}; ' if why else ''}{look}"


def _give_up(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr, flush=True)
    return code


def _bare(failed: Exception) -> str:
    return str(failed).rstrip(".")

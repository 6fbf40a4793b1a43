"""How a night ended, for whoever wants to know: JSON on the standard input of a command."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from typing import Any

from shared.contracts.measured import BenchmarkReport
from shared.errors import InputError
from shared.pipeline.runs import Run
from shared.secrets import without_secrets
from shared.servers import plain

LIMIT_SECONDS = 60.0  # a command that hangs must not keep the next night from starting
OUTCOMES = {  # by the exit code of `nightly`; other codes are signals
    0: "done",
    1: "failed",
    2: "refused",
    3: "model refused",
    75: "busy",
    124: "timed out",
}


def notify(command: str, recipe: str, code: int, run: Run | None = None, reason: str = "") -> None:
    """Run a command by the shell and tell it how a night ended; whatever it does, it costs a
    warning at most.

    Args:
        command: Empty: nobody wants to know.
        code: The exit code of `nightly`.
        run: Its run, where there is one.
        reason: Why there is none.
    """
    if not command:
        return
    message = json.dumps(message_of(recipe, code, run, plain(without_secrets(reason))))
    sys.stdout.flush()
    try:
        process = subprocess.Popen(
            command, shell=True, stdin=subprocess.PIPE, text=True, start_new_session=True
        )
    except (OSError, ValueError) as error:
        _warn(f"cannot be started: {error}")
        return
    try:
        process.communicate(message, LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _warn(f"was stopped, since it ran longer than {LIMIT_SECONDS:g} s")
    else:
        if process.returncode:
            _warn(f"ended with exit code {process.returncode}")


def message_of(recipe: str, code: int, run: Run | None, reason: str = "") -> dict[str, Any]:
    """What is told; a field that says nothing is empty.

    Args: see `notify`.
    """
    message = {
        "outcome": OUTCOMES.get(code, "stopped"),
        "exit_code": code,
        "recipe": recipe,
        "run": run.name if run else "",
        "verdict": "",  # of the benchmark: first, better, equal, worse, not comparable
        "reasons": [],  # of the verdict
        "headline": {},  # figures by the names that MLflow has
        "report": "",  # path of report.html
        "mlflow": "",  # address of the run
        "step": "",  # that was broken off
        "reason": reason,  # why it did not end well
    }
    if run is None:
        return message

    # Where it got to.
    record = run.record
    message["mlflow"] = record.mlflow
    open_steps = [name for name, state in record.steps.items() if not state.is_done]
    if code not in (0, 3) and open_steps:
        step = open_steps[0]
        message["step"] = step
        message["reason"] = reason or record.steps[step].reason or record.reason

    # What it measured.
    folder = run.report
    with contextlib.suppress(InputError, OSError):
        report = BenchmarkReport.read(folder)
        figures = report.headline()
        message["headline"] = {name: figures[name] for name in figures if _is_json(figures[name])}
        message["report"] = str(folder / BenchmarkReport.PAGE)
        if report.verdict:
            message["verdict"] = report.verdict.outcome
            message["reasons"] = report.verdict.reasons
    return message


def _is_json(figure: float) -> bool:
    """JSON knows neither infinity nor NaN, though Python writes them."""
    return math.isfinite(figure)


def _warn(what: str) -> None:
    print(f"nightly: warning: the command of --notify {what}", file=sys.stderr)

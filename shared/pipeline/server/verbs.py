"""The verbs about a run that is on a server: `status`, `logs`, `terminate`."""

import sys
from typing import Annotated, ClassVar

import tyro
from tabulate import tabulate

from shared.command import StepConfig
from shared.errors import InputError
from shared.pipeline.graph import step_of
from shared.pipeline.server.answers import Nothing, Run
from shared.pipeline.server.client import Server, connect
from shared.pipeline.server.logs import NO_STATE, lines_of
from shared.pipeline.server.reasons import NoAnswer
from shared.pipeline.server.runs import command, find_run, list_runs, page_of, with_host
from shared.pipeline.server.steps import Step, steps_of
from shared.pipeline.server.waiting import follow, reason_of
from shared.pipeline.submitting import ServerOptions, WaitOptions
from shared.servers import said
from shared.terminal.progress import duration
from shared.terminal.stopping import keeps

NEWEST = 20
RunName = Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]


class StatusOptions(WaitOptions, StepConfig):
    """A look at runs."""

    STEP: ClassVar[str] = "status"


class LogsOptions(ServerOptions, StepConfig):
    """A look at what pods have said."""

    STEP: ClassVar[str] = "logs"

    step: str = ""
    """Step, such as train_global; empty: all that have begun."""


class TerminateOptions(ServerOptions, StepConfig):
    """The end of a run."""

    STEP: ClassVar[str] = "terminate"


def status(config: StatusOptions, run: RunName = "") -> None:
    """Show how far a run is on the server at --host, by its name or id; without one the newest
    runs. --wait follows it to its end.

    Exit codes: 0 shown, 2 refused; with --wait those of `submit --wait`.

    Example:
        python pipeline.py status demo-20260101-020000 --host https://kfp.example --wait
    """
    keeps("it changes nothing")
    options = with_host(config)
    if options.wait and not run:
        raise InputError("--wait follows one run: name it.")
    with connect(options) as server:
        if not run:
            _print_newest(server, options)
            return
        found = find_run(server, run, options)
        if options.wait:
            print(f"Run details: {page_of(server, found)}", flush=True)
            if code := follow(server, found, options):
                sys.exit(code)
            return

        # The run, its steps, and why it failed.
        state = found.ended or found.state
        took = f" {'after' if found.ended else 'for'} {duration(found.seconds)}"
        reason = ""
        if found.ended in ("FAILED", "CANCELED"):
            reason = reason_of(server, found, options)
        print(said(f"{found.name} {state.lower()}{took}{reason}"))
        if steps := steps_of(found):
            print(_table((step.name, step.words, _took(step)) for step in steps))
        print(page_of(server, found))


def _print_newest(server: Server, options: ServerOptions) -> None:
    runs = [run for run, _ in zip(list_runs(server, options), range(NEWEST), strict=False)]
    print(_table(map(_row, runs)) if runs else f"{server.access.url} has no runs.")


def _row(run: Run) -> tuple[str, ...]:
    began = f"{run.created_at:%Y-%m-%d %H:%M}" if run.created_at else ""
    state = (run.ended or run.state).lower()
    return run.name, state, began, duration(run.seconds), run.run_id


def _table(rows) -> str:
    return tabulate([[said(cell) for cell in row] for row in rows], tablefmt="plain")


def _took(step: Step) -> str:
    return duration(step.seconds) if step.started and step.ended else ""


def logs(config: LogsOptions, run: RunName) -> None:
    """Print what the pods of a run on the server at --host have said, step by step.

    Example:
        python pipeline.py logs demo-20260101-020000 --step train_global --host https://kfp.example
    """
    keeps("it changes nothing")
    options = with_host(config)
    with connect(options) as server:
        found = find_run(server, run, options)
        steps = steps_of(found)
        wanted = [step for step in steps if step.name == step_of(options.step)]
        if options.step and not wanted:
            names = ", ".join(step.name for step in steps) or "none yet"
            raise InputError(f"--step {options.step} has not begun: the steps that have: {names}.")
        shown = 0
        for step in wanted or [step for step in steps if step.state not in NO_STATE]:
            try:
                for number, line in enumerate(lines_of(server, found, step.pods[-1])):
                    if not options.step and not number:
                        print(f"--- {step.name}")
                    print(line)
                    shown += 1
            except NoAnswer as failed:
                _say_kubectl(server, found, step, failed)
        if not shown:
            sys.exit(2)


def _say_kubectl(server: Server, run: Run, step: Step, failed: NoAnswer) -> None:
    """Where the server gives no log, whoever may speak to the cluster gets it there."""
    namespace = server.namespace or "kubeflow"
    which = step.pods[-1] or f"--selector pipeline/runid={run.run_id}"
    print(
        f"logs: {step.name}: {server.access.url} {str(failed).rstrip('.')}; in the cluster "
        f"`kubectl logs --namespace {namespace} {which} --container main` shows it.",
        file=sys.stderr,
    )


def terminate(config: TerminateOptions, run: RunName) -> None:
    """Stop a run on the server at --host, by its name or id; what its steps have finished stays in
    the cache.

    Example:
        python pipeline.py terminate demo-20260101-020000 --host https://kfp.example
    """
    options = with_host(config)
    with connect(options) as server:
        found = find_run(server, run, options)
        if found.ended:
            print(f"{said(found.name)} is over already: {found.ended.lower()}")
            return
        server.ask("POST", f"runs/{found.run_id}:terminate", Nothing)
    look = command("status", options, found)
    print(f"{said(found.name)} is being terminated; `{look}` shows when it is.")

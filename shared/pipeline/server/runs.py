"""Runs of a server: found by name or id, in words, and the commands that are about one."""

import json
import os
import re
import shlex
from collections.abc import Iterator

from shared.errors import InputError, runnable
from shared.flags import as_words
from shared.pipeline.server.answers import Experiment, Run
from shared.pipeline.server.client import Server
from shared.pipeline.server.credentials import ENDPOINT, VARIABLE, shown
from shared.pipeline.submitting import ServerOptions
from shared.servers import said

UI = "KF_PIPELINES_UI_ENDPOINT"  # variable of kfp: where people look, where that is not --host
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOT_FOUND = 404


def find_run(server: Server, wanted: str, options: ServerOptions) -> Run:
    """The run of that name or id; of several of one name the newest, which is said. Raises
    InputError where there is none."""
    if ID.fullmatch(wanted):
        return get_run(server, wanted)
    runs = list(list_runs(server, options, filter=named(wanted)))
    if not runs:
        raise InputError(
            f"{server.access.url} has no run {said(wanted)}: `{command('status', options)}` shows "
            "which there are; where it has users, name your --namespace."
        )
    if len(runs) > 1:
        print(f"{len(runs)} runs are called {said(wanted)}: this is the newest, {runs[0].run_id}")
    return get_run(server, runs[0].run_id)


def get_run(server: Server, identity: str, seconds: float = 0) -> Run:
    return server.ask("GET", f"runs/{identity}", Run, seconds)


def list_runs(server: Server, options: ServerOptions, **query: str) -> Iterator[Run]:
    """Runs from the newest on, in --namespace and of --experiment."""
    query |= {"sort_by": "created_at desc", "namespace": server.namespace}
    if options.experiment:
        asked = {"filter": named(options.experiment), "namespace": server.namespace}
        known = next(server.pages("experiments", "experiments", Experiment, **asked), None)
        if known is None:
            raise InputError(f"--experiment {options.experiment} is not on {server.access.url}.")
        query["experiment_id"] = known.experiment_id
    return server.pages("runs", "runs", Run, **query)


def named(name: str, key: str = "display_name") -> str:
    """The filter of a list for one name. The server takes escapes of URLs out of it once more than
    out of the rest of the query, so it has none."""
    predicate = {"operation": "EQUALS", "key": key, "stringValue": name}
    text = json.dumps({"predicates": [predicate]})
    return text.replace("%", r"\u0025").replace("+", r"\u002b")


def page_of(server: Server, run: Run) -> str:
    """Where people look at a run."""
    place = os.environ.get(UI) or server.access.url
    return f"{place.rstrip('/')}/#/runs/details/{run.run_id}"


def command(verb: str, options: ServerOptions, run: Run | None = None, more: str = "") -> str:
    """What to say about a run, with the options that this command has."""
    words = as_words(options, ServerOptions)
    if not options.host.startswith(VARIABLE):
        words = [word for word in words if not word.startswith("--host=")]
        words.insert(0, f"--host={shown(options.host)}")
    of_run = [run.run_id] if run else []
    text = shlex.join([verb, *of_run, *words]) + more
    return runnable(f"python pipeline.py {text}")


def with_host(options: ServerOptions) -> ServerOptions:
    """The options with the server that the environment names where none is given. Raises
    InputError."""
    if options.host:
        return options
    if not os.environ.get(ENDPOINT):
        raise InputError(f"--host is missing: give the server's URL, or set {ENDPOINT}.")
    return options.model_copy(update={"host": VARIABLE + ENDPOINT})

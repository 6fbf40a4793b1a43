"""What the pods of a run have said.

API servers give it by an address that their published description leaves out
(backend/src/apiserver/server/run_log_server.go), with status 200 also where they have none."""

import json
import re
from collections.abc import Iterator

from shared import servers
from shared.pipeline.server.answers import Run
from shared.pipeline.server.client import Server
from shared.pipeline.server.reasons import NoAnswer, of_status, said_why
from shared.pipeline.server.steps import Step
from shared.secrets import without_secrets
from shared.servers import MOST_BYTES, plain, said

LOG = "/apis/v1alpha1/runs/{run}/nodes/{node}/log"
LONGEST_LINE = 64 * 1024
OURS = re.compile(r"[a-z_]+ (failed|refused): ")  # of a step: KFP's launcher speaks after it
NO_STATE = ("", "PENDING", "SKIPPED")


def lines_of(server: Server, run: Run, pod: str) -> Iterator[str]:
    """The lines of a pod's log, fit to be shown. Raises NoAnswer where the server has none."""
    path = LOG.format(run=run.run_id, node=pod)
    headers = server.access.headers()
    with said_why(), server.open("GET", path, headers, servers.patience_s()) as answer:
        if answer.status != 200:
            content = servers.whole(answer.stream(2**16))
            location, sources = answer.headers.get("Location"), server.access.sources
            raise of_status(answer.status, location, content, server.access.url, sources)
        is_first = True
        for line in _lines(answer.stream(2**16)):
            if is_first and line.lstrip().lower().startswith((b"<!doctype", b"<html")):
                raise NoAnswer("shows a page, and not the log.")
            if reason := _no_log(line):
                raise NoAnswer(f"has not this log: {reason}.")
            is_first = False
            yield plain(without_secrets(line.decode(errors="replace"))).rstrip()


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of an answer that is not longer than any that makes sense."""
    rest, length = b"", 0
    for part in parts:
        length += len(part)
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
        if len(rest) > LONGEST_LINE:
            yield rest
            rest = b""
        if length > MOST_BYTES:
            yield f"... the log is longer than {MOST_BYTES / 2**20:.0f} MiB".encode()
            return
    if rest:
        yield rest


def _no_log(line: bytes) -> str:
    """What the server says in place of a log, behind what it had of it."""
    if not line.startswith(b'{"error_message"'):
        return ""
    try:
        return said(json.loads(line)["error_message"]).rstrip(".")
    except (ValueError, TypeError, KeyError):
        return ""


def last_words(server: Server, run: Run, step: Step) -> str:
    """Why a step failed: its last line, of ours the one that says it; "" where there is none."""
    last = why = ""
    try:
        for line in lines_of(server, run, step.pods[-1]):
            last = line.strip() or last
            why = line if OURS.match(line) else why
    except NoAnswer:
        pass
    return said(why or last)

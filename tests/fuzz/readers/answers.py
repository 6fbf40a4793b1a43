"""What servers answer, byte by byte; and the journal of what MLflow was told."""

import json
import socket
import threading
from pathlib import Path
from unittest import mock

from components.prepare.fetch import stores
from components.prepare.fetch.stores import Store, Unreachable
from shared.errors import InputError
from shared.pipeline.images.registry import check_images
from shared.pipeline.server import client
from shared.pipeline.server.answers import Run
from shared.pipeline.server.runs import get_run
from shared.pipeline.submitting import ServerOptions
from shared.tracking.journal import (
    Journal,
    MadeNote,
    Position,
    RunNote,
    curve_ends,
    journals_in,
)
from shared.tracking.replay import close_dead, count_left, is_delivered
from tests.fuzz.engine import Target

HEALTH = b'{"multi_user": false}'  # of a KFP server, asked before anything else
ENTRIES = "train-20260101-000000-abcdef.jsonl"


class Answering:
    """A server on this machine that answers every request with the same bytes."""

    def __init__(self):
        self.content = b""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            with client:
                client.settimeout(2)
                is_healthy = b"/healthz" in client.recv(1 << 16) and b"_user" not in self.content
                client.sendall(answer(HEALTH) if is_healthy else self.content)
        except OSError:
            pass


SERVER: list[Answering] = []  # of this process


def asked(path: Path) -> str:
    """The address of a server that answers with the file's bytes."""
    if not SERVER:
        SERVER.append(Answering())
    SERVER[0].content = path.read_bytes()
    return SERVER[0].host


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer of HTTP/1.1."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _kfp(folder: Path) -> list[bytes]:
    run = {"run_id": "r", "display_name": "demo", "state": "RUNNING"}
    return [
        answer(json.dumps({**run, "runs": [run]}).encode(), "Content-Type: application/json"),
        answer(HEALTH, "Content-Type: application/json"),
        answer(b'{"message": "no\\nmore", "code": 3}', status="400 Bad"),
        answer(b"<html>", status="401 No"),
        answer(b"", "Location: http://127.0.0.1:1/", status="302 Found"),
    ]


def _ask_kfp(path: Path) -> None:
    options = ServerOptions(host=f"http://{asked(path)}")
    with mock.patch.object(client, "PAUSES", ()), client.connect(options) as server:
        get_run(server, "r")
        list(server.pages("runs", "runs", Run))


def _registry(folder: Path) -> list[bytes]:
    challenge = 'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/token",service="r",scope="s"'
    return [
        answer(b""), answer(b"", status="404 Not Found"),
        answer(b"{}", challenge, status="401 Unauthorized"),
        answer(b'{"token": "t"}', "Content-Type: application/json"),
    ]  # fmt: skip


def _ask_registry(path: Path) -> None:
    check_images({"train": f"{asked(path)}/name:tag"})


def _store(folder: Path) -> list[bytes]:
    return [
        answer(b"123", "ETag: x", "Accept-Ranges: bytes", "Content-Type: application/zip"),
        answer(b"123", "Content-MD5: rL0Y20zC+Fzt72VPzMSk2A==", "Last-Modified: yesterday"),
        answer(b"<html>", "Content-Type: text/html"),
        answer(b"12", "Content-Range: bytes 0-1/3", status="206 Partial"),
        answer(b"", status="403 No"),
    ]


def _ask_store(path: Path) -> None:
    url = f"http://{asked(path)}/a.zip"
    store = Store(url, url)
    with mock.patch.object(stores, "RETRY_PAUSES", ()):
        files, _ = store.find()
        for _ in store.blocks(files[0], 0):
            pass


def _entries(folder: Path) -> list[bytes]:
    journal = Journal(folder / "journal", "train")
    journal.append("train", "metrics", step=1, values={"loss/G": 1.0, "b": float("nan")})
    journal.append("train", "params", values={"a": "1"})
    journal.append("train", "tags", values={"a": "1"})
    journal.append("train", "picture", key="k", step=3, path="files/x.png", is_copy=True)
    journal.append("train", "file", name="n.txt", path="files/n.txt", is_copy=True)
    journal.append("train", "end", status="FINISHED")
    journal.close()
    return [journal.file.read_bytes()]


def _read_entries(path: Path) -> None:
    folder = path.parent
    for file in journals_in(folder):
        if file != path:
            file.unlink()
    curve_ends(folder, "train")
    count_left(folder)


def _notes(folder: Path) -> list[bytes]:
    (folder / "journal").mkdir()
    note = dict(
        name="n",
        uid="u",
        started=1,
        parent="p",
        tags={"a": "b"},
        uri="file:///x",
        opened_by="x.jsonl",
    )
    position = dict(
        figures=3, files=0, postponed=[0], run_ids={"train": "1"}, delivered=2, refused=0
    )
    return [
        json.dumps(one).encode() for one in (note, position, dict(run_id="1", experiment_id="2"))
    ]


def _read_notes(path: Path) -> None:
    folder, content = path.parent, path.read_bytes()
    entries = folder / ENTRIES
    entries.write_text('{"run": "train", "kind": "tags", "time": 1, "values": {"a": "b"}}\n' * 3)
    (folder / "train.mlflow.json").write_bytes(content)
    Position.file(entries).write_bytes(content)
    for kind in (RunNote, MadeNote, Position):
        kind.read(path)
    close_dead(folder)
    is_delivered(folder)
    count_left(folder)


TARGETS = [
    Target("kfp-server", _kfp, _ask_kfp, form="text"),
    Target("image-registry", _registry, _ask_registry, form="text"),
    Target("web-store", _store, _ask_store, form="text", refusals=(InputError, Unreachable)),
    Target(
        "tracking-journal",
        _entries,
        _read_entries,
        f"journal/{ENTRIES}",
        "json",
    ),
    Target("tracking-notes", _notes, _read_notes, "journal/train.run.json", "json"),
]

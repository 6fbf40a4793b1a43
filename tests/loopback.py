"""A web server on this machine that holds files and can be told to misbehave."""

import contextlib
import gzip
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML = b"<html><title>Log in</title>\x1b[31m</html>"
BOMB = gzip.compress(bytes(2**28), 1)  # 256 MiB of nothing

# What a server can do to whoever asks, whatever for.
FAULTS = (
    *("refuses", "hangs", "drips", "drips in its headers", "has no end", "unpacks to no end"),
    *("says 100 for ever", "has endless headers", "sends round in circles", "says later: a year"),
    *("HTML", "truncated JSON", "another object", "a list", "nothing", "no text", "cut off"),
    *(str(status) for status in (301, 400, 401, 403, 404, 405, 410, 418, 429, 500, 502, 503, 999)),
)


def misbehave(handler: BaseHTTPRequestHandler, fault: str, ended: threading.Event) -> None:
    """Answer with one of FAULTS, until the other side has enough or `ended` is set."""
    handler.close_connection = True
    with contextlib.suppress(OSError):  # the other side has enough
        _misbehave(handler, fault, ended)


def _misbehave(handler: BaseHTTPRequestHandler, fault: str, ended: threading.Event) -> None:
    send = handler.wfile.write

    def head(status: int = 200, **headers: object) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()

    def whole(body: bytes, status: int = 200, kind: str = "application/json", **headers) -> None:
        head(status, Content_Type=kind, Content_Length=len(body), **headers)
        send(body)

    def for_ever(part: bytes, pause_s: float = 0) -> None:
        until = time.monotonic() + 60
        while not ended.wait(pause_s) and time.monotonic() < until:
            send(part)

    match fault:
        case "refuses":
            pass
        case "hangs":
            ended.wait(60)
        case "drips":
            head(Content_Type="application/json", Content_Length=10**6)
            for_ever(b" ", 0.2)
        case "drips in its headers":
            send(b"HTTP/1.1 200 OK\r\nX: ")
            for_ever(b"x", 0.2)
        case "has no end":
            head(Content_Type="application/json")
            for_ever(b" " * 2**16)
        case "unpacks to no end":
            head(Content_Type="application/json", Content_Encoding="gzip")
            for_ever(BOMB)
        case "says 100 for ever":
            for_ever(b"HTTP/1.1 100 Continue\r\n\r\n")
        case "has endless headers":
            send(b"HTTP/1.1 200 OK\r\n")
            for_ever(b"X: " + b"x" * 1000 + b"\r\n")
        case "sends round in circles":
            head(302, Location=handler.path, Content_Length=0)
        case "says later: a year":
            head(503, Retry_After=365 * 24 * 3600, Content_Length=0)
        case "HTML":
            whole(HTML, kind="text/html")
        case "truncated JSON":
            whole(b'{"run": {"info": {"run_id": "')
        case "another object":
            whole(b'{"run": {"info": {"run_id": "0", "experiment_id": "0"}}, "experiment_id": 7}')
        case "a list":
            whole(b"[1, 2]")
        case "nothing":
            whole(b"")
        case "no text":
            whole(bytes(range(256)))
        case "cut off":
            head(Content_Type="application/json", Content_Length=100)
            send(b'{"run":')
        case status:
            whole(HTML, int(status), "text/html", Location="http://127.0.0.1:9/")


@dataclass
class Files:
    """What the server holds by path, what it does wrong, and what it was asked."""

    content: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    status: list[int] = field(default_factory=list)  # of the next answers, before all is well
    moved: dict[str, str] = field(default_factory=dict)  # path -> where it is now
    claims: dict[str, int] = field(default_factory=dict)  # path -> length it says it has
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    knows_ranges: bool = True
    tells_length: bool = True
    pause: float = 0.0  # seconds before each 1000 bytes, which then go out one by one
    silence: threading.Event | None = None  # nothing is said until it is set
    fault: str = ""  # one of FAULTS: then that is all it does
    ended: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (path, Range)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        files: Files = self.server.files
        files.asked.append((self.path, self.headers.get("Range", "")))
        if files.fault:
            return misbehave(self, files.fault, files.ended)
        if files.silence:
            files.silence.wait(30)
        if files.status:
            return self.answer(files.status.pop(0))
        path = self.path.partition("?")[0]
        if path in files.moved:
            return self.answer(302, Location=files.moved[path])
        if path not in files.content:
            return self.answer(404)

        # All of it, or from a byte on.
        body, status = files.content[path], 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and files.knows_ranges:
            body, status = body[int(asked[1]) :], 206
            if not body:
                return self.answer(416)
        self.send_response(status)
        if files.tells_length:
            self.send_header("Content-Length", str(files.claims.get(path, len(body))))
        self.send_header("Connection", "close")
        self.end_headers()
        self.send(body[: files.cuts.pop(0)] if files.cuts else body)

    def send(self, body: bytes):
        files: Files = self.server.files
        for start in range(0, len(body), 1000):
            if files.pause:
                threading.Event().wait(files.pause)
            self.wfile.write(body[start : start + 1000])
        self.close_connection = True

    def answer(self, status: int, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(**content: bytes):
    """A running server of files by path without its slash."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_):  # clients here hang up as they like
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    server.files = Files({f"/{name}": body for name, body in content.items()})
    server.files.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.files
    server.files.ended.set()
    if server.files.silence:
        server.files.silence.set()
    server.shutdown()
    server.server_close()

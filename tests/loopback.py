"""A web server on this machine that holds files and can be told to misbehave."""

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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
    asked: list[tuple[str, str]] = field(default_factory=list)  # (path, Range)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        files: Files = self.server.files
        files.asked.append((self.path, self.headers.get("Range", "")))
        if files.silence:
            files.silence.wait(30)
        if files.status:
            return self.answer(files.status.pop(0))
        if self.path in files.moved:
            return self.answer(302, Location=files.moved[self.path])
        if self.path not in files.content:
            return self.answer(404)

        # All of it, or from a byte on.
        body, status = files.content[self.path], 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and files.knows_ranges:
            body, status = body[int(asked[1]) :], 206
            if not body:
                return self.answer(416)
        self.send_response(status)
        if files.tells_length:
            self.send_header("Content-Length", str(files.claims.get(self.path, len(body))))
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


@contextmanager
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
    if server.files.silence:
        server.files.silence.set()
    server.shutdown()
    server.server_close()

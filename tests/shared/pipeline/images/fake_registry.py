"""A registry on loopback: tokens, indexes, labels, and content that lies elsewhere, by the OCI
distribution and image specifications."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def registry(images: Mapping[str, Mapping[str, str] | str | None], **how: bool) -> Iterator[str]:
    """Host and port of one that has images, "team/pix2pixhd-train:1", with these labels; None: an
    image without any.

    how: `is_index` for several platforms, `wants_token`, `is_elsewhere` for content to which it
    forwards, where its token must not be seen. "private" instead of labels: nobody may see it."""
    contents: dict[str, bytes] = {}

    def keep(document: object) -> dict[str, str]:
        content = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        contents[digest] = content
        return {"digest": digest}

    tags = {}
    for image, labels in images.items():
        config = keep({"architecture": "amd64", "config": {"Labels": labels} if labels else {}})
        manifest = keep({"schemaVersion": 2, "config": config, "layers": []})
        if how.get("is_index"):
            manifest = keep(
                {"schemaVersion": 2, "manifests": [manifest, {"digest": f"sha256:{'0' * 64}"}]}
            )
        tags[image] = manifest["digest"]

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            here = f"http://{self.headers['Host']}"
            token = self.headers.get("Authorization")
            if self.path == "/token?service=here":
                return self.answer(200, b'{"token": "open"}')
            if self.path.startswith("/store/"):
                content = contents.get(self.path.removeprefix("/store/"), b"")
                return self.answer(200 if content and not token else 403, content)
            if how.get("wants_token") and token != "Bearer open":
                realm = f'Bearer realm="{here}/token",service="here"'
                return self.answer(401, WWW_Authenticate=realm)
            name, kind, reference = re.fullmatch(
                "/v2/(.+)/(manifests|blobs)/(.+)", self.path
            ).groups()
            if images.get(f"{name}:{reference}") == "private":
                return self.answer(403)
            if kind == "blobs" and how.get("is_elsewhere"):
                return self.answer(307, Location=f"{here}/store/{reference}")
            content = contents.get(tags.get(f"{name}:{reference}", reference), b"")
            self.answer(200 if content else 404, content)

        do_HEAD = do_GET

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

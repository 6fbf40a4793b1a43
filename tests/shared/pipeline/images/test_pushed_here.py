"""The file of pushed images on the machine that built them: engines name there what they have
pushed by different digests. A stand-in answers as both do, by Docker's Engine API."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from pipeline import CONFIGS, main
from shared.code_version import code_version
from shared.pipeline.cluster.config import ANY
from shared.pipeline.doctor import here
from shared.pipeline.engines.checks import check_containers, images_here
from shared.pipeline.images.named import CODE, image_name, read_images, with_images
from shared.pipeline.images.registry import CODE_LABEL
from shared.pipeline.recipes import read_recipe
from shared.pipeline.runs import EngineOptions

ENGINE = EngineOptions(engine="docker", container_device="cpu")
REGISTRY, LOCAL = "5" * 64, "6" * 64  # digest of a manifest there, and of Podman's own


def identity(component: str) -> str:
    return f"sha256:{list(CODE).index(component):064x}"


@pytest.fixture
def pushed(tmp_path) -> str:
    """A file of `make images REGISTRY=...`."""
    images = {
        one: dict(
            name=image_name(one, "r.example/p", "1-cpu"),
            id=identity(one),
            digest=f"sha256:{REGISTRY}",
            code_version=code_version(folder),
            size_bytes=1,
        )
        for one, folder in CODE.items()
    }
    about = dict(format=1, device="cpu", revision="0123", images=images)
    (file := tmp_path / "images.cpu.json").write_text(json.dumps(about))
    return str(file)


@pytest.fixture
def engine(monkeypatch):
    """Starts an engine that knows its images by these names, with {} for the component."""
    servers = []

    def start(*names: str) -> None:
        known = {
            name.format(one.replace("_", "-"), id=identity(one)): one
            for one in CODE
            for name in names
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(self.path).partition("?")[0]
                name = path.partition("/images/")[2].removesuffix("/json")
                answer, status = {"ApiVersion": "1.41", "Version": "4.3.1"}, 200
                if path.endswith("/containers/json"):
                    answer = []
                elif name and (one := known.get(name)):
                    labels = {CODE_LABEL: code_version(CODE[one])}
                    answer = {"Id": identity(one), "Config": {"Labels": labels}}
                elif name:
                    answer, status = {"message": f"No such image: {name}"}, 404
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


BY_REGISTRY = f"r.example/p-{{}}@sha256:{REGISTRY}"


def looked_at(pushed: str) -> tuple[dict[str, str], list[str]]:
    """What the containers of a run would be made of, and what the preflight says of it."""
    images = images_here(ENGINE, with_images(ANY, pushed), pushed)
    recipe = read_recipe("demo", CONFIGS)
    configs = {step: CONFIGS[step].check(recipe[step]) for step in recipe}
    return images, check_containers(ENGINE, images, configs, None)[1]


@pytest.mark.parametrize(
    ("names", "is_by_id"),
    [
        pytest.param([BY_REGISTRY, "{id}"], False, id="docker"),
        pytest.param([f"r.example/p-{{}}@sha256:{LOCAL}", "{id}"], True, id="podman"),
        pytest.param([BY_REGISTRY], False, id="pulled"),
    ],
)
def test_they_are_found_by_what_the_engine_calls_them(names, is_by_id, pushed, engine):
    engine(*names)
    found, missing = looked_at(pushed)
    assert missing == []
    assert found == ({one: identity(one) for one in CODE} if is_by_id else read_images(pushed))


def test_the_doctor_sees_them(pushed, engine, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(here, "devices", list)
    engine("{id}")
    main(["doctor", "--engine", "docker", "--images", pushed, "--container-device", "cpu"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {row[1]: (row[2], row[3]) for row in rows if row[0] == "image"}
    assert shown == {one: ("there", identity(one)) for one in CODE if one != "train_on_nodes"}


def test_where_they_are_not_it_is_said_how_they_come(pushed, engine):
    engine()
    _, missing = looked_at(pushed)
    image = read_images(pushed)["prepare"]
    sentence = f"there is no image {image}: `docker pull {image}`, or Podman's, brings it."
    assert missing[0] == f"--engine docker: {sentence}" and len(missing) == 5


def test_an_engine_that_does_not_answer_is_said_once(pushed, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    found, missing = looked_at(pushed)
    assert found == read_images(pushed)
    assert len(missing) == 1 and "no container engine answers" in missing[0]

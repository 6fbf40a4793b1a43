"""Whether a cluster will find the images of the steps, and the code of this checkout in them, by
what their registries say from here."""

import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlencode

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from shared import servers
from shared.code_version import code_version

TIMEOUT_SECONDS = 5
MANIFESTS = (  # of the distribution API
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
CODE_LABEL = "pix2pixhd.code-version"  # of an image: `shared/code_version.py` of what it holds
UNANSWERED = (OSError, ValueError, OverflowError, AttributeError, HTTPException)
LOOPBACK = ("localhost", "127.")  # registries that Docker speaks to without TLS


class Image(NamedTuple):
    """The parts of an image's name."""

    registry: str  # host[:port], "" = the name has none
    name: str
    reference: str  # tag or digest


def parse(image: str) -> Image:
    """registry/name:tag or registry/name@digest in its parts, by Docker's rule of what a registry
    is."""
    first, slash, rest = image.partition("/")
    has_registry = slash and (re.search("[.:]", first) or first == "localhost")
    registry, path = (first, rest) if has_registry else ("", image)
    name, at, digest = path.partition("@")
    name, _, tag = name.partition(":")
    return Image(registry, name, digest if at else tag or "latest")


class _Described(BaseModel):
    """Of the image specification: where content is found."""

    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    manifests: list[_Described] = []  # of an index: one for each platform, all of one code
    config: _Described | None = None


class _Held(BaseModel):
    Labels: dict[str, str] | None = None


class _Config(BaseModel):
    config: _Held = _Held()


class Looked(NamedTuple):
    """An image of a step, as its registry shows it."""

    step: str
    image: str
    state: Literal["there", "gone", "other code", "unknown"]
    said: str = ""  # what is wrong with it or unknown of it

    def __str__(self) -> str:
        return f"{self.step}: image {self.image} {self.said}"


def check_images(images: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Of the images by step: sentences about those that are not there or hold other code, and about
    those of which that is not known."""
    found = look_at(images)
    lacking = [str(one) for one in found if one.state in ("gone", "other code")]
    return lacking, [str(one) for one in found if one.state == "unknown"]


def look_at(images: Mapping[str, str]) -> list[Looked]:
    """Every image, by its step or component; those of several machines, "train_global (nodes)"."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_look, images.keys(), images.values()))


def _look(step: str, image: str) -> Looked:
    """Steps may share an image."""
    registry, name, reference = parse(image)
    if not registry:
        said = "names no registry, so that every node of the cluster must hold it already: give "
        return Looked(step, image, "unknown", said + "--images, see docker/README.md")
    scheme = "http" if registry.startswith(LOOPBACK) else "https"
    asked = _Asked(url := f"{scheme}://{registry}/v2/{name}")

    # Whether it is there.
    try:
        asked.get(f"manifests/{reference}", "HEAD")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            gone = f"is not in {registry}: build and push it, see docker/README.md."
            return Looked(step, image, "gone", gone)
        way = servers.by_proxy(url)
        unseen = f"is not shown{way} without a login (HTTP {error.code})"
        return Looked(step, image, "unknown", unseen)
    except UNANSWERED as error:
        reason = servers.said(getattr(error, "reason", None) or error)
        return Looked(
            step,
            image,
            "unknown",
            f"is not seen: {registry} is not reached from here{servers.by_proxy(url)} ({reason})",
        )

    # What it holds.
    try:
        found = asked.labels(reference).get(CODE_LABEL, "")
    except (ValidationError, *UNANSWERED):
        return Looked(step, image, "unknown", "does not show from here which code it holds")
    folder = "prepare" if step == "fingerprint" else re.split("[_ ]", step)[0]
    if not found:
        return Looked(step, image, "unknown", f"does not say which code it holds ({CODE_LABEL})")
    if found != (ours := code_version(folder)):
        return Looked(
            step,
            image,
            "other code",
            f"holds other code of {folder} ({servers.said(found)}) than this checkout ({ours}): "
            "build the images again, or check out what they hold.",
        )
    return Looked(step, image, "there")


class _Asked:
    """An image's name in its registry. Raises HTTPError or what is in UNANSWERED."""

    def __init__(self, url: str):
        self.url, self.token = url, ""

    def labels(self, reference: str) -> dict[str, str]:
        manifest = _Manifest.model_validate_json(self.get(f"manifests/{reference}"))
        if manifest.manifests:
            one = manifest.manifests[0].digest
            manifest = _Manifest.model_validate_json(self.get(f"manifests/{one}"))
        if manifest.config is None:
            return {}
        config = _Config.model_validate_json(self.get(f"blobs/{manifest.config.digest}"))
        return config.config.Labels or {}

    def get(self, path: str, method: str = "GET") -> bytes:
        """Where the registry wants a token, with one that it gives to anybody."""
        url, headers = f"{self.url}/{path}", {"Accept": MANIFESTS}
        try:
            return _open(url, headers, method, self.token)
        except urllib.error.HTTPError as error:
            said = error.headers.get("WWW-Authenticate", "")
            challenge = dict(re.findall(r'(\w+)="([^"]*)"', said))
            if error.code != 401 or "realm" not in challenge:
                raise
            realm = challenge.pop("realm")
            if not realm.startswith(("http://", "https://")):
                raise ValueError("it names no address for a token") from None
            given = from_json(_open(f"{realm}?{urlencode(challenge)}", {}, "GET"))
            self.token = given.get("token") or given.get("access_token", "")
            return _open(url, headers, method, self.token)


def _open(url: str, headers: dict[str, str], method: str, token: str = "") -> bytes:
    request = urllib.request.Request(url, headers=headers, method=method)
    if token:  # not for where content is kept, to which a registry forwards
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    servers.bound()
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return servers.whole(iter(lambda: answer.read(2**16), b""))

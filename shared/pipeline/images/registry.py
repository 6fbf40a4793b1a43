"""Whether a cluster will find the images of the steps, by what their registries say from here."""

import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import NamedTuple
from urllib.parse import urlencode

from pydantic_core import from_json

from shared import servers

TIMEOUT_SECONDS = 5
MANIFESTS = (  # of the distribution API
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
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


def check_images(images: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Of the images by step: sentences about those that are not there, and about those of which
    that is not known. Steps may share one."""
    with ThreadPoolExecutor() as pool:
        answers = pool.map(_look, images.values())
        found = list(zip(images.items(), answers, strict=True))
    lacking = [f"{step}: image {image} {said}" for (step, image), (gone, said) in found if gone]
    unknown = [
        f"{step}: image {image} {said}"
        for (step, image), (gone, said) in found
        if said and not gone
    ]
    return lacking, unknown


def _look(image: str) -> tuple[bool, str]:
    """Whether an image is known not to be there, and what is wrong with it or unknown of it, ""
    where it is there."""
    registry, name, reference = parse(image)
    if not registry:
        return False, (
            "names no registry, so that every node of the cluster must hold it already: give "
            "--images, see docker/README.md"
        )
    scheme = "http" if registry.startswith(LOOPBACK) else "https"
    url = f"{scheme}://{registry}/v2/{name}/manifests/{reference}"
    try:
        _ask(url)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return True, f"is not in {registry}: build and push it, see docker/README.md."
        return False, f"{registry} does not show it without a login (HTTP {error.code})"
    except (OSError, ValueError, OverflowError, AttributeError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        return False, f"{registry} is not reached from here ({servers.said(reason)})"
    return False, ""


def _ask(url: str) -> None:
    """Asks a registry for a manifest; where it wants a token, with one that it gives to anybody.
    Raises HTTPError or OSError."""
    headers = {"Accept": MANIFESTS}
    try:
        _open(url, headers, "HEAD")
    except urllib.error.HTTPError as error:
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', error.headers.get("WWW-Authenticate", "")))
        if error.code != 401 or "realm" not in challenge:
            raise
        realm = challenge.pop("realm")
        if not realm.startswith(("http://", "https://")):
            raise ValueError("it names no address for a token") from None
        given = from_json(_open(f"{realm}?{urlencode(challenge)}", {}, "GET"))
        token = given.get("token") or given.get("access_token", "")
        _open(url, headers | {"Authorization": f"Bearer {token}"}, "HEAD")


def _open(url: str, headers: dict[str, str], method: str) -> bytes:
    request = urllib.request.Request(url, headers=headers, method=method)
    servers.bound()
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return servers.whole(iter(lambda: answer.read(2**16), b""))

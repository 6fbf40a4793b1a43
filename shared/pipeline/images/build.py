"""`make images`: builds the image of every step, pushes it where a registry is named, and notes for
--images what came of it."""

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from shared.code_version import code_version
from shared.command import command_line
from shared.errors import InputError, WorkFailed
from shared.files.digests import sha256_of
from shared.files.owned import refuse_unwritable
from shared.files.writing import write_atomically
from shared.flags import as_flag
from shared.pipeline.images.named import (
    CODE,
    REPOSITORY,
    TAG,
    BuiltImage,
    BuiltImages,
    image_name,
)
from shared.pipeline.images.registry import CODE_LABEL, parse
from shared.pipeline.processes import run_step
from shared.servers import patience_s, plain, said

ROOT = Path(__file__).resolve().parents[3]
DEVICES = ("cpu", "cuda", "npu")
ENGINES = ("docker", "podman")
PREFIX = "pix2pixhd"
# What a component installs beside the code that it shares with another.
REQUIREMENTS = {"train_on_nodes": "components/train/nodes/requirements.txt"}

# What engines and registries say, and what a person can do.
NO_ROOM = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
NO_LOGIN = re.compile(r"denied|unauthori[sz]ed|authentication required|no basic auth", re.I)
PUSHED = re.compile(r"digest: (sha256:[0-9a-f]{64})\b")  # what docker says a registry has taken

Components = Annotated[tuple[str, ...], tyro.conf.arg(metavar="COMPONENT ...")]


def images(
    device: str = "cpu",
    registry: str = "",
    tag: str = "",
    engine: str = "",
    build_args: str = "",
    out: str = "",
    only: Components = (),
) -> None:
    """Build the images of the steps, push them where a registry is named, and note their digests.

    Args:
        device: cpu, cuda or npu.
        registry: Where the images are pushed, such as registry.example/team; empty: nowhere.
        tag: Of all images; empty: commit and device, such as 1a2b3c4d5e6f-cuda, with -dirty and a
            digest of the changes before the device where the checkout has some.
        engine: docker or podman; empty: the first of them that answers.
        build_args: More words for `docker build`: --build-args="--build-arg TORCH=2.12.0".
        out: File for --images; empty: docker/images.DEVICE.json of the checkout.
        only: Components to build; empty: all.

    Example:
        python -m shared.pipeline.images.build --device cuda --registry registry.example/team
    """
    # What is asked for.
    if device not in DEVICES:
        raise InputError(f"{_given('device', device)}: choose {', '.join(DEVICES)}.")
    if unknown := [component for component in only if component not in CODE]:
        raise InputError(f"--only {unknown[0]}: choose of {', '.join(CODE)}.")
    try:
        words = shlex.split(build_args)
    except ValueError as error:
        raise InputError(f"{_given('build_args', build_args)}: {str(error).lower()}.") from None
    prefix = f"{_check_registry(registry)}/{PREFIX}" if registry else PREFIX
    revision = _revision()
    commit = revision[:12]
    if revision.endswith("-dirty"):  # what is not committed has no name of its own
        commit += f"-dirty-{_changes()}"
    tag = tag or f"{commit}-{device}"
    if not commit and tag == f"-{device}":
        raise InputError(f"there is no commit of git here: give {_given('tag', '...')}")
    if not TAG.fullmatch(tag):
        raise InputError(
            f"{_given('tag', tag)}: a tag has up to 128 letters, digits, dots, hyphens and "
            "underscores, and begins with no dot or hyphen."
        )
    file = Path(out) if out else ROOT / "docker" / f"images.{device}.json"
    refuse_unwritable(file, "--out")
    builder = find_engine(engine)

    # What is built, then pushed: a registry gets all of them or none that does not build.
    built = {
        component: _build(builder, component, device, image_name(component, prefix, tag), words)
        for component in only or CODE
    }
    if registry:
        built = {component: _push(builder, image) for component, image in built.items()}

    # What came of it.
    noted = BuiltImages(device=device, revision=revision, images=built)
    write_atomically(file, (noted.model_dump_json(indent=2) + "\n").encode())
    print(f"wrote {file}: give it as --images", flush=True)


def _check_registry(registry: str) -> str:
    """Raises InputError for what is no place of a registry; a password in it is not shown."""
    if "://" in registry or "@" in registry:
        raise InputError(
            f"{_given('registry', '')} holds a URL or credentials: write for example "
            "registry.example/team, and log in with `docker login` or `podman login`."
        )
    registry = registry.rstrip("/")
    if not REPOSITORY.fullmatch(registry) or not parse(f"{registry}/{PREFIX}").registry:
        raise InputError(
            f"{_given('registry', registry)} names no registry: write host and folder, such as "
            "registry.example/team or docker.io/team."
        )
    return registry


# The engine.


@dataclass(frozen=True)
class Engine:
    """A program that builds images."""

    name: str  # docker or podman
    is_podman: bool  # also where podman is called docker
    has_buildx: bool


def find_engine(wanted: str) -> Engine:
    """The engine of a name, or the first that answers. Raises InputError where none does."""
    if wanted and wanted not in ENGINES:
        raise InputError(f"{_given('engine', wanted)}: choose {' or '.join(ENGINES)}.")
    reasons = []
    for name in [wanted] if wanted else ENGINES:
        if not shutil.which(name):
            reasons.append(f"{name} is not on PATH")
            continue
        asked = _ask(name, "info")
        if asked.returncode == 0:
            is_podman = "podman" in _ask(name, "--version").stdout.lower()
            has_buildx = not is_podman and _ask(name, "buildx", "version").returncode == 0
            return Engine(name, is_podman, has_buildx)
        reasons.append(f"`{name} info` says {said(_last(asked.stderr.splitlines()))!r}")
    raise InputError(
        f"no container engine answers ({'; '.join(reasons)}): install Docker or Podman, or start "
        "its service, such as by `sudo systemctl start docker`."
    )


def _ask(*command: str) -> subprocess.CompletedProcess:
    """What an engine answers about itself. Raises InputError where it does not."""
    limit_s = patience_s()
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"`{' '.join(command)}` gives no answer in {limit_s:g} s: look why it hangs."
        ) from None


def _work(command: list[str]) -> tuple[int, list[str]]:
    """Run a command of an engine with its words on the screen; its exit status and its lines."""
    lines: list[str] = []

    def show(line: str) -> None:
        line = plain(line).rstrip()
        lines.append(line)
        print(line, flush=True)

    return run_step(command, dict(os.environ), show), lines


# One image.


def _requirements_of(component: str) -> str:
    return REQUIREMENTS.get(component, f"components/{CODE[component]}/requirements.txt")


def _build(engine: Engine, component: str, device: str, name: str, words: list[str]) -> BuiltImage:
    """Build the image of a component, which is then also PREFIX-COMPONENT:DEVICE on this machine.
    Raises WorkFailed."""
    # A step without torch needs nothing of a device, and CANN's base image has gigabytes.
    folder, requirements = CODE[component], _requirements_of(component)
    has_torch = re.search(r"^torch==", (ROOT / requirements).read_text(), re.MULTILINE)
    dockerfile = f"docker/{device if has_torch else 'cpu'}.Dockerfile"

    # What it is: the same of the same commit, on whichever day it is built.
    code, revision = code_version(folder), _revision()
    about = {
        "title": f"{PREFIX}-{component.replace('_', '-')}",
        "version": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "revision": revision,
        "created": _git("show", "--no-patch", "--format=%cI", "HEAD"),
    }
    labels = {f"org.opencontainers.image.{key}": value for key, value in about.items() if value}
    labels[CODE_LABEL] = code

    # The build.
    print(f"{component}: building {name}", flush=True)
    start = time.monotonic()
    builds = ["buildx", "build", "--load"] if engine.has_buildx else ["build"]
    command = [engine.name, *builds, *words]
    arguments = dict(COMPONENT=folder, REQUIREMENTS=requirements, CODE_VERSION=revision)
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    for key, value in labels.items():
        command += ["--label", f"{key}={value}"]
    command += ["-t", name, "-t", image_name(component, PREFIX, device), "-f", dockerfile, "."]
    status, lines = _work(command)
    if status:
        raise WorkFailed(_reason_of_build(engine, component, lines))
    if code_version(folder) != code:
        raise WorkFailed(
            f"the code of {component} was changed while its image was built: say the same again."
        )

    # What came of it.
    asked = _ask(engine.name, "image", "inspect", "--format", "{{.Id}} {{.Size}}", name)
    if asked.returncode:
        raise WorkFailed(f"{name} was built, but {said(_last(asked.stderr.splitlines()))}")
    identity, size = asked.stdout.split()
    seconds, megabytes = time.monotonic() - start, int(size) / 1e6
    print(f"{component}: {megabytes:.0f} MB after {seconds:.0f} s\n", flush=True)
    identity = f"sha256:{identity.removeprefix('sha256:')}"
    return BuiltImage(name=name, id=identity, digest="", code_version=code, size_bytes=int(size))


def _reason_of_build(engine: Engine, component: str, lines: list[str]) -> str:
    if any(NO_ROOM.search(line) for line in lines):
        return (
            f"there is no room to build the image of {component}: make some where the engine keeps "
            f"its images (`{engine.name} system df`, `{engine.name} image prune`)."
        )
    return f"the image of {component} was not built: {said(_last(lines))}"


def _push(engine: Engine, image: BuiltImage) -> BuiltImage:
    """Push an image. Raises WorkFailed where the registry does not take it."""
    print(f"pushing {image.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "digest"
        more = ["--digestfile", str(told)] if engine.is_podman else []
        status, lines = _work([engine.name, "push", *more, image.name])
        words = told.read_text() if told.is_file() else "\n".join(lines)
    registry = parse(image.name).registry
    if status and any(NO_LOGIN.search(line) for line in lines):
        raise WorkFailed(
            f"{registry} did not let you push {image.name} ({said(_last(lines))}): log in with "
            f"`{engine.name} login {registry}`, as somebody who may, and say the same again."
        )
    if status:
        raise WorkFailed(f"{image.name} was not pushed: {said(_last(lines))}")
    found = re.search(r"sha256:[0-9a-f]{64}", words) if engine.is_podman else PUSHED.search(words)
    if not found:
        raise WorkFailed(f"{image.name} was pushed, but {engine.name} does not say its digest.")
    return image.model_copy(update={"digest": found[0].removeprefix("digest: ")})


# Words.


def _last(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "nothing")


def _given(name: str, value: str) -> str:
    """What a person has typed: a variable of make, or a flag."""
    if "MAKELEVEL" in os.environ:
        return f"{name.upper()}={value}"
    return f"{as_flag(name)} {value}".rstrip()


def _revision() -> str:
    """The commit of the checkout, with -dirty where it has changes; "" outside of git."""
    commit = _git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _git("status", "--porcelain") else commit


def _changes() -> str:
    """A digest of what the checkout has beside its commit: the same tag is never of other content,
    and nodes that hold it need not ask whether it is another image by now."""
    sha = hashlib.sha256(_git("diff", "--binary", "HEAD").encode("utf-8", "surrogateescape"))
    new = _git("ls-files", "--others", "--exclude-standard", "-z").split("\0")
    for name in sorted(name for name in new if (ROOT / name).is_file()):
        sha.update(f"{name} {sha256_of(ROOT / name).hex()}\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()[:8]


def _git(*arguments: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return _ask("git", "-C", str(ROOT), *arguments).stdout.strip()
    return ""


if __name__ == "__main__":
    command_line("python -m shared.pipeline.images.build", images, {})

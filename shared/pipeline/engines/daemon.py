"""The container engine of this machine: Docker, or Podman by Docker's interface."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.types import DeviceRequest, LogConfig, Mount
from requests.exceptions import RequestException

import docker
from shared.errors import InputError
from shared.servers import said

HOST = "DOCKER_HOST"
PATIENCE_S = 60  # for one answer; a container itself is waited for as long as it works
# Labels of our containers: the machine, the folder of the run, and that of the task.
MACHINE, RUN, TASK = "pix2pixhd.machine", "pix2pixhd.run", "pix2pixhd.task"
PROBE = (
    "pix2pixhd.probe"  # of one that only answers a question: the process that asks, and its begin
)
# What docker's library raises where the engine does not answer.
SILENT = (RequestException, DockerException, OSError)


def connect() -> docker.DockerClient:
    """A client of the engine. Raises InputError, which says how one is started."""
    address = os.environ.get(HOST) or _find_socket()
    try:
        client = docker.DockerClient(base_url=address, timeout=PATIENCE_S)
        client.ping()
    except SILENT as error:
        raise InputError(_why_not(address, error)) from None
    return client


def _find_socket() -> str:
    """The address of the first engine that has a socket here; Docker's own where there is none."""
    mine = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    places = [Path("/var/run/docker.sock"), mine / "docker.sock", mine / "podman/podman.sock"]
    places += [Path("/run/podman/podman.sock"), Path.home() / ".docker/run/docker.sock"]
    there = [place for place in places if place.exists()]
    open_to_us = [place for place in there if os.access(place, os.W_OK)]
    return f"unix://{(open_to_us or there or places)[0]}"


def _why_not(address: str, error: Exception) -> str:
    shown = said(address)
    socket = Path(address.removeprefix("unix://"))
    if address.startswith("unix://") and socket.exists() and not os.access(socket, os.W_OK):
        return (
            f"--engine docker: you may not open {shown}: `sudo usermod -aG docker $USER`, then log "
            "in again; or `systemctl --user start podman.socket` for an engine of your own."
        )
    return (
        f"--engine docker: no container engine answers at {shown} ({said(_root(error))}): "
        "`sudo systemctl start docker` or `systemctl --user start podman.socket` starts one; "
        f"{HOST} names another."
    )


def _root(error: BaseException) -> object:
    """What has happened, below what the libraries make of it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return getattr(error, "strerror", None) or error


# Our containers.


def labels_of(run: Path, task: Path) -> dict[str, str]:
    return {MACHINE: platform.node(), RUN: str(run), TASK: str(task)}


def ours(client: docker.DockerClient, label: str, value: str = "") -> Iterator[Container]:
    """The containers of this machine that have a label, with a value where one is given. Raises
    APIError and what is in SILENT."""
    labels = [f"{MACHINE}={platform.node()}", f"{label}={value}" if value else label]
    for found in client.api.containers(all=True, filters={"label": labels}):
        try:
            container = client.containers.get(found["Id"])
        except APIError as error:
            if not _is_gone(error):
                raise
        else:
            yield container


def _is_gone(error: APIError) -> bool:
    """Whether a container is not there any more: of one that is being removed Podman says 500."""
    return isinstance(error, NotFound) or "no such container" in str(error)


def remove(container: Container) -> None:
    """Kill and remove one, where it is still there. Raises APIError."""
    try:
        container.remove(force=True)
    except APIError as error:
        if not _is_gone(error) and error.status_code != 409:  # somebody else removes it just now
            raise


def _me() -> str:
    """This process, told from a later one of its number."""
    me = psutil.Process()
    return f"{me.pid} {me.create_time()}"


def sweep_probes(client: docker.DockerClient) -> None:
    """Remove the containers that only answered a question, of processes that were killed while they
    asked. Raises APIError and what is in SILENT."""
    for container in ours(client, PROBE):
        number, _, begin = container.labels[PROBE].partition(" ")
        try:
            is_asking = f"{psutil.Process(int(number)).create_time()}" == begin
        except (psutil.NoSuchProcess, ValueError):
            is_asking = False
        if not is_asking:
            remove(container)


def ask(
    client: docker.DockerClient, image: str, command: list[str], cards: dict[str, Any]
) -> tuple[int, str]:
    """Run a short command in an image: its exit status, and what it wrote to stdout. Raises
    APIError where no container can be started, and what is in SILENT."""
    given = dict(
        labels={MACHINE: platform.node(), PROBE: _me()},
        mounts=[Mount(type="bind", **one) for one in cards["mounts"]],
        device_requests=[DeviceRequest(**one) for one in cards["device_requests"]] or None,
        environment=cards.get("environment"),
        network_mode="none",
        log_config=LogConfig(type="none"),
        **cards["options"],
    )
    container = client.containers.create(image, command, **given)
    try:
        output = container.attach(stdout=True, stderr=False, stream=True, logs=False)
        container.start()
        text = b"".join(output).decode(errors="replace")
        return container.wait(timeout=PATIENCE_S)["StatusCode"], text
    finally:
        remove(container)


def refusal(error: APIError) -> str:
    """What an engine says of a call, in a sentence's part."""
    return said(error.explanation or error).rstrip(".")

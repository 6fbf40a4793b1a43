"""A step's container as a process of this machine: what `docker run` does, without its command.

`containers.py` starts this file below a guard, as a step itself would be: when the guard ends it,
because the pipeline is stopped or gone, it ends the container.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.types import DeviceRequest, LogConfig, Mount

import docker
from shared.errors import InputError
from shared.pipeline.engines.daemon import SILENT, TASK, connect, ours, refusal, remove
from shared.pipeline.processes.reasons import count_oom_kills, reason_of

GRACE_S = 7  # what the step has for its end, less than we have ourselves
LISTEN_S = 5  # after the container has ended: for what it has written
REFUSED, FAILED = 2, 1


def main(asked: dict[str, Any]) -> int:
    """Run a container until it ends; none is left when this is left.

    asked: the arguments of `create`, with `component`, `image`, `command`, `labels`, and `names` of
    the variables that it takes over from our environment.

    Returns its exit status, or REFUSED or FAILED after a sentence of our own.
    """
    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(stop, _stop)
    component = asked["component"]
    try:
        with contextlib.closing(connect()) as client:
            return _run(client, asked)
    except InputError as error:
        print(error)
    except ImageNotFound:
        print(f"{component} refused: the image {asked['image']} is gone: build or pull it again.")
        return REFUSED
    except NotFound:
        print("killed from outside: its container was removed, by a person or a service.")
    except APIError as error:
        print(f"its container cannot be started: {refusal(error)}.")
    except SILENT:
        print(
            "stopped from outside: the container engine does not answer any more: start it again, "
            "such as by `sudo systemctl start docker`."
        )
    return FAILED


def _run(client: docker.DockerClient, asked: dict[str, Any]) -> int:
    """Raises APIError and what is in SILENT."""
    oom_kills, last_lines = count_oom_kills(), deque(maxlen=20)
    task = asked["labels"][TASK]
    _end(client, task, GRACE_S)  # one that another of us has left, being killed
    reader = None
    try:
        # It is listened to before it begins, and the engine keeps no copy of what it says.
        container = client.containers.create(**_options(asked))
        output = container.attach(stdout=True, stderr=True, stream=True, logs=False)
        container.start()
        if asked["tty"]:
            _fit(container)
        reader = threading.Thread(target=_copy, args=[output, last_lines], daemon=True)
        reader.start()
        status = container.wait()["StatusCode"]
        reader.join(LISTEN_S)
        container.reload()
    finally:
        for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(stop, signal.SIG_IGN)  # it is being ended
        with contextlib.suppress(*SILENT):
            _end(client, task, GRACE_S)
        if reader:
            reader.join(LISTEN_S)

    # What ended it, where that was not the step.
    if status:
        lines = b"".join(last_lines).decode(errors="replace").splitlines()[-20:]
        if reason := _reason(status, lines, asked, container, oom_kills):
            print(reason, flush=True)
    return status


def _reason(
    status: int, lines: list[str], asked: dict[str, Any], container: Container, before: int | None
) -> str:
    after = count_oom_kills()
    killed = None if before is None or after is None else after - before
    # Podman does not always say so, but the kernel counts.
    limit = asked["options"].get("mem_limit")
    if container.attrs["State"].get("OOMKilled") or (limit and killed and status == 137):
        had = f"its container may have {(limit or 0) / 2**30:.2g} GiB (--container-memory-gb)"
        return (
            f"killed by the system for want of memory: {had if limit else 'the machine is full'}; "
            "a smaller batch or fewer workers need less."
        )
    return reason_of(status, lines, None, killed)


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    """The arguments of docker's library."""
    environment = {name: os.environ[name] for name in asked["names"] if name in os.environ}
    mounts = [Mount(type="bind", **one) for one in asked["mounts"]]
    requests = [DeviceRequest(**one) for one in asked["device_requests"]]
    return dict(
        image=asked["image"],
        command=asked["command"],
        environment=environment,
        labels=asked["labels"],
        mounts=mounts,
        device_requests=requests or None,
        tty=asked["tty"],
        log_config=LogConfig(type="none"),
        **asked["options"],
    )


def _copy(output: Iterable[bytes], last: deque[bytes]) -> None:
    with contextlib.suppress(*SILENT):
        for data in output:
            last.append(data)
            with contextlib.suppress(BrokenPipeError):
                os.write(1, data)


def _fit(container: Container) -> None:
    """Make its terminal as large as ours."""
    with contextlib.suppress(*SILENT):
        columns, lines = os.get_terminal_size(1)
        container.resize(lines, columns)


def _end(client: docker.DockerClient, task: str, grace_s: float) -> None:
    """End and remove the containers of a task: SIGTERM, and SIGKILL after `grace_s`."""
    for container in ours(client, TASK, task):
        if container.status == "running":
            with contextlib.suppress(*SILENT):
                container.kill("SIGTERM")
                container.wait(timeout=grace_s)
        remove(container)


def _stop(signum: int, _frame: Any) -> None:
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))

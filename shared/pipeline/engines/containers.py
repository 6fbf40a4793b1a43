"""The docker engine: every step is a container of its own image.

kfp's DockerRunner has no part in it: it reads failures as successes, and once its task handler is
replaced nothing is left of it.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from shared.ascend.environment import OPERATORS, operators_below
from shared.errors import InputError
from shared.pipeline.engines.cards import cards_for, device_of
from shared.pipeline.engines.daemon import RUN, connect, labels_of, ours, remove, sweep_probes
from shared.pipeline.engines.mounts import binds
from shared.pipeline.engines.steps import StepTask
from shared.pipeline.runs import LOCK, EngineOptions, Run
from shared.pipeline.ui import free_port, serving
from shared.published.files import hub_folder
from shared.terminal.screen import Screen
from shared.tracking import store

HOST_NETWORK = "host"

# Variables that a step takes over; what they hold stands in no command line. Ours, those of MLflow,
# of stores and proxies, and those of the libraries that compute.
TAKEN = re.compile(
    r"PIPELINE_\w+|MLFLOW_\w+|(AWS|AZURE|GOOGLE|GCS|HF|S3)_\w+|WEIGHTS_MIRROR|\w+_proxy|\w+_PROXY"
    r"|(SSL|REQUESTS|CURL)_\w*(CA|CERT)\w*|(OMP|MKL|KMP|OPENBLAS|TORCH|PYTORCH|CUDA|CUDNN|NCCL|NVIDIA"
    r"|ASCEND|HCCL|NPU|ACL|TASK_QUEUE|CPU_AFFINITY|INF_NAN|GLOO|TRITON)_\w+|TERM|COLUMNS|NO_COLOR"
    r"|TZ|LANG|LC_\w+|XDG_CACHE_HOME"
)
# But for open files and the programs of this machine.
NOT_TAKEN = re.compile(r"PIPELINE_(LOCKS|CODE_IS_KNOWN)")
FILE_VARIABLES = re.compile(r"(SSL|REQUESTS|CURL|AWS|GOOGLE|AZURE|MLFLOW)_\w+")
HELD = re.compile(r"env://(\w+)")  # raw data whose URL a variable holds

# The executor is the first process of its container, which without a handler hears no signal.
HEARS = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(143)); "


class Containers:
    """A `Place` with a container engine."""

    def __init__(self, options: EngineOptions):
        self.options = options
        self.mlflow: dict[str, str] = {}  # variables by which steps reach it

    @cached_property
    def engine(self) -> dict[str, Any]:
        """What the engine says of itself. Raises InputError."""
        with contextlib.closing(connect()) as client:
            return client.info() | client.version()

    @contextlib.contextmanager
    def made_ready(self, run: Run, screen: Screen) -> Iterator[None]:
        """Inside, MLflow can be reached from containers; what killed runs have left is gone."""
        with contextlib.closing(connect()) as client:
            sweep_probes(client)
            for container in ours(client, RUN):
                folder = Path(container.labels[RUN])
                if folder == run.folder or not _is_worked_on(folder):
                    screen.say(f"removed the container that {folder.name} left when it was killed")
                    remove(container)
        with self._mlflow_reached(run, screen):
            yield

    @contextlib.contextmanager
    def _mlflow_reached(self, run: Run, screen: Screen) -> Iterator[None]:
        """Steps in containers speak HTTP alone: for a store of this machine a server is started."""
        uri = os.environ[store.URI]
        if uri.startswith("http"):
            yield
            return
        self.mlflow = {store.KNOWN_AS: uri, store.URI: ""}
        with contextlib.ExitStack() as stack:
            if self.options.container_network != HOST_NETWORK:
                screen.say(
                    "MLflow: containers of another network than the host's do not reach the store "
                    "of this machine: it is told at the end; a server in MLFLOW_TRACKING_URI is "
                    "told at once."
                )
            else:
                try:
                    server = stack.enter_context(serving(uri, run.folder.parent, free_port(0)))
                    self.mlflow[store.URI] = server[0]
                except InputError as error:
                    screen.say(f"MLflow: {error} It is told at the end of the run.")
            yield

    def code_of(self, component: str, compiled: str) -> str:
        """That of the graph: the image holds it, else the step refuses."""
        return compiled

    def explains(self, status: int) -> bool:
        """Our program in container.py does, unless it was killed itself."""
        return status >= 0

    def command(self, task: StepTask, executor: list[str]) -> tuple[list[str], dict[str, str]]:
        """Raises InputError for places that a container cannot be given."""
        environment = {**os.environ, **task.environment, **self.mlflow, "_KFP_RUNTIME": "true"}
        written, folders = self._written(task)
        environment |= folders
        if not environment.get(store.URI):
            environment.pop(store.URI, None)

        # What it sees and has.
        names = [name for name in environment if _is_taken(name)] + [*task.environment]
        names += HELD.findall(str(task.parameters.get("raw_data", "")))
        files = [environment[name] for name in names if FILE_VARIABLES.fullmatch(name)]
        read = [task.parameters, [file for file in files if os.path.isfile(file)]]
        cards = cards_for(device_of(self.options.container_device), self.engine)
        environment |= cards.get("environment", {})
        mounts = [one.as_mount() for one in binds(read, written)] + cards["mounts"]

        # The container, for `container.py`.
        option, code, *words = executor
        asked = {
            "component": task.component,
            "image": task.image,
            "command": ["python", option, HEARS + code, *words],
            "labels": labels_of(task.engine.run.folder, task.folder),
            "names": sorted({*names, "_KFP_RUNTIME", *cards.get("environment", {})}),
            "mounts": mounts,
            "device_requests": cards["device_requests"],
            "tty": task.engine.screen.is_terminal,
            "options": self._options(cards["options"]) | {"working_dir": os.getcwd()},
        }
        program = [sys.executable, "-m", "shared.pipeline.engines.container", json.dumps(asked)]
        return program, environment

    def _written(self, task: StepTask) -> tuple[list[Path], dict[str, str]]:
        """Folders that a step writes, and variables that name them; made where they are not there:
        the run's, MLflow's files, and caches that outlive the container."""
        uri = os.environ[store.URI]
        run = task.engine.run.folder
        written = [run]
        if database := store.database(uri):
            written.append(database.parent / store.ARTIFACTS)
        caches, variables = [hub_folder()], {"TORCH_HOME": str(hub_folder().parents[1])}
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        if task.component == "prepare":
            caches.append(cache / "pix2pix-pipeline")
            variables["XDG_CACHE_HOME"] = str(cache)
        if device_of(self.options.container_device) == "npu":
            operators = Path(os.environ.get(OPERATORS) or operators_below(str(cache)))
            caches.append(operators)
            variables[OPERATORS] = str(operators)
        for cache in caches:
            with contextlib.suppress(OSError):
                cache.mkdir(parents=True, exist_ok=True)
                written.append(cache)
        for folder in written[:2]:
            folder.mkdir(parents=True, exist_ok=True)
        return written, variables

    def _options(self, of_cards: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of a container that are the same for all steps."""
        options, said_by = self.options, self.engine.get("SecurityOptions") or []
        # Without root outside, root inside is who has started it.
        is_rootless = self.engine.get("Rootless") or any("name=rootless" in one for one in said_by)
        given: dict[str, Any] = {
            "user": "0:0" if is_rootless else f"{os.getuid()}:{os.getgid()}",
            "network_mode": options.container_network,
            "shm_size": int(options.container_shm_gb * 2**30) or _shared_memory_bytes(),
            "security_opt": ["no-new-privileges"],
        }
        groups = [] if is_rootless else [str(group) for group in os.getgroups()]
        if any("name=selinux" in one for one in said_by):  # or it could read none of our files
            given["security_opt"].append("label=disable")
        if options.container_memory_gb:
            given["mem_limit"] = int(options.container_memory_gb * 2**30)
            given["memswap_limit"] = given["mem_limit"]
        given |= of_cards
        given["group_add"] = [*groups, *of_cards.get("group_add", [])]
        return given


def _is_taken(name: str) -> bool:
    return bool(TAKEN.fullmatch(name)) and not NOT_TAKEN.fullmatch(name)


def _shared_memory_bytes() -> int:
    """As much as the processes of this machine have."""
    place = Path("/dev/shm")
    return psutil.disk_usage(str(place)).total if place.exists() else 2**30


def _is_worked_on(run: Path) -> bool:
    """Whether a process holds the lock of a run's folder."""
    try:
        with open(run / LOCK, "rb") as lock:
            flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False

"""`pipeline.py doctor`: what is there for a run, here and on a cluster, and what to do about the
rest."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ClassVar

from tabulate import tabulate

from shared.command import StepConfig
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.doctor.findings import Check, Finding, look
from shared.pipeline.engines.checks import images_here
from shared.pipeline.images.named import with_images
from shared.pipeline.images.registry import check_images
from shared.pipeline.preflight import STORE
from shared.pipeline.runs import EngineOptions
from shared.pipeline.server.answers import Experiment
from shared.pipeline.server.client import connect
from shared.pipeline.submitting import ImageOptions, ServerOptions
from shared.terminal.screen import say
from shared.terminal.stopping import keeps


class DoctorOptions(ServerOptions, ImageOptions, EngineOptions, StepConfig):
    """A look at what runs need."""

    STEP: ClassVar[str] = "doctor"

    runs: Path = Path("runs")
    """Folder of the runs."""


def doctor(config: DoctorOptions) -> None:
    """Show what is there for runs, and what to do about what is not: packages, devices, disk,
    MLflow, container engine and images here; with --host and --cluster that server, namespace,
    claims, secrets, quotas and cards.

    Exit codes: 0 all that is needed is there, 2 something is missing.

    Example:
        python pipeline.py doctor --host https://kfp.example --cluster docker/kubernetes/nvidia.yaml
    """
    from shared.pipeline.doctor import here, kubernetes_api

    keeps("it changes nothing")
    site = with_images(read_cluster(config.cluster), config.images)
    is_docker = config.engine == "docker"
    here_images = images_here(config, site, config.images) if is_docker else {}
    if site.launcher.kind == "none":
        here_images.pop("train_on_nodes", None)
    uri = os.environ.get(STORE) or site.mlflow_uri

    # All at once: each waits for somebody else.
    checks: dict[str, Check] = {
        "packages": here.packages,
        "devices": here.devices,
        "disk": partial(here.disk, config.runs),
        "MLflow": partial(here.mlflow, uri, config.runs, uri == site.mlflow_uri),
        "container engine": partial(here.engine, is_docker, here_images),
    }
    if config.host:
        checks["KFP server"] = partial(kfp_server, config)
        checks["images"] = partial(images_of_server, dict(site.images))
    if config.host or config.cluster:
        namespace = config.namespace or site.namespace
        checks["Kubernetes"] = partial(kubernetes_api.cluster, site, namespace)
    with ThreadPoolExecutor(len(checks)) as pool:
        rows = [row for found in pool.map(look, checks, checks.values()) for row in found]

    # The table.
    say(tabulate([(row.what, row.state, row.about) for row in rows], tablefmt="plain"))
    missing = [row.what for row in rows if row.is_needed]
    if missing:
        sys.stdout.flush()
        print(f"doctor: missing: {', '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    print("doctor: all that is needed is there", flush=True)


def kfp_server(options: ServerOptions) -> list[Finding]:
    """Whether it answers as one, and lets us in. Raises InputError where not."""
    with connect(options) as server:
        shown = server.access.url
        if server.has_users and not server.namespace:
            about = f"{shown} has users, each with a namespace: say --namespace"
            return [Finding("KFP server", "missing", about)]
        asked = {"namespace": server.namespace} if server.namespace else {}
        next(server.pages("experiments", "experiments", Experiment, **asked), None)
        where = f", namespace {server.namespace}" if server.namespace else ""
        return [Finding("KFP server", "there", f"{shown}{where}")]


def images_of_server(images: dict[str, str]) -> list[Finding]:
    """Whether their registry has them."""
    if not images:
        return [Finding("images", "not seen", "none named: give --images, or images in --cluster")]
    lacking, unknown = check_images(images)
    rows = [Finding("images", "missing", sentence) for sentence in lacking]
    rows += [Finding("images", "not seen", sentence) for sentence in unknown]
    return rows or [Finding("images", "there", ", ".join(sorted(images.values())))]

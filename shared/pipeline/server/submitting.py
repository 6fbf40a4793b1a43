"""The graph on a KFP API server: its pipeline in a version, its experiment, and a run of both."""

import hashlib
import json
import sys
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from shared.errors import InputError
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.graph import run_parameters, write_yaml
from shared.pipeline.reuse import Reuse
from shared.pipeline.server.answers import Experiment, Pipeline, PipelineVersion, Run
from shared.pipeline.server.client import Server, connect
from shared.pipeline.server.creating import create_once
from shared.pipeline.server.credentials import shown
from shared.pipeline.server.runs import named, page_of
from shared.pipeline.server.waiting import follow
from shared.pipeline.submitting import ServerOptions, SubmitOptions
from shared.secrets import without_secrets
from shared.terminal.stopping import keeps

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


def submit(
    options: SubmitOptions,
    recipe: str,
    graph: "GraphComponent",
    tags: dict[str, str],
) -> None:
    """Create a run of a built graph on the server at --host, and follow it with --wait.

    Args:
        recipe: Its name, which pipeline and experiment have too.

    Raises InputError where the server does not take it, and for raw data that no pod can read or
    every user of the server could; SystemExit with the code of a run that was waited for.
    """
    # What it is called, and by what it is found again if its creation gets no answer.
    check_raw_data(options.raw_data)
    name = options.run_name or f"{recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    mark = f"Submission {uuid.uuid4().hex[:12]}."
    about = [f"Recipe {recipe}.", *(f"{key}={value}" for key, value in tags.items()), mark]
    keeps("the run may be there already", f"look at {shown(options.host)}")

    with connect(options) as server:
        # The pipeline in this version, and the experiment.
        version = upload(server, recipe, spec_of(graph, options.reuse))
        experiment = find_or_create_experiment(server, options.experiment or recipe)

        # The run.
        wanted = {
            "display_name": name,
            "description": " ".join(about),
            "experiment_id": experiment.experiment_id,
            "pipeline_version_reference": version,
            "runtime_config": {"parameters": run_parameters(graph, options.raw_data)},
        }
        wanted |= service_account(options)

        def find() -> Run | None:
            asked = {"experiment_id": experiment.experiment_id, "filter": named(name)}
            there = server.pages("runs", "runs", Run, **asked)
            return next((run for run in there if mark in run.description), None)

        run = create_once(lambda: server.ask("POST", "runs", Run, body=wanted), find)
        print(f"Run details: {page_of(server, run)}")
        print(f"submitted {name} to {server.access.url}", flush=True)

        # Its end.
        if options.wait:
            code = follow(server, run, options)
            if code:
                sys.exit(code)


def check_raw_data(raw_data: str | None) -> None:
    """Raises InputError for raw data that a run on a server cannot have."""
    if not (raw_data or "").strip():
        raise InputError(
            "--host needs --raw-data: a path or URL that the pods of the cluster can read."
        )
    if (harmless := without_secrets(raw_data)) != raw_data:
        raise InputError(
            f"--raw-data {harmless} has secrets in it, and a server shows the parameters of its "
            "runs to all its users: give the secrets to the pods as environment variables of a "
            "Kubernetes secret; --raw-data env://VARIABLE is the URL that one of them holds."
        )


def spec_of(graph: "GraphComponent", reuse: Reuse) -> dict[str, Any]:
    """The graph as a server takes it, its cache on for the tasks that may be reused."""
    with tempfile.TemporaryDirectory() as folder:
        write_yaml(graph, file := Path(folder) / "pipeline.yaml", "")
        spec, *platform = yaml.safe_load_all(file.read_text())
    for name, task in spec["root"]["dag"]["tasks"].items():
        if reuse == "off" or (reuse == "data" and name != "prepare"):
            task["cachingOptions"] = {}
    return {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec


# What a run belongs to. The server takes each of their names once.


def upload(server: Server, recipe: str, spec: dict[str, Any]) -> dict[str, str]:
    """The reference to a version of the recipe's pipeline that has this content: config, code and
    images. It is named after that, so that the same again is the same version."""
    # The pipeline.
    parts = [spec["pipeline_spec"], spec["platform_spec"]] if "platform_spec" in spec else [spec]
    name = parts[0]["pipelineInfo"]["name"]
    asked = {"filter": named(name, "name"), "namespace": server.namespace}

    def find() -> Pipeline | None:
        return next(server.pages("pipelines", "pipelines", Pipeline, **asked), None)

    body = in_namespace(server, name=name, display_name=recipe, description=f"Recipe {recipe}.")
    pipeline = find() or create_once(
        lambda: server.ask("POST", "pipelines", Pipeline, body=body), find, is_unique=True
    )

    # Its version.
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
    path, place = f"pipelines/{pipeline.pipeline_id}/versions", "pipelines/upload_version"
    version_name, content = f"{name}-{digest}", yaml.safe_dump_all(parts).encode()
    query = {"name": version_name, "pipelineid": pipeline.pipeline_id}

    def find_version() -> PipelineVersion | None:
        asked = {"filter": named(version_name, "name")}
        return next(server.pages(path, "pipeline_versions", PipelineVersion, **asked), None)

    def create_version() -> PipelineVersion:
        file = ("pipeline.yaml", content)
        return server.ask("POST", place, PipelineVersion, query=query, file=file)

    version = find_version() or create_once(create_version, find_version, is_unique=True)
    known = version.pipeline_version_id
    return {"pipeline_id": pipeline.pipeline_id, "pipeline_version_id": known}


def find_or_create_experiment(server: Server, name: str) -> Experiment:
    """The experiment of that name, in --namespace."""
    asked = {"filter": named(name), "namespace": server.namespace}

    def find() -> Experiment | None:
        return next(server.pages("experiments", "experiments", Experiment, **asked), None)

    body = in_namespace(server, display_name=name)
    return find() or create_once(
        lambda: server.ask("POST", "experiments", Experiment, body=body), find, is_unique=True
    )


def service_account(options: ServerOptions) -> dict[str, str]:
    """As whom the pods run, by --cluster; without it, the server's default."""
    account = read_cluster(options.cluster).service_account
    return {"service_account": account} if account else {}


def in_namespace(server: Server, **body: str) -> dict[str, str]:
    return body | ({"namespace": server.namespace} if server.namespace else {})

"""Train on several nodes: write down what is asked for in the workspace that all pods share, let
the cluster start the nodes, watch them, and take the model from there."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from components.train.config import TrainConfig
from components.train.nodes import ours
from components.train.nodes.api import Api, Refused, Unanswered
from components.train.nodes.jobs import Template, body_of
from components.train.nodes.watching import Job
from shared.contracts.model import ModelCard
from shared.errors import InputError, WorkFailed
from shared.files.writing import make_folder, take_over, write_atomically
from shared.flags import as_flag
from shared.terminal.stopping import keeps
from shared.workspace.place import mounted, run_id

Json = dict[str, Any]

FOLDER = "nodes"  # of a training on the workspace, beside the turns of pods that train alone
RECIPE, MODEL = "recipe.yaml", "model"  # in it


def run(
    dataset: Path,
    model: Path,
    job: Path,
    init_from: Path | None = None,
    clusters: Path | None = None,
    *,
    workspace: str,
    template: Json,
    config: TrainConfig,
) -> dict[str, float]:
    """Train on `config.nodes` machines; what train's own `run` would leave in the model folder.

    Args:
        job: File to write the job to, as the API was asked for it.
        workspace: Folder that the pods of all nodes share.
        template: Of the job, by the cluster's file.
    """
    api = Api.of_here()
    pod = ours.our_pod(api)

    # What the nodes read, and where they see it: what lies elsewhere is copied to the workspace.
    root, step = mounted(workspace), config.step_name
    folder = root / run_id() / step / FOLDER
    inputs = {"dataset": dataset, "init_from": init_from, "clusters": clusters}
    inputs = {name: place for name, place in inputs.items() if place}
    copies = {
        name: folder / name
        for name, place in inputs.items()
        if not place.absolute().is_relative_to(root.absolute())
    }
    flags = ["--recipe", str(folder / RECIPE), "--recipe-section", step]
    for name, place in {"model": folder / MODEL, **inputs, **copies}.items():
        flags += [as_flag(name), str(place.absolute())]

    # The job: its name is that of its folder, so that two never train in one.
    name = f"{step.replace('_', '-')}-{hashlib.sha256(str(folder).encode()).hexdigest()[:10]}"
    nodes = _with_claims(Template.model_validate(template), pod)
    nodes = nodes.model_copy(update={"container": _with_env(nodes.container, pod)})
    command = ["python", "-m", "components.train", *flags]
    body = body_of(nodes, name, step, config.nodes, config.devices, command, ours.owners_of(pod))
    job.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(job, yaml.safe_dump(body, sort_keys=False).encode())

    # Its life.
    started = Job(api, nodes, name)
    keeps(f"what it saved is kept in {folder}, and {started.called} is deleted")
    with _deleted_at_the_end(started):
        if started.find():
            print(f"{started.called} of an earlier attempt goes on", flush=True)
        else:
            make_folder(folder)
            recipe = {step: config.model_dump(exclude_unset=True)}
            write_atomically(folder / RECIPE, yaml.safe_dump(recipe).encode())
            for name, copy in copies.items():
                take_over(inputs[name], copy)
            started.make(body)
            print(f"{started.called}: {config.nodes} nodes of {config.devices}", flush=True)
        started.watch()
        if config.performance_run:
            return {}
        return _take_model(folder / MODEL, model, config, started)


def _with_claims(nodes: Template, pod: Json) -> Template:
    """The job's volumes; of a claim that KFP makes for each run our own pod knows the name."""
    volumes = [dict(volume) for volume in nodes.pod.get("volumes") or []]
    paths = {mount["name"]: mount["mountPath"] for mount in nodes.container.get("volumeMounts", [])}
    for volume in volumes:
        claim = volume.get("persistentVolumeClaim")
        if claim is not None and not claim.get("claimName"):
            path = paths[volume["name"]]
            if not (name := ours.claim_at(pod, path)):
                raise InputError(
                    f"{path} is no volume of this pod, so the nodes cannot share it: give the "
                    "file of --cluster a workspace, and the service account the right to get pods."
                )
            volume["persistentVolumeClaim"] = claim | {"claimName": name}
    return nodes.model_copy(update={"pod": nodes.pod | {"volumes": volumes}} if volumes else {})


def _with_env(container: Json, pod: Json) -> Json:
    env = list(container.get("env") or [])
    known = {one["name"] for one in env}
    env += [one for one in ours.way_to_mlflow(pod) if one["name"] not in known]
    return container | ({"env": env} if env else {})


@contextlib.contextmanager
def _deleted_at_the_end(job: Job) -> Iterator[None]:
    """Delete the job however the block ends: cards are never held by one that nobody watches. But
    where the API is silent another attempt of the step may find it again."""
    try:
        yield
    except Unanswered as lost:
        raise WorkFailed(
            f"{lost} {job.called} may go on: another attempt of this step watches it, and `kubectl "
            f"delete {job.kind.lower()} {job.name} -n {job.api.namespace}` ends it."
        ) from None
    except BaseException:
        _delete(job)
        raise
    _delete(job)


def _delete(job: Job) -> None:
    if not job.is_ours:
        return
    try:
        job.delete(job.patience.delete)
        print(f"{job.called}: deleted", flush=True)
    except (Refused, Unanswered) as failure:
        print(
            f"{job.called} could not be deleted ({failure}): say `kubectl delete "
            f"{job.kind.lower()} {job.name} -n {job.api.namespace}`.",
            flush=True,
        )


def _take_model(trained: Path, model: Path, config: TrainConfig, job: Job) -> dict[str, float]:
    """Take the model over into the folder of the artifact; its figures. Raises WorkFailed where it
    is not what was asked for, whatever the job says."""
    try:
        card = ModelCard.read(trained)
    except InputError as refusal:
        raise WorkFailed(f"{job.called} says that it is complete, but {refusal}") from None
    if card.epoch < config.total_epochs:
        raise WorkFailed(
            f"{job.called} says that it is complete, but {trained} has {card.epoch} of "
            f"{config.total_epochs} epochs."
        )
    take_over(trained, model, leave=("state",))
    return card.metrics

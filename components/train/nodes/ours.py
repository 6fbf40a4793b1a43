"""The pod that this step runs in: what of it the job takes over."""

import os
from typing import Any

from components.train.nodes.api import Api, Missing, Refused
from components.train.nodes.pods import PODS
from shared import tracking
from shared.secrets import without_secrets
from shared.tracking import store

Json = dict[str, Any]

POD = "KFP_POD_NAME"  # variable in which KFP says it
# By which rank 0 finds the step's place in MLflow.
OF_MLFLOW = (store.URI, tracking.EXPERIMENT, tracking.EXPERIMENT_ID, tracking.RUN_ID)
OF_MLFLOW += (tracking.PARENT,)


def our_pod(api: Api) -> Json:
    """The pod of this process; {} where it is in none, or may not be looked at."""
    name = os.environ.get(POD)
    if not name:
        return {}
    try:
        return api.ask("GET", f"{PODS.format(api.namespace)}/{name}")
    except (Missing, Refused):
        return {}


def owners_of(pod: Json) -> list[Json]:
    """What a job is deleted with: the run's workflow, to which the pods of all attempts belong."""
    fields = ("apiVersion", "kind", "name", "uid")
    owners = pod.get("metadata", {}).get("ownerReferences") or []
    return [{name: owner[name] for name in fields} for owner in owners]


def claim_at(pod: Json, path: str) -> str:
    """The name of the claim whose volume a pod sees at a path; "" where it sees none there."""
    spec = pod.get("spec", {})
    names = {
        mount["name"]
        for container in spec.get("containers") or []
        for mount in container.get("volumeMounts") or []
        if mount["mountPath"].rstrip("/") == path.rstrip("/")
    }
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in spec.get("volumes") or []
        if volume["name"] in names and "persistentVolumeClaim" in volume
    ]
    return next(iter(claims), "")


def way_to_mlflow(pod: Json) -> list[Json]:
    """The variables by which rank 0 goes on with the MLflow run of this step: as our pod has them,
    which is by reference where they are secret."""
    known = {
        one["name"]: one
        for container in pod.get("spec", {}).get("containers") or []
        for one in container.get("env") or []
        if "valueFrom" in one
    }
    way = []
    for name in OF_MLFLOW:
        if name in known:
            way.append(known[name])
        elif value := os.environ.get(name):
            if without_secrets(value) == value:
                way.append({"name": name, "value": value})
            else:
                print(
                    f"{name} holds a secret, which no job may show: the nodes log to MLflow where "
                    "`secrets` of the cluster's file gives them this variable.",
                    flush=True,
                )
    return way

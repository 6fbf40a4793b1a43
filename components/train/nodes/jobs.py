"""The two kinds of jobs that start a training on several nodes: how each is asked for, and how far
it says it is.

TrainJob: trainer.kubeflow.org/v1alpha1, of Kubeflow Trainer 2. Its torch plugin sets PET_NNODES,
PET_NPROC_PER_NODE, PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT. AscendJob:
mindxdl.gitee.com/v1, of MindCluster 6 and later. It sets RANK, which is that of the node there,
MASTER_ADDR and MASTER_PORT; its activeDeadlineSeconds has no meaning yet. `devices/world.py` reads
both, so that each node runs the train step once.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, NamedTuple

from pydantic import model_validator

from shared.command import Options

Json = dict[str, Any]

OURS = "pix2pixhd-pipeline"
JOB, STEP, RANK_0 = f"{OURS}/job", f"{OURS}/step", f"{OURS}/rank-0"  # labels
INDEX = "batch.kubernetes.io/job-completion-index"  # label of a TrainJob's pods: their node

# What the API calls them.
PLACES = {
    "trainjob": "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{}/trainjobs",
    "ascendjob": "/apis/mindxdl.gitee.com/v1/namespaces/{}/ascendjobs",
}
CONTAINERS = {"trainjob": "node", "ascendjob": "ascend"}  # names that the operators ask for
DONE = {"trainjob": "Complete", "ascendjob": "Succeeded"}


class Template(Options):
    """What the cluster's file says of the job: what its nodes have."""

    kind: Literal["trainjob", "ascendjob"]
    runtime: str = ""
    """Of a TrainJob: the ClusterTrainingRuntime."""
    queue: str = ""
    """Of an AscendJob: Volcano's."""
    priority: str = ""
    """Of an AscendJob: class of its pods."""
    labels: dict[str, str] = {}
    """Of the job."""
    pod_labels: dict[str, str] = {}
    pod_annotations: dict[str, str] = {}
    pod: Json = {}
    """Of Kubernetes' PodSpec: volumes, nodeSelector, tolerations, imagePullSecrets ..."""
    container: Json
    """Of its Container: image, resources, env, volumeMounts ..."""
    timeout_min: int = 0
    """Minutes after which the training is stopped; 0: never."""

    @model_validator(mode="before")
    @classmethod
    def _has_whole_numbers(cls, given: Any) -> Any:
        """KFP hands over 1000 as 1000.0, which Kubernetes does not take for a user."""
        if isinstance(given, dict):
            return {name: cls._has_whole_numbers(one) for name, one in given.items()}
        if isinstance(given, list):
            return [cls._has_whole_numbers(one) for one in given]
        return int(given) if isinstance(given, float) and given.is_integer() else given


class State(NamedTuple):
    """How far a job says it is."""

    name: str  # of the condition, such as Running
    reason: str = ""
    is_done: bool = False
    is_failed: bool = False


def body_of(
    template: Template,
    name: str,
    step: str,
    nodes: int,
    devices: int,
    command: Sequence[str],
    owners: Sequence[Json] = (),
) -> Json:
    """The job as the API takes it.

    step: that it is of, such as train_global.
    owners: what it is deleted with."""
    marks = {JOB: name, STEP: step}
    metadata: Json = {"name": name, "labels": template.labels | marks}
    if owners:
        metadata["ownerReferences"] = list(owners)
    if template.kind == "trainjob":
        return _train_job(template, metadata, marks, nodes, devices, list(command))
    return _ascend_job(template, metadata, marks, nodes, list(command))


def _train_job(
    template: Template, metadata: Json, marks: Json, nodes: int, devices: int, command: list[str]
) -> Json:
    # What the trainer has no field for is a patch of the runtime's pods.
    container, name = dict(template.container), CONTAINERS["trainjob"]
    trainer = {
        "image": container.pop("image"),
        "command": command[:1],
        "args": command[1:],
        "numNodes": nodes,
        # Trainer itself counts resources whose name contains "gpu" alone, else CPU cores.
        "numProcPerNode": devices,
    }
    if env := container.pop("env", None):
        trainer["env"] = env
    if resources := container.pop("resources", None):
        trainer["resourcesPerNode"] = resources
    container.pop("imagePullPolicy", None)  # nobody but the runtime may say it

    # Pods.
    pods: Json = {
        "metadata": _metadata_of_pods(template, marks),
        "spec": template.pod | {"containers": [{"name": name} | container]},
    }

    # The job.
    jobs = [{"name": name, "template": {"spec": {"template": pods}}}]
    spec: Json = {
        "runtimeRef": {"name": template.runtime},
        "trainer": trainer,
        "runtimePatches": [
            {
                "manager": f"{OURS}/launcher",
                "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}},
            }
        ],
    }
    if template.timeout_min:
        spec["activeDeadlineSeconds"] = 60 * template.timeout_min
    kind = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob"}
    return kind | {"metadata": metadata, "spec": spec}


def _ascend_job(
    template: Template, metadata: Json, marks: Json, nodes: int, command: list[str]
) -> Json:
    metadata["labels"] = {"framework": "pytorch"} | metadata["labels"]
    container = {"name": CONTAINERS["ascendjob"]} | template.container
    container |= {"command": command[:1], "args": command[1:]}
    pod = template.pod | {"schedulerName": "volcano", "containers": [container]}
    if template.priority:
        pod["priorityClassName"] = template.priority

    def replicas(count: int, **more: str) -> Json:
        about = _metadata_of_pods(template, marks | more)
        return {
            "replicas": count,
            "restartPolicy": "Never",
            "template": {"metadata": about, "spec": deepcopy(pod)},
        }

    kinds = {"Master": replicas(1, **{RANK_0: "true"})}
    if nodes > 1:
        kinds["Worker"] = replicas(nodes - 1)
    # All pods at once or none.
    scheduling = {"minAvailable": nodes, "queue": template.queue or "default"}
    spec = {
        "schedulerName": "volcano",
        "runPolicy": {"schedulingPolicy": scheduling},
        "successPolicy": "AllWorkers",
        "replicaSpecs": kinds,
    }
    kind = {"apiVersion": "mindxdl.gitee.com/v1", "kind": "AscendJob"}
    return kind | {"metadata": metadata, "spec": spec}


def _metadata_of_pods(template: Template, marks: Json) -> Json:
    about: Json = {"labels": template.pod_labels | marks}
    if template.pod_annotations:
        about["annotations"] = template.pod_annotations
    return about


def state_of(job: Json) -> State:
    """How far a job says it is, by its last condition that holds."""
    done = DONE["trainjob"] if job["kind"] == "TrainJob" else DONE["ascendjob"]
    holding = [
        one
        for one in job.get("status", {}).get("conditions") or []
        if one.get("status") == "True" and one.get("type") != "Suspended"
    ]
    by_type = {one["type"]: one for one in holding}
    for name, is_done in (("Failed", False), (done, True)):
        if name in by_type:
            reason = _said_in(by_type[name])
            return State(name, reason, is_done=is_done, is_failed=not is_done)
    last = holding[-1] if holding else {"type": "created"}
    return State(last["type"], _said_in(last))


def _said_in(condition: Json) -> str:
    return ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))


def node_of(pod: Json) -> int | None:
    """The number of a pod's node, 0 of that which speaks; None where it is not known."""
    labels = pod["metadata"].get("labels") or {}
    if INDEX in labels:
        return int(labels[INDEX])
    annotation = (pod["metadata"].get("annotations") or {}).get(INDEX)
    if annotation is not None:
        return int(annotation)
    if RANK_0 in labels:
        return 0
    index = labels.get("training.kubeflow.org/replica-index", labels.get("replica-index"))
    return None if index is None else int(index) + 1

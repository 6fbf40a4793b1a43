"""What the nodes of a training have that a job starts: see components/train/nodes."""

from typing import Any

from shared.ascend.environment import OPERATORS, operators_below
from shared.errors import InputError
from shared.pipeline.cluster.config import Cluster, StepNeeds
from shared.pipeline.recipes import Recipe

Json = dict[str, Any]

WORKSPACE_OF_KFP = "/kfp-workspace"  # where its pods see the claim that it makes for a run


def refuse_nodes(recipe: Recipe, site: Cluster) -> None:
    """Raises InputError for steps on several nodes that nothing starts."""
    several = [step for step, values in recipe.items() if values.get("nodes", 1) > 1]
    if not several:
        return
    step = several[0]
    asked = f"{step}.nodes is {recipe[step]['nodes']}"
    if site.launcher.kind == "none":
        raise InputError(
            f"{asked}, but no cluster is named that starts nodes: name one with --cluster whose "
            f"launcher.kind is trainjob or ascendjob, or say --set {step}.nodes=1."
        )
    if "train" not in site.images:
        raise InputError(
            f"{asked}, but no image of train is named, in which the nodes train: name it with "
            "--images, or under images in the file of --cluster."
        )


def template_of(site: Cluster, step: str) -> Json:
    """The job of a step, but for what it trains: pods as `place` would ask KFP for them."""
    needs, launcher = site.needs(step), site.launcher
    is_train_job = launcher.kind == "trainjob"
    labels = {**launcher.labels}
    if is_train_job and launcher.queue:
        labels["kueue.x-k8s.io/queue-name"] = launcher.queue
    if is_train_job and launcher.priority:
        labels["kueue.x-k8s.io/priority-class"] = launcher.priority
    template = {"kind": launcher.kind, "runtime": launcher.runtime, "labels": labels}
    if not is_train_job:
        template |= {"queue": launcher.queue, "priority": launcher.priority}

    # Its pods. MindCluster reads some labels of a job on them too.
    of_pods = {**site.labels} | ({} if is_train_job else {**launcher.labels})
    template |= {"pod_labels": of_pods, "pod_annotations": {**site.annotations}}
    volumes, mounts = _volumes(site, needs)
    pod: Json = {"volumes": volumes}
    cards = site.accelerator if needs.accelerators else None
    if selector := {**site.node_selector, **(cards.node_selector if cards else {})}:
        pod["nodeSelector"] = selector
    if taints := (*site.tolerations, *(cards.tolerations if cards else ())):
        said = [one.model_dump() for one in taints]
        pod["tolerations"] = [{key: text for key, text in one.items() if text} for one in said]
    if site.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in site.pull_secrets]
    if site.service_account:
        pod["serviceAccountName"] = site.service_account

    # Their container.
    container: Json = {"image": site.images["train"], "volumeMounts": mounts}
    if site.pull_policy:
        container["imagePullPolicy"] = site.pull_policy
    if resources := _resources(site, needs):
        container["resources"] = resources
    if env := _environment(site, needs):
        container["env"] = env
    security = site.security.model_dump(exclude_none=True)
    names = {"run_as_user": "runAsUser", "run_as_group": "runAsGroup"}
    names |= {"run_as_non_root": "runAsNonRoot"}
    if security:
        container["securityContext"] = {names[name]: value for name, value in security.items()}
    return template | {"pod": pod, "container": container, "timeout_min": needs.timeout_min}


def _volumes(site: Cluster, needs: StepNeeds) -> tuple[list[Json], list[Json]]:
    """Volumes of the pods, and where they see them; of KFP's own workspace nobody knows the claim
    before the run."""
    workspace = site.workspace
    path = workspace.path if workspace.claim else WORKSPACE_OF_KFP
    claim = {"claimName": workspace.claim} if workspace.claim else {}
    volumes: list[Json] = [{"name": "workspace", "persistentVolumeClaim": claim}]
    mounts: list[Json] = [{"name": "workspace", "mountPath": path}]
    if workspace.subpath:
        mounts[0]["subPath"] = workspace.subpath
    if needs.shm:
        memory = {"medium": "Memory", "sizeLimit": needs.shm}
        volumes.append({"name": "dev-shm", "emptyDir": memory})
        mounts.append({"name": "dev-shm", "mountPath": "/dev/shm"})
    return volumes, mounts


def _resources(site: Cluster, needs: StepNeeds) -> Json:
    requests = {"cpu": needs.cpu_request, "memory": needs.memory_request}
    limits = {"cpu": needs.cpu_limit, "memory": needs.memory_limit}
    if site.accelerator and needs.accelerators:
        cards = {site.accelerator.resource: str(needs.accelerators)}
        requests, limits = requests | cards, limits | cards
    both = {"requests": requests, "limits": limits}
    kept = {kind: {key: text for key, text in one.items() if text} for kind, one in both.items()}
    return {kind: one for kind, one in kept.items() if one}


def _environment(site: Cluster, needs: StepNeeds) -> list[Json]:
    """Of secrets the names alone."""
    plain = ({"MLFLOW_TRACKING_URI": site.mlflow_uri} if site.mlflow_uri else {}) | {
        **site.environment
    }
    if site.device == "npu" and needs.accelerators:  # an owner's own value comes later, and wins
        path = site.workspace.path if site.workspace.claim else WORKSPACE_OF_KFP
        plain = {OPERATORS: str(operators_below(path))} | plain
    env: list[Json] = [{"name": name, "value": value} for name, value in plain.items()]
    for kind, sources in (("secretKeyRef", site.secrets), ("configMapKeyRef", site.config_maps)):
        for source, variables in sources.items():
            for key, name in variables.items():
                where = {kind: {"name": source, "key": key}}
                env.append({"name": name, "valueFrom": where})
    if site.launcher.kind == "ascendjob" and site.accelerator and needs.accelerators:
        # Which cards ascend-docker-runtime gives the container; Volcano notes them.
        cards = {"fieldRef": {"fieldPath": f"metadata.annotations['{site.accelerator.resource}']"}}
        env.append({"name": "ASCEND_VISIBLE_DEVICES", "valueFrom": cards})
    return env

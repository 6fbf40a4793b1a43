"""Where a step runs on a cluster, and what it has there."""

from os.path import normpath

from kfp import dsl, kubernetes

from shared.errors import InputError
from shared.pipeline.cluster.config import Cluster, StepNeeds, Toleration
from shared.workspace.place import RUN_ID, RUN_LABEL

LAUNCHER = "train_on_nodes"  # the component whose pod starts others, and computes nothing itself
# Argo counts it from the start of the first attempt, and kills a later one when it is over (KFP's
# own hour: any training); an attempt has its own time limit.
ALL_ATTEMPTS_S = 365 * 86_400
READS_RAW_DATA = ("fingerprint", "prepare")


def workspace_of(site: Cluster) -> str:
    """The folder that all pods of a run share, as its tasks are told; '' = none."""
    if site.workspace is None:
        return ""
    return site.workspace.path if site.workspace.claim else dsl.WORKSPACE_PATH_PLACEHOLDER


def pipeline_config(site: Cluster) -> dsl.PipelineConfig:
    """What KFP makes for a run as a whole."""
    if site.workspace is None or not site.workspace.size:
        return dsl.PipelineConfig()
    patch = {"accessModes": [site.workspace.access_mode]}
    if site.workspace.storage_class:
        patch["storageClassName"] = site.workspace.storage_class
    of_cluster = dsl.KubernetesWorkspaceConfig(pvcSpecPatch=patch)
    return dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(site.workspace.size, of_cluster))


def refuse_unseen(raw_data: str | None, site: Cluster) -> None:
    """Raises InputError for a folder of raw data in no volume of the pods; where a cluster names
    none, nobody knows what they see."""
    volumes = [site.raw_data] if site.raw_data else []
    volumes += [site.workspace] if site.workspace and site.workspace.claim else []
    if not (volumes and raw_data) or "://" in raw_data:
        return
    if not any(f"{normpath(raw_data)}/".startswith(f"{one.path}/") for one in volumes):
        seen = " and ".join(f"{one.path} (claim {one.claim})" for one in volumes)
        raise InputError(
            f"--raw-data {raw_data} is in no volume of the cluster's pods, which see {seen}: name "
            "a folder there, or a URL."
        )


def place(task: dsl.PipelineTask, step: str, component: str, site: Cluster) -> None:
    """Ask for what a step needs on a cluster; to be called inside a pipeline function, with a
    cluster as `with_cards` leaves it."""
    is_launcher = component == LAUNCHER
    needs = site.needs(step)
    _ask_for(task, site.defaults if is_launcher else needs)
    _bound(task, needs)
    cards = 0 if is_launcher else needs.accelerators
    _send(task, site.node_selector, site.tolerations)
    if site.accelerator and cards:
        task.set_accelerator_type(site.accelerator.resource).set_accelerator_limit(cards)
        _send(task, site.accelerator.node_selector, site.accelerator.tolerations)

    # Its image, and as whom it runs.
    if image := site.images.get(component):
        task.set_container_image(image)
    if site.pull_policy:
        kubernetes.set_image_pull_policy(task, site.pull_policy)
    if site.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(site.pull_secrets))
    if said := site.security.model_dump(exclude_none=True):
        kubernetes.set_security_context(task, **said)
    for key, label in site.labels.items():
        kubernetes.add_pod_label(task, key, label)
    for key, text in site.annotations.items():
        kubernetes.add_pod_annotation(task, key, text)

    # Volumes.
    if site.raw_data and step in READS_RAW_DATA:
        raw_data = site.raw_data
        kubernetes.mount_pvc(task, raw_data.claim, raw_data.path, raw_data.subpath)
    if site.workspace and site.workspace.claim:
        workspace = site.workspace
        kubernetes.mount_pvc(task, workspace.claim, workspace.path, workspace.subpath)

    # Its environment; of secrets the names alone.
    if site.workspace:
        kubernetes.use_field_path_as_env(task, RUN_ID, RUN_LABEL)
    if site.mlflow_uri:
        task.set_env_variable("MLFLOW_TRACKING_URI", site.mlflow_uri)
    for name, value in site.environment.items():
        task.set_env_variable(name, value)
    for secret, variables in site.secrets.items():
        kubernetes.use_secret_as_env(task, secret, dict(variables))
    for config_map, variables in site.config_maps.items():
        kubernetes.use_config_map_as_env(task, config_map, dict(variables))


def _ask_for(task: dsl.PipelineTask, needs: StepNeeds) -> None:
    """Cores and memory."""
    if needs.cpu_request:
        task.set_cpu_request(needs.cpu_request)
    if needs.cpu_limit:
        task.set_cpu_limit(needs.cpu_limit)
    if needs.memory_request:
        task.set_memory_request(needs.memory_request)
    if needs.memory_limit:
        task.set_memory_limit(needs.memory_limit)
    if needs.shm:
        kubernetes.empty_dir_mount(
            task, "dev-shm", "/dev/shm", medium="Memory", size_limit=needs.shm
        )


def _bound(task: dsl.PipelineTask, needs: StepNeeds) -> None:
    """How long an attempt may take, and how many follow."""
    if needs.timeout_min:
        kubernetes.set_timeout(task, needs.timeout_min * 60)
    if needs.retries:
        task.set_retry(
            needs.retries,
            backoff_duration=f"{needs.backoff_s}s",
            backoff_factor=needs.backoff_factor,
            backoff_max_duration=f"{ALL_ATTEMPTS_S}s",
        )


def _send(
    task: dsl.PipelineTask, selector: dict[str, str], tolerations: tuple[Toleration, ...]
) -> None:
    """To nodes with these labels, also where they have these taints."""
    for key, label in selector.items():
        kubernetes.add_node_selector(task, key, label)
    for one in tolerations:
        said = {name: text for name, text in one.model_dump().items() if text}
        kubernetes.add_toleration(task, **said)

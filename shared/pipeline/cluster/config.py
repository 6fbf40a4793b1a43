"""What a cluster has: one YAML file for all pipelines that run on it."""

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.pipeline.cluster.words import (
    Amount,
    ClaimName,
    ClaimSize,
    ConfigKey,
    Cores,
    Folder,
    ImageName,
    Label,
    LabelKey,
    Name,
    PlainVariable,
    ResourceName,
    SecretVariable,
    ServerUrl,
    Subpath,
    Text,
    Whole,
    YesNo,
    bytes_of,
    cores_of,
)

StepName = Literal[
    "fingerprint", "prepare", "train_global", "cluster", "train_local", "export", "benchmark"
]
ComponentName = Literal[
    "prepare", "train", "train_on_nodes", "cluster", "export", "benchmark"
]  # those that have an image
WITHOUT_CARDS = ("fingerprint", "prepare")
# Before the slash of a resource's name: the device of `shared/device_names.py` that it stands for.
DEVICES = {"nvidia.com": "cuda", "huawei.com": "npu"}


class Table(BaseModel):
    """A table of the file: frozen, and without fields that are not known here."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    REMEDIES: ClassVar[dict[str, str]] = {}  # for fields that one may expect, but cannot be

    @model_validator(mode="before")
    @classmethod
    def _knows_its_fields(cls, given: Any) -> Any:
        for name in given if isinstance(given, dict) else ():
            if name in cls.model_fields:
                continue
            close = difflib.get_close_matches(str(name), cls.model_fields, n=1)
            fields = [*cls.model_fields]
            few = f"write one of {', '.join(fields[:8])}{' ...' * (len(fields) > 8)}"
            remedy = f"did you mean {close[0]}?" if close else few
            raise ValueError(f"there is no field {name}: {cls.REMEDIES.get(name, remedy)}")
        return given


class Accelerator(Table):
    """The cards of the cluster, and the pods that have one."""

    resource: ResourceName
    """Its name in Kubernetes: nvidia.com/gpu, huawei.com/Ascend910, huawei.com/Ascend310P."""
    device: Literal["", "cuda", "npu"] = ""
    """What it stands for in --device; empty: as the name of the resource says."""
    node_selector: Mapping[LabelKey, Label] = {}
    """Labels of the nodes that have it."""
    tolerations: tuple["Toleration", ...] = ()
    """Taints of those nodes."""

    @model_validator(mode="after")
    def _stands_for_a_device(self) -> Self:
        named = DEVICES.get(self.resource.partition("/")[0])
        if not (self.device or named):
            raise ValueError(f"device is missing: {self.resource} stands for cuda or npu")
        if self.device and named and self.device != named:
            raise ValueError(f"device is {self.device}, but {self.resource} is {named}")
        return self


class Toleration(Table):
    """A taint that pods bear."""

    key: LabelKey
    operator: Literal["Exists", "Equal"] = "Exists"
    value: Label = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """Empty: every effect."""

    @model_validator(mode="after")
    def _has_a_value_where_one_is_compared(self) -> Self:
        if self.value and self.operator == "Exists":
            raise ValueError("operator Exists compares no value: leave it out, or say Equal")
        return self


class RawData(Table):
    """A volume that holds raw images, for the steps that read them."""

    claim: ClaimName
    """Name of its PersistentVolumeClaim."""
    path: Folder = "/data"
    """Where pods see it."""
    subpath: Subpath = ""
    """Folder of the volume that they see there; empty: all of it."""
    REMEDIES: ClassVar[dict[str, str]] = {
        "read_only": "KFP mounts no claim read-only; leave it out, and give the claim itself the "
        "access mode ReadOnlyMany"
    }


class Workspace(Table):
    """A folder that all pods of a run share: of a claim that is there, or of one that KFP makes for
    the run and deletes after it."""

    claim: ClaimName | Literal[""] = ""
    """Name of a PersistentVolumeClaim; empty: KFP's own workspace."""
    path: Folder = "/workspace"
    """Where pods see the claim."""
    subpath: Subpath = ""
    """Folder of the claim that they see there; empty: all of it."""
    size: ClaimSize | Literal[""] = ""
    """Of KFP's own workspace, such as 200Gi."""
    storage_class: Name | Literal[""] = ""
    """Of KFP's own workspace; empty: the cluster's default."""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    """Of KFP's own workspace. ReadWriteOnce: pods on one node at a time."""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if bool(self.claim) == bool(self.size):
            raise ValueError("give claim, or size for a workspace of KFP's own")
        of_other = {"path", "subpath"} if self.size else {"storage_class", "access_mode"}
        if wrong := sorted(of_other & self.model_fields_set):
            raise ValueError(f"{wrong[0]} has no meaning with {'size' if self.size else 'claim'}")
        return self


class StepNeeds(Table):
    """What the pod of a step asks for; what is not said is the cluster's default."""

    accelerators: Whole | None = Field(None, ge=0, le=64)
    """Cards. Not said: as many as --devices of a step that trains, one for cluster and benchmark,
    none for the others."""
    cpu_request: Cores = ""
    """Cores that the node keeps for it, such as 4, 0.5 or 500m."""
    cpu_limit: Cores = ""
    """Cores that it may use."""
    memory_request: Amount = ""
    """Memory that the node keeps for it, such as 16Gi."""
    memory_limit: Amount = ""
    """Memory above which it is killed."""
    shm: Amount = ""
    """Size of /dev/shm, which counts as memory; loaders with workers need it."""
    timeout_min: Whole = Field(0, ge=0, le=525_600)
    """Minutes after which an attempt is killed; 0: never."""
    retries: Whole = Field(0, ge=0, le=10)
    """Further attempts of a step that failed, or whose pod was evicted."""
    backoff_s: Whole = Field(60, ge=0, le=86_400)
    """Seconds before the first of them."""
    backoff_factor: Whole = Field(2, ge=1, le=10)
    """What these seconds are multiplied by each time."""

    @model_validator(mode="after")
    def _asks_for_no_more_than_it_may_have(self) -> Self:
        for kind, amount in (("cpu", cores_of), ("memory", bytes_of)):
            request, limit = getattr(self, f"{kind}_request"), getattr(self, f"{kind}_limit")
            if request and limit and amount(request) > amount(limit):
                raise ValueError(f"{kind}_request {request} is more than {kind}_limit {limit}")
        if self.shm and self.memory_limit and bytes_of(self.shm) > bytes_of(self.memory_limit):
            raise ValueError(
                f"shm {self.shm} is more than memory_limit {self.memory_limit}, as a part of which "
                "it counts"
            )
        return self


class Security(Table):
    """Who the container is; what is not said, the image and the cluster decide."""

    run_as_user: Whole | None = Field(None, ge=0, lt=2**31)
    run_as_group: Whole | None = Field(None, ge=0, lt=2**31)
    run_as_non_root: YesNo | None = None

    @model_validator(mode="after")
    def _is_not_root_and_not(self) -> Self:
        if self.run_as_non_root and self.run_as_user == 0:
            raise ValueError("run_as_user is 0, which is root, but run_as_non_root is true")
        return self


class Launcher(Table):
    """What starts a training on several nodes."""

    kind: Literal["none", "trainjob", "ascendjob"] = "none"
    """trainjob: of Kubeflow Trainer. ascendjob: of MindCluster."""
    runtime: Name | Literal[""] = ""
    """The ClusterTrainingRuntime of a TrainJob."""
    queue: Name | Literal[""] = ""
    """Kueue's LocalQueue of a TrainJob, Volcano's queue of an AscendJob."""
    priority: Name | Literal[""] = ""
    """Kueue's WorkloadPriorityClass of a TrainJob, PriorityClass of an AscendJob's pods."""
    labels: Mapping[LabelKey, Label] = {}
    """More labels of the job."""

    @model_validator(mode="after")
    def _has_the_runtime_of_its_kind(self) -> Self:
        if self.kind == "trainjob" and not self.runtime:
            raise ValueError("runtime is missing: name the ClusterTrainingRuntime of a TrainJob")
        if self.kind != "trainjob" and self.runtime:
            raise ValueError(f"runtime is of a trainjob, but kind is {self.kind}: leave one out")
        return self


class Cluster(Table):
    """A cluster as the graph sees it; without a file, one of which nothing is known."""

    # Images.
    images: Mapping[ComponentName, ImageName] = {}
    """Image of every component, such as train: registry.example/pix2pixhd-train:cuda-1a2b3c;
    --images lies over it."""
    pull_policy: Literal["", "IfNotPresent", "Always", "Never"] = ""
    """When a node pulls them; empty: Always for the tag latest, else IfNotPresent."""
    pull_secrets: tuple[Name, ...] = ()
    """Kubernetes secrets by which it logs in at their registry."""

    # Where pods run, and as whom.
    namespace: Name | Literal[""] = ""
    """Namespace of the runs, on a server for several users."""
    service_account: Name | Literal[""] = ""
    """Service account of a run's pods; empty: the server's default."""
    security: Security = Security()
    node_selector: Mapping[LabelKey, Label] = {}
    """Labels of the nodes of all pods."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that all pods bear."""
    labels: Mapping[LabelKey, Label] = {}
    """Labels of all pods."""
    annotations: Mapping[LabelKey, Text] = {}
    """Annotations of all pods, such as sidecar.istio.io/inject: "false"."""

    # What they have.
    accelerator: Accelerator | None = None
    defaults: StepNeeds = StepNeeds()
    """What every step asks for."""
    steps: Mapping[StepName, StepNeeds] = {}
    """What a step asks for instead."""
    raw_data: RawData | None = None
    workspace: Workspace | None = None
    launcher: Launcher = Launcher()

    # Their environment.
    mlflow_uri: ServerUrl = ""
    """MLflow server of the runs."""
    secrets: Mapping[Name, Mapping[ConfigKey, SecretVariable]] = {}
    """Kubernetes secrets: of each the keys, and the environment variables that hold them."""
    config_maps: Mapping[Name, Mapping[ConfigKey, PlainVariable]] = {}
    """Config maps alike."""
    environment: Mapping[PlainVariable, Text] = {}
    """Environment variables that are no secrets."""

    def needs(self, step: str) -> StepNeeds:
        """What the pod of a step asks for, over the default of all."""
        own = self.steps.get(step, StepNeeds())
        said = {name: getattr(own, name) for name in own.model_fields_set}
        return self.defaults.model_copy(update=said)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        # Steps, with what they take over from the defaults.
        for step in self.steps:
            try:
                StepNeeds.model_validate(self.needs(step).model_dump(exclude_unset=True))
            except ValueError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"steps.{step} over defaults: {reason}") from None
            cards = self.needs(step).accelerators
            if cards and step in WITHOUT_CARDS:
                raise ValueError(f"steps.{step}.accelerators is {cards}, but it computes on none")
            if cards and not self.accelerator:
                raise ValueError(
                    f"steps.{step}.accelerators is {cards}, but accelerator is missing"
                )
        if self.defaults.accelerators is not None:
            raise ValueError("defaults.accelerators is of some steps only: write it under steps")

        # Volumes.
        if self.raw_data and self.workspace and self.workspace.claim:
            if self.raw_data.claim == self.workspace.claim:
                raise ValueError(
                    f"the claim {self.workspace.claim} is both raw_data and workspace, but KFP "
                    "mounts one once: leave out raw_data, and say --raw-data below workspace.path"
                )
            raw, work = self.raw_data.path, self.workspace.path
            if f"{raw}/".startswith(f"{work}/") or f"{work}/".startswith(f"{raw}/"):
                raise ValueError(f"raw_data.path {raw} and workspace.path {work} overlap")
        if self.launcher.kind != "none" and not self.workspace:
            raise ValueError(f"launcher.kind {self.launcher.kind} needs a workspace for its pods")
        if self.launcher.kind != "none" and self.workspace.access_mode == "ReadWriteOnce":
            raise ValueError("launcher: several nodes need workspace.access_mode ReadWriteMany")
        if self.launcher.kind == "ascendjob" and self.device != "npu":
            raise ValueError("launcher.kind ascendjob needs an accelerator that is an npu")

        # Variables.
        names = ["MLFLOW_TRACKING_URI"] * bool(self.mlflow_uri) + [*self.environment]
        names += [name for keys in self.secrets.values() for name in keys.values()]
        names += [name for keys in self.config_maps.values() for name in keys.values()]
        if twice := sorted(name for name in set(names) if names.count(name) > 1):
            raise ValueError(f"the environment variable {twice[0]} is given twice")
        return self

    @property
    def device(self) -> str:
        """What the accelerator stands for: cuda or npu, '' without one."""
        if self.accelerator is None:
            return ""
        return self.accelerator.device or DEVICES[self.accelerator.resource.partition("/")[0]]

    def needs_here(self) -> dict[str, dict[str, Any]]:
        """What of its steps' needs has a meaning on this machine, where it says something."""
        kept = {"shm", "retries", "backoff_s", "backoff_factor"}
        said = {
            step: self.needs(step).model_dump(include=kept, exclude_defaults=True)
            for step in get_args(StepName)
        }
        return {step: needs for step, needs in said.items() if needs}

    def here(self) -> Self:
        """What of it has a meaning on this machine: images, shared memory, and retries."""
        return type(self)(images=self.images, steps=self.needs_here())


ANY = Cluster()

"""The launcher as KFP calls it in its pod. It loads no torch: its image has none."""

from pathlib import Path

from kfp import dsl

from components.train.component import train_on_nodes
from shared.code_version import code_version

# Networks of four channels, as those of tests/tiny.py.
CONFIG = dict(ngf=4, n_downsample_global=2, n_blocks_global=1, ndf=4, n_layers_D=2)
CONFIG |= dict(workers=0, epochs=1, epochs_decay=0, nodes=2, devices=4, device="cpu")

# What two clusters' files give the job.
CONTAINER = {
    "image": "registry.example/pix2pixhd-train@sha256:" + "0" * 64,
    "env": [
        {"name": "A", "value": "1"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "mlflow", "key": "token"}}},
    ],
    "securityContext": {"runAsUser": 1000.0},  # as KFP hands over numbers
    "volumeMounts": [
        {"name": "workspace", "mountPath": "/workspace"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ],
}
POD = {
    "volumes": [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": "team-disk"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
    ],
    "nodeSelector": {"accelerator": "huawei-Ascend910"},
    "tolerations": [{"key": "huawei.com/Ascend910", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "registry"}],
}
CARDS = {"cpu": "16", "memory": "64Gi", "huawei.com/Ascend910": "8"}
TRAINJOB = {
    "kind": "trainjob",
    "runtime": "torch-distributed",
    "labels": {"kueue.x-k8s.io/queue-name": "night"},
    "pod": POD,
    "container": CONTAINER | {"resources": {"requests": CARDS, "limits": CARDS}},
    "timeout_min": 600,
}
ASCENDJOB = {
    "kind": "ascendjob",
    "queue": "night",
    "priority": "high",
    "labels": {"ring-controller.atlas": "ascend-910b"},
    "pod_labels": {"ring-controller.atlas": "ascend-910b"},
    "pod": POD,
    "container": CONTAINER | {"resources": {"requests": CARDS, "limits": CARDS}},
}
KINDS = {"trainjob": TRAINJOB, "ascendjob": ASCENDJOB}


def launch(dataset: Path, workspace: Path, template: dict, **given) -> dict[str, float]:
    """What the step does in its pod; its figures."""
    metrics = dsl.Metrics(uri=str(workspace.parent / "metrics"))
    train_on_nodes.python_func(
        dataset=dsl.Dataset(uri=str(dataset)),
        model=dsl.Model(uri=str(workspace.parent / "artifacts" / "model")),
        job=dsl.Artifact(uri=str(workspace.parent / "artifacts" / "job")),
        metrics=metrics,
        config=CONFIG,
        given=given,
        code_version=code_version("train"),
        files_version="",
        workspace=str(workspace),
        template=template,
    )
    return metrics.metadata

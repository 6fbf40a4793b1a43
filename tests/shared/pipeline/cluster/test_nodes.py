"""Steps on several nodes: the task that starts them, and what their job has."""

import warnings

import pytest

import pipeline
from components.train.nodes.jobs import Template, body_of
from shared.errors import InputError
from shared.pipeline.cluster.config import Cluster
from shared.pipeline.cluster.nodes import template_of
from shared.pipeline.graph import images_of
from shared.pipeline.recipes import read_recipe
from tests.fake_kubernetes import description_of

IMAGES = {
    "train": "registry.example/pix2pixhd-train:1a2b3c-npu",
    "train_on_nodes": "registry.example/pix2pixhd-train-on-nodes:1a2b3c-npu",
}
ASCEND = {
    "images": IMAGES,
    "pull_policy": "Always",
    "pull_secrets": ["registry"],
    "security": {"run_as_user": 1000, "run_as_non_root": True},
    "node_selector": {"zone": "a"},
    "labels": {"team": "vision"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "accelerator": {
        "resource": "huawei.com/Ascend910",
        "node_selector": {"accelerator": "huawei-Ascend910"},
        "tolerations": [{"key": "huawei.com/Ascend910"}],
    },
    "defaults": {"memory_limit": "8Gi"},
    "steps": {"train_global": {"shm": "16Gi", "memory_limit": "64Gi", "timeout_min": 600}},
    "workspace": {"claim": "team-disk", "subpath": "runs"},
    "launcher": {
        "kind": "ascendjob",
        "queue": "night",
        "priority": "high",
        "labels": {"ring-controller.atlas": "ascend-910b"},
    },
    "mlflow_uri": "http://mlflow:5000",
    "secrets": {"mlflow": {"password": "MLFLOW_TRACKING_PASSWORD"}},
    "environment": {"HCCL_CONNECT_TIMEOUT": "600"},
}
NVIDIA = ASCEND | {
    "accelerator": {"resource": "nvidia.com/gpu"},
    "workspace": {"size": "100Gi"},
    "launcher": {"kind": "trainjob", "runtime": "torch-distributed", "queue": "night"},
}
SITES = {"ascend": ASCEND, "nvidia": NVIDIA}


def recipe(*overrides: str):
    return read_recipe("demo", pipeline.CONFIGS, overrides, "")


def compiled(site: dict, *overrides: str):
    warnings.simplefilter("ignore")
    return pipeline.build("demo", recipe(*overrides), Cluster.model_validate(site))


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
def test_a_step_on_nodes_is_a_launcher_without_cards(site):
    graph = compiled(site, "train_global.nodes=2", "train_global.devices=8")
    assert images_of(graph)["train_global"] == IMAGES["train_on_nodes"]
    spec = graph.pipeline_spec
    executor = spec.deployment_spec["executors"]["exec-train-global"]["container"]
    assert "accelerator" not in executor["resources"]
    given = spec.root.dag.tasks["train-global"].inputs.parameters["template"]
    template = dict(given.runtime_value.constant.struct_value)
    assert template["container"]["image"] == IMAGES["train"]
    (card,) = [name for name in template["container"]["resources"]["limits"] if "/" in name]
    assert template["container"]["resources"]["requests"][card] == "8"


def test_one_node_is_the_step_itself():
    graph = compiled(NVIDIA)
    assert images_of(graph)["train_global"] == IMAGES["train"]
    assert "template" not in graph.pipeline_spec.root.dag.tasks["train-global"].inputs.parameters


@pytest.mark.parametrize("name", SITES)
def test_the_job_of_a_site_is_one_by_its_description(name):
    _, site = pipeline.with_cards(
        recipe("train_global.nodes=2", "train_global.devices=4"),
        Cluster.model_validate(SITES[name]),
    )
    template = Template.model_validate(template_of(site, "train_global"))
    claim = template.pod["volumes"][0]["persistentVolumeClaim"]
    assert claim == ({"claimName": "team-disk"} if name == "ascend" else {})  # KFP's of each run
    claim["claimName"] = "found-by-the-launcher"
    body = body_of(template, "job", "train-global", 2, 4, ["python", "-m", "components.train"])
    assert list(description_of(f"{template.kind}s").iter_errors(body)) == []
    assert "password" in str(body) and body["metadata"]["labels"]

    # What place() asks KFP for is what the nodes have.
    container, pod = template.container, template.pod
    assert {one["name"] for one in container["env"]} >= {
        *("MLFLOW_TRACKING_URI", "HCCL_CONNECT_TIMEOUT", "MLFLOW_TRACKING_PASSWORD")
    }
    assert container["securityContext"] == {"runAsUser": 1000, "runAsNonRoot": True}
    assert container["resources"]["limits"]["memory"] == "64Gi"
    assert pod["volumes"][1]["emptyDir"]["sizeLimit"] == "16Gi" and template.timeout_min == 600
    if name == "ascend":
        assert pod["nodeSelector"] == {"zone": "a", "accelerator": "huawei-Ascend910"}
        assert pod["tolerations"] == [{"key": "huawei.com/Ascend910", "operator": "Exists"}]
        assert container["volumeMounts"][0]["subPath"] == "runs"
        operators = f"{container['volumeMounts'][0]['mountPath']}/pix2pix-pipeline/npu-operators"
        assert {"name": "ACL_OP_COMPILER_CACHE_DIR", "value": operators} in container["env"]
        assert template.pod_labels["ring-controller.atlas"] == "ascend-910b"
    else:
        assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"launcher": {"kind": "none"}}, "but no cluster is named that starts nodes"),
        ({"images": {}}, "but no image of train is named"),
    ],
)
def test_nodes_that_nothing_starts_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        compiled(NVIDIA | changes, "train_global.nodes=2")

"""What each step asks for on each example cluster, read from the compiled YAML:

    python -m tests.shared.pipeline.cluster.golden        writes the files of golden/ anew

A step that asks for the same in several recipes stands once, with their names."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import pipeline
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.graph import write_yaml
from shared.pipeline.recipes import read_recipe
from shared.recipes.files import built_in
from tests.places import ROOT

CLUSTERS = ("nvidia", "ascend910b", "ascend310p")
RESOURCES = {"resourceCpuRequest": "cpu_request", "resourceCpuLimit": "cpu_limit"}
RESOURCES |= {"resourceMemoryRequest": "memory_request", "resourceMemoryLimit": "memory_limit"}


def golden_file(cluster: str) -> Path:
    return Path(__file__).with_name("golden") / f"{cluster}.yaml"


@cache
def compiled(recipe: str, cluster: str) -> str:
    """The YAML of a recipe on an example cluster."""
    site = read_cluster(ROOT / "docker" / "kubernetes" / f"{cluster}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        graph = pipeline.build(recipe, read_recipe(recipe, pipeline.CONFIGS), site)
        write_yaml(graph, file := Path(folder) / "p.yaml", "")
        return file.read_text()


def asked(text: str) -> dict[str, dict[str, Any]]:
    """What every step of a compiled YAML asks for."""
    spec, platform = yaml.load_all(text, yaml.CSafeLoader)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found = {}
    for name, task in spec["root"]["dag"]["tasks"].items():
        container = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        of_pod = executors.get(f"exec-{name}", {})
        found[task["taskInfo"]["name"]] = _of_step(task, container, of_pod)
    return found


def _of_step(task: dict, container: dict, pod: dict) -> dict[str, Any]:
    resources = container.get("resources", {})
    said: dict[str, Any] = {ours: resources.get(name) for name, ours in RESOURCES.items()}
    if cards := resources.get("accelerator"):
        said["cards"] = f"{cards['resourceCount']} {cards['resourceType']}"
    config = task["inputs"]["parameters"]["config"]["runtimeValue"]["constant"]
    said["device"] = config.get("device")

    # Volumes.
    volumes = []
    for mount in pod.get("pvcMount", ()):
        below = f"/{mount['subPath']}" if "subPath" in mount else ""
        volumes.append(f"{mount['constant']}{below} at {mount['mountPath']}")
    for mount in pod.get("emptyDirMounts", ()):
        volumes.append(f"{mount['medium']} of {mount['sizeLimit']} at {mount['mountPath']}")
    said["volumes"] = volumes

    # Environment, and of secrets where it comes from.
    said["env"] = {one["name"]: one["value"] for one in container.get("env", ())}
    for kind, name, key in (
        ("secretAsEnv", "secretName", "secretKey"),
        ("configMapAsEnv", "configMapName", "configMapKey"),
    ):
        for source in pod.get(kind, ()):
            for one in source["keyToEnv"]:
                said["env"][one["envVar"]] = f"{key} {one[key]} of {source[name]}"

    # Where, and how often.
    said["nodes"] = pod.get("nodeSelector", {}).get("labels")
    said["tolerations"] = [" ".join(one.values()) for one in pod.get("tolerations", ())]
    said["security"] = pod.get("securityContext")
    said["annotations"] = pod.get("podMetadata", {}).get("annotations")
    said["timeout_s"] = pod.get("activeDeadlineSeconds")
    if retry := task.get("retryPolicy"):
        first, factor = retry["backoffDuration"], retry["backoffFactor"]
        said["retries"] = f"{retry['maxRetryCount']}, after {first}, then {factor:g} times as long"
        said["retries_end"] = retry["backoffMaxDuration"]
    return {name: value for name, value in said.items() if value}


def table(cluster: str) -> str:
    """The golden file of a cluster as it is now."""
    lines: dict[str, list[tuple[dict, list[str]]]] = {}
    for recipe in built_in():
        for step, said in asked(compiled(recipe, cluster)).items():
            alike = lines.setdefault(step, [])
            known = next((recipes for other, recipes in alike if other == said), None)
            if known is None:
                alike.append((said, [recipe]))
            else:
                known.append(recipe)
    steps = {
        step: [{"recipes": ", ".join(recipes), **said} for said, recipes in alike]
        for step, alike in sorted(lines.items())
    }
    return yaml.safe_dump(steps, sort_keys=False, width=100)


if __name__ == "__main__":
    for cluster in CLUSTERS:
        golden_file(cluster).write_text(table(cluster))
        print(f"wrote {golden_file(cluster)}")

"""KFP's cache: which tasks of a pipeline take their outputs from an earlier run.

Written after what the driver of KFP 2.17 does (backend/src/v2/cacheutils/cache.go and
driver/cache.go): the key of a task has its input parameters, the ids of its input artifacts, names
and types of its outputs, image, command and arguments, and is looked up within one pipeline name.
The id of an artifact is new for every task that runs, and that of the earlier one for a task that
does not.
"""

import hashlib
import itertools
import json
from typing import Any

# What a server takes as a parameter (backend/src/apiserver/template/v2_template.go).
TYPES = {
    "NUMBER_INTEGER": ("double or integer", int | float),
    "STRING": ("string", str),
    "STRUCT": ("struct", dict),
}


class Cache:
    """`execute` runs pipelines, without running anything. `outputs` has the values that tasks which
    run return, by task and parameter: what lies outside of the cluster, such as raw data."""

    def __init__(self):
        self.outputs: dict[tuple[str, str], Any] = {}
        self._known: dict[str, dict] = {}
        self._ids = itertools.count(1)

    def execute(self, spec: dict, given: dict[str, Any]) -> dict[str, str]:
        """State of every task by its name, SUCCEEDED or CACHED.

        Args:
            spec: Compiled pipeline.
            given: Parameters of the run, which lie over the pipeline's defaults.
        """
        definitions = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        defaults = {name: one.get("defaultValue") for name, one in definitions.items()}
        if unknown := given.keys() - defaults.keys():
            raise AssertionError(f"the pipeline has no parameters {unknown}")
        for name in given:
            words, kinds = TYPES[definitions[name]["parameterType"]]
            if not isinstance(given[name], kinds) or isinstance(given[name], bool):
                raise AssertionError(f"input parameter {name} requires type {words}")
        states, outputs = {}, {}
        for name, task in _in_order(spec["root"]["dag"]["tasks"]):
            key = self._key(spec, task, defaults | given, outputs)
            is_cached = task.get("cachingOptions", {}).get("enableCache", False)
            if is_cached and key in self._known:
                states[name], outputs[name] = "CACHED", self._known[key]
                continue
            component = spec["components"][task["componentRef"]["name"]]
            states[name], outputs[name] = "SUCCEEDED", self._run(name, component)
            if is_cached:
                self._known[key] = outputs[name]
        return states

    def _run(self, name: str, component: dict) -> dict:
        made = component.get("outputDefinitions", {})
        return {one: next(self._ids) for one in made.get("artifacts", {})} | {
            one: self.outputs.get((name, one), "") for one in made.get("parameters", {})
        }

    def _key(self, spec: dict, task: dict, parameters: dict, outputs: dict[str, dict]) -> str:
        component = spec["components"][task["componentRef"]["name"]]
        executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        inputs = task.get("inputs", {})
        names = {
            name: outputs[one["taskOutputArtifact"]["producerTask"]][
                one["taskOutputArtifact"]["outputArtifactKey"]
            ]
            for name, one in inputs.get("artifacts", {}).items()
        }
        values = {
            name: _value(one, parameters, outputs)
            for name, one in inputs.get("parameters", {}).items()
        }
        key = dict(
            pipeline=spec["pipelineInfo"]["name"],
            inputs=[names, values],
            outputs=component.get("outputDefinitions"),
            container=[executor.get(part) for part in ("image", "command", "args")],
        )
        # In protobuf's structures every number is a double: 1 is 1.0.
        alike = json.loads(json.dumps(key), parse_int=float)
        return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()


def recipe_in(spec: dict) -> dict[str, dict[str, Any]]:
    """The recipe's numbers that are compiled into a pipeline, by step."""
    tasks = spec["root"]["dag"]["tasks"]
    return {
        task["taskInfo"]["name"]: task["inputs"]["parameters"]["config"]["runtimeValue"]["constant"]
        for name, task in tasks.items()
        if name != "fingerprint"
    }


def _value(one: dict, parameters: dict, outputs: dict[str, dict]) -> Any:
    """What an input parameter of a task is."""
    match one:
        case {"runtimeValue": {"constant": value}}:
            return value
        case {"componentInputParameter": name}:
            return parameters[name]
        case {"taskOutputParameter": {"producerTask": task, "outputParameterKey": name}}:
            return outputs[task][name]
    raise AssertionError(f"an input of a kind that this cache does not know: {one}")


def _in_order(tasks: dict[str, dict]):
    """The tasks by name, each after those that it depends on."""
    waiting, done = dict(tasks), set()
    while waiting:
        name = next(
            name for name in waiting if done.issuperset(waiting[name].get("dependentTasks", []))
        )
        yield name, waiting.pop(name)
        done.add(name)

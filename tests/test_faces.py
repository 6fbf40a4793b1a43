"""Command line, config and KFP face are one thing."""

import importlib
import inspect

import pytest

from shared.flags import as_flag, groups_of, help_texts, read_flags
from tests.places import STEPS, config_of


@pytest.mark.parametrize("step", STEPS)
def test_command_line_config_and_kfp_face_are_one(step):
    def of_step(file: str, name: str):
        return getattr(importlib.import_module(f"components.{step}.{file}"), name)

    config, run = config_of(step), of_step("run", "run")
    command, face = of_step("__main__", step), of_step("component", step)

    # The folders of the three, and which may be left out; only the page of KFP's own UI is more.
    folders = dict(inspect.signature(run).parameters)
    del folders["config"]
    spec = face.component_spec
    ours = {*folders, "config", "given", "workspace"}
    ours |= {"metrics", "code_version", "files_version"}
    assert {*spec.inputs, *spec.outputs} - {"page"} == ours
    assert spec.inputs["config"].type == "Dict"
    for name, parameter in folders.items():
        assert f"\n        {name}: " in command.__doc__, f"{step}.{name} has no help text"
        if name in spec.inputs:
            is_optional = parameter.default is None
            assert spec.inputs[name].optional == is_optional, name
            assert (inspect.signature(command).parameters[name].default is None) == is_optional

    # The flags of the config.
    folder_flags = [word for name in folders for word in (as_flag(name), "x")]
    flags = read_flags(command, f"python -m components.{step}", folder_flags)
    for name, field in config.model_fields.items():
        assert flags[name] == field.default, name
    for group, names in groups_of(config).items():
        assert help_texts(group).keys() >= set(names), f"{step} has a field without help text"

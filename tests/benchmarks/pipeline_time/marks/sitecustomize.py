"""Python loads this first where it is on PYTHONPATH: where the time of a pipeline and of its steps
goes, from outside of the code that takes it.

MARKS: file for a line per mark: {"pid", "mark", "wall_s", "cpu_s", "children_s"}, whose clock is
the machine's, and the same for all processes."""

import contextlib
import functools
import importlib.abc
import importlib.machinery
import json
import os
import sys
import time

# What is marked: the functions of these modules, by what stands before "begins" and "ends".
WATCHED = {
    "shared.command": {"execute": "step"},
    "shared.pipeline.processes": {"run_step": "process"},
}


def mark(text: str) -> None:
    times = os.times()
    cpu, children = times.user + times.system, times.children_user + times.children_system
    line = dict(pid=os.getpid(), mark=text, wall_s=time.monotonic(), cpu_s=cpu, children_s=children)
    os.write(LOG, json.dumps(line).encode() + b"\n")


def name_of(command: list[str]) -> str:
    """The step that a process does, by the folder of its code; of another the last word."""
    places = [word for word in command if word.endswith("/component.py")] or command
    return places[-1].removesuffix("/component.py").rpartition("/")[2]


def marked(function, name: str):
    """The function with a mark before and after; of a step also around its work, which is the
    first argument."""

    @functools.wraps(function)
    def call(*arguments, **options):
        if name == "step":
            arguments = (marked(arguments[0], "work"), *arguments[1:])
        elif name == "process":
            mark(f"of {name_of(arguments[0])}")
        mark(f"{name} begins")
        try:
            return function(*arguments, **options)
        finally:
            mark(f"{name} ends")

    return call


class Loader(importlib.abc.Loader):
    """Of a module whose functions are marked once it is loaded."""

    def __init__(self, loader: importlib.abc.Loader, names: dict[str, str]):
        self.loader, self.names = loader, names

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module) -> None:
        self.loader.exec_module(module)
        for function, name in self.names.items():
            setattr(module, function, marked(getattr(module, function), name))


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.loader = Loader(spec.loader, WATCHED[name])
        return spec


if "MARKS" in os.environ:
    with contextlib.suppress(OSError):
        LOG = os.open(os.environ["MARKS"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        mark("begins")
        sys.meta_path.insert(0, Finder())

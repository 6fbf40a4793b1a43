"""Which names the real torch_npu has: read off the sources of its wheel, which is not imported, as
that needs CANN."""

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

PACKAGE = "torch_npu"


@dataclass(frozen=True)
class Bound:
    """What a name stands for: a definition and the module it is in, or something outside of the
    wheel."""

    node: ast.AST | None
    module: Path | None


OUTSIDE = Bound(None, None)


@dataclass(frozen=True)
class Wheel:
    """An unzipped wheel of torch_npu."""

    root: Path

    def has(self, dotted: str) -> bool:
        """Whether there is a name such as torch_npu.npu.amp.GradScaler."""
        first, *names = dotted.split(".")
        assert first == PACKAGE
        folder, bound = self.root / PACKAGE, None
        while names:
            name = names.pop(0)
            if bound is None:
                bound = bound_in(self.root, module_of(folder), name)
                below = folder / name
                if bound is None and folder.is_dir() and module_of(below):
                    folder = below
                elif bound is None:
                    return folder == self.root / PACKAGE and is_operator(self.root, name)
                elif isinstance(bound.node, ast.ImportFrom | ast.Import):
                    folder, bound = below, None  # a module that its parent imports
            elif bound is OUTSIDE or not has_member(self.root, bound, name):
                return False
            else:
                bound = OUTSIDE  # attributes of attributes are not known
        return True


def module_of(path: Path) -> Path | None:
    """The file of a module or package."""
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


@cache
def body_of(file: Path) -> list[ast.stmt]:
    """The statements at the top of a module, also those under `if`, `try` and `with`."""
    found, open_ = [], ast.parse(file.read_text()).body
    while open_:
        node = open_.pop(0)
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            nested = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]
            nested += [one for part in getattr(node, "handlers", []) for one in part.body]
            open_ = nested + open_
    return found


def bound_in(root: Path, file: Path, name: str) -> Bound | None:
    """What a module binds to a name; None: nothing."""
    found = None
    for node in body_of(file):
        match node:
            case ast.FunctionDef() | ast.ClassDef() if node.name == name:
                found = Bound(node, file)
            case ast.Assign(targets=[ast.Name(id=target)]) if target == name:
                found = Bound(node.value, file)
            case ast.AnnAssign(target=ast.Name(id=target)) if target == name:
                found = Bound(node.value, file)
            case ast.Import(names=names):
                if any((one.asname or one.name.split(".")[0]) == name for one in names):
                    found = OUTSIDE
            case ast.ImportFrom(names=names):
                for one in names:
                    if one.name == "*" or (one.asname or one.name) == name:
                        wanted = name if one.name == "*" else one.name
                        found = imported(root, file, node, wanted, one.name == "*") or found
    return found


def imported(
    root: Path, file: Path, node: ast.ImportFrom, name: str, is_star: bool
) -> Bound | None:
    """What a `from ... import` binds; of one outside of the wheel anything that it names."""
    if node.level:
        source = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
    elif (node.module or "").split(".")[0] == PACKAGE:
        source = root.joinpath(*node.module.split("."))
    else:
        return None if is_star else OUTSIDE
    module = module_of(source)
    if module is None or module == file:
        return None
    if is_star and name not in public_names(module, name):
        return None
    if found := bound_in(root, module, name):
        return found
    return Bound(node, file) if module_of(source / name) else None


def public_names(module: Path, name: str) -> set[str]:
    """What `import *` takes: __all__, or what has no underscore."""
    for node in body_of(module):
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=parts)):
                return {part.value for part in parts}
    return set() if name.startswith("_") else {name}


def is_operator(root: Path, name: str) -> bool:
    """Whether torch_npu documents an operator of that name, which C++ registers."""
    return f'\n    "{name}",' in (root / PACKAGE / "_op_plugin_docs.py").read_text()


def has_member(root: Path, bound: Bound, name: str) -> bool:
    """Whether a class, or what a class at hand made, has an attribute: its own, one of its bases,
    torch's among them, or one that its
    __getattr__ or __setattr__ knows."""
    match bound.node:
        case ast.Call(func=ast.Name(id=made_by)):
            maker = bound_in(root, bound.module, made_by)
            return maker is not None and has_member(root, maker, name)
        case ast.Call(func=ast.Attribute(value=ast.Name(id=folder), attr=made_by)):
            module = module_of(bound.module.parent / folder)
            maker = bound_in(root, module, made_by) if module else None
            return maker is not None and has_member(root, maker, name)
        case ast.ClassDef(body=body, bases=bases):
            own = {node.name for node in body if isinstance(node, ast.FunctionDef)}
            own |= {
                one.id
                for node in body
                for one in ast.walk(node)
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
            }
            constants = {
                node.value for node in ast.walk(bound.node) if isinstance(node, ast.Constant)
            }
            if name in own or (own & {"__getattr__", "__setattr__"} and name in constants):
                return True
            return any(base_has(root, bound.module, base, name) for base in bases)
    return False


def base_has(root: Path, module: Path, base: ast.expr, name: str) -> bool:
    """Whether a base class has it."""
    text = ast.unparse(base)
    if found := bound_in(root, module, text):
        if found is not OUTSIDE:
            return has_member(root, found, name)
        for node in body_of(module):
            for one in getattr(node, "names", []) if isinstance(node, ast.ImportFrom) else []:
                if (one.asname or one.name) == text:
                    source = importlib.import_module(node.module)
                    return hasattr(getattr(source, one.name), name)
    target = torch
    for part in text.removeprefix("torch.").split("."):
        target = getattr(target, part, None)
    return hasattr(target, name)

"""Guards of the layout (DESIGN.md, 2), by what the files say: their imports, names and comments."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.places import ROOT, STEPS

PRODUCT = [
    ROOT / "pipeline.py",
    *sorted((ROOT / "shared").rglob("*.py")),
    *sorted((ROOT / "components").rglob("*.py")),
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FACE = {"__init__", "__main__", "checks", "component", "config", "run"}  # every step has it
FILES_OF_A_FOLDER = 12  # beside that
LONG_FUNCTION, UNCAPTIONED = 30, 25  # lines of code
ONE_SUBJECT = {  # though one step alone uses a part of it
    "shared.contracts": "what one step writes for the next, or for people",
    "shared.pipeline": "what runs the steps",
    "shared.machine.threads": "what `import shared` tells OpenMP, for every step",
    "shared.tracking": "all that knows MLflow",
    "shared.registry": "all that knows MLflow's registry",
    "shared.data.frames.pack": "writes what all read",
    "shared.data.frames.seal": "writes what all read",
    "shared.data.written.sum_line": "writes what all read",
    "shared.data.images.encode_ids": "writes what all read",
    "shared.data.images.write_ids": "writes what all read",
    "shared.data.headers": "knows the formats of files, as what reads them",
    "shared.data.formats": "knows the formats of files, as what reads them",
    "shared.data.images.highest_level": "knows the formats of files, as what reads them",
    "shared.data.images.read_colours": "label maps by their colours",
    "shared.workspace": "how outputs get to a workspace and are found there",
    "shared.files": "what is made sure of files before they are believed",
    "shared.data.names": "which files are images, and which are not read",
    "shared.data.labels": "what ids mean, from the file to the picture",
    "shared.condition.paint": "the way back of instance_mean",
    "shared.networks.checkpoint.TensorFile": "writes what all read",
    "shared.networks.checkpoint.save_tensors": "writes what all read",
    "shared.networks.checkpoint.save_weights": "writes what all read",
}


# Reading the files


def name_of(path: Path) -> str:
    """The dotted name of a file or folder of the tree."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


MODULES = {name_of(path): path for path in PRODUCT}


def imports(path: Path, tree: ast.AST | None = None) -> set[str]:
    """The modules that a file imports, at whatever depth: also in a function or for types alone."""
    found = set()
    for node in ast.walk(tree or tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found.add(inside if inside in MODULES else node.module)
    return found


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


# Who imports whom


def may_import(importer: str, name: str) -> bool:
    """Whether one module may import another of the tree, or kfp."""
    of_images = within(name, "shared") and not within(name, "shared.pipeline")
    match importer.split("."):
        case ["pipeline"]:
            faces = ("component", "config", "checks")
            named = within(name, *(f"components.{step}.{face}" for step in STEPS for face in faces))
            return named or within(name, "kfp", "shared")
        case ["shared", "pipeline", *_]:
            return within(name, "kfp", "shared")
        case ["shared", *_]:
            return of_images
        case ["components", step, "component"]:
            return within(name, "kfp", f"components.{step}", "shared.command")
        case ["components", step, *_]:
            own = within(name, f"components.{step}") and name != f"components.{step}.component"
            return own or of_images
        case ["components"]:
            return name == "shared"
        case _:
            return False


def test_imports_go_where_they_may():
    wrong = [
        f"{importer} imports {name}"
        for importer, path in MODULES.items()
        for name in sorted(imports(path))
        if within(name, "kfp", "components", "shared", "pipeline")
        if not may_import(importer, name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("step", STEPS)
def test_a_kfp_face_loads_kfp_alone(step):
    """What its body imports is of the step's image; the face itself is read by `pipeline.py`."""
    tree = tree_of(ROOT / "components" / step / "component.py")
    at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    loaded = imports(Path(), ast.Module(at_once, []))
    assert loaded <= {"os", "typing", "kfp", "kfp.dsl"}


def test_nothing_imports_in_a_circle():
    """At each level of the tree: the files and folders that stand in one folder, each with all that
    is below it."""
    for folder in {parent for path in PRODUCT for parent in path.relative_to(ROOT).parents}:
        level = len(folder.parts)
        arrows: dict[str, set[str]] = {}
        for path in PRODUCT:
            importer = path.relative_to(ROOT).parts
            if importer[:level] != folder.parts:
                continue
            for name in imports(path) & MODULES.keys():
                imported = MODULES[name].relative_to(ROOT).parts
                if imported[:level] == folder.parts and imported[level] != importer[level]:
                    arrows.setdefault(importer[level], set()).add(imported[level])
        assert circle(arrows) == [], f"in {folder}"


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Nodes that lead to each other and what stands between them, or none."""
    left = dict(arrows)
    while True:
        led_to = set().union(*left.values())
        free = [node for node in left if node not in led_to or not left[node] & left.keys()]
        if not free:
            return sorted(left)
        for node in free:
            del left[node]


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "d": {"a"}}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_helpers_of_tests_are_no_tests():
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in TESTS
        for name in sorted(imports(path))
        if within(name, "tests") and ".test_" in name
    ]
    assert not wrong, "\n".join(wrong)


# torch


def test_contracts_and_files_are_read_without_torch():
    """But for pairs as tensors. Where `--help` is tested it is tested to load none either."""
    modules = [name for name in MODULES if within(name, "shared.contracts", "shared.data")]
    modules.remove("shared.data.reader")
    heavy = "{'torch', 'onnxruntime'} & sys.modules.keys()"
    code = f"import sys, {', '.join(modules)}\nassert not (loaded := {heavy}), f'loads {{loaded}}'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_sends_telemetry_is_loaded_within_packages_that_switch_it_off():
    """`shared` does on import, and `components` and `tests` import it first."""
    senders = [
        name_of(path)
        for path in [*PRODUCT, *TESTS, *ROOT.glob("*.py")]
        if any(within(name, "onnxruntime", "mlflow") for name in imports(path))
    ]
    assert "shared.deployed.runners" in senders
    assert [name for name in senders if not within(name, "shared", "components", "tests")] == []


# One home


def numbers(node: ast.AST) -> tuple[int, ...]:
    """The numbers of a tuple of axes, or of the arguments of a call."""
    values = node.elts if isinstance(node, ast.Tuple | ast.List) else node.args
    return tuple(value.value for value in values if isinstance(value, ast.Constant))


def test_pictures_have_their_channels_last_in_one_file():
    wrong = [place for place in places(turns_a_picture) if "shared.data.images" not in place]
    assert not wrong, "\n".join(wrong)


def turns_a_picture(node: ast.AST) -> bool:
    """Whether axes are given as from (H, W, C) to (C, H, W) or back."""
    match node:
        case ast.Tuple() | ast.List() | ast.Call():
            return numbers(node) in {(1, 2, 0), (2, 0, 1), (0, 2, 3, 1), (0, 3, 1, 2)}
        case ast.Attribute(attr=name):
            return name in {"moveaxis", "rollaxis"}
        case _:
            return False


def test_signed_numbers_are_made_in_one_file():
    signs = lambda node: isinstance(node, ast.Constant) and node.value == 127.5  # noqa: E731
    wrong = [place for place in places(signs) if "shared.condition" not in place]
    assert not wrong, "\n".join(wrong)


def places(found: Callable[[ast.AST], bool]) -> list[str]:
    """Module and line of every node that is found."""
    return [
        f"{module}, line {node.lineno}"
        for module, path in MODULES.items()
        for node in ast.walk(tree_of(path))
        if found(node)
    ]


def test_what_is_shared_has_two_users():
    """Each name that a module of shared/ defines: two steps, or the pipeline, which is no step.

    A step uses what its files name, and what that is made of.
    """
    alone = [
        f"{module}.{name}: {', '.join(users) or 'nobody'}"
        for (module, name), users in users_of_names().items()
        if len(users) < 2 and users != {"pipeline"}
        if not name.startswith("_") and not within(f"{module}.{name}", *ONE_SUBJECT)
    ]
    assert not alone, "\n".join(alone)


def users_of_names() -> dict[tuple[str, str], set[str]]:
    """The steps that use a name of shared/, themselves or through other names of shared/."""
    made_of = {
        (module, name): {own for node in nodes for own in names_in(path, node)}
        for module, path in MODULES.items()
        if within(module, "shared")
        for name, nodes in definitions(tree_of(path)).items()
    }
    users: dict[tuple[str, str], set[str]] = {key: set() for key in made_of}
    for module, path in MODULES.items():
        if within(module, "pipeline", "shared.pipeline", *(f"components.{step}" for step in STEPS)):
            step = "pipeline" if "pipeline" in module.split(".") else module.split(".")[1]
            for key in names_in(path, tree_of(path)) & users.keys():
                add_user(key, step, made_of, users)
    return users


def add_user(key, step: str, made_of: dict, users: dict) -> None:
    if step not in users[key]:
        users[key].add(step)
        for part in made_of[key] & users.keys():
            add_user(part, step, made_of, users)


def definitions(tree: ast.Module) -> dict[str, list[ast.AST]]:
    """The functions, classes and constants of a module."""
    found: dict[str, list[ast.AST]] = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.setdefault(name, []).append(node)
            case ast.Assign(targets=targets):
                for target in targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            found.setdefault(name.id, []).append(node)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.setdefault(name, []).append(node)
    return found


def names_in(path: Path, node: ast.AST) -> set[tuple[str, str]]:
    """(module, name) of what a piece of a file names: its own, and what the file imports."""
    module, bound = name_of(path), {}
    for part in ast.walk(tree_of(path)):
        if isinstance(part, ast.ImportFrom):
            for alias in part.names:
                bound[alias.asname or alias.name] = (part.module, alias.name)
        elif isinstance(part, ast.Import):
            bound |= {alias.asname: (alias.name, "") for alias in part.names if alias.asname}
    found = set()
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name):
                found.add(bound.get(name, (module, name)))
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in bound:
                found.add((".".join(filter(None, bound[name])), attribute))
            case ast.Attribute() if re.fullmatch(r"[\w.]+", dotted := ast.unparse(part)):
                found.add(tuple(dotted.rsplit(".", 1)))
    return found


# Shape


def test_a_folder_has_few_files():
    folders: dict[Path, int] = {}
    for path in PRODUCT:
        folders[path.parent] = folders.get(path.parent, 0) + (path.stem not in FACE)
    crowded = {folder for folder, count in folders.items() if count > FILES_OF_A_FOLDER}
    assert crowded == set()


def test_no_file_has_the_name_of_a_package_that_is_imported():
    """But the folder of what measures with ais_bench: it is imported by its whole name alone."""
    imported = {name.partition(".")[0] for path in PRODUCT for name in imports(path)}
    vendors = imported - {"components", "shared", "pipeline"} - sys.stdlib_module_names
    assert {"onnx", "torch", "kfp"} <= vendors
    own = {part for name in MODULES for part in name.split(".")}
    assert own & vendors <= {"ais_bench"}


def test_long_functions_are_captioned():
    """In a function of many lines of code a comment of its own line comes every so often."""
    bare = []
    for module, path in MODULES.items():
        lines = path.read_text().split("\n")
        for function in ast.walk(tree_of(path)):
            if isinstance(function, ast.FunctionDef):
                runs = [len(run) for run in code_between_comments(function, lines)]
                if sum(runs) > LONG_FUNCTION and max(runs) > UNCAPTIONED:
                    bare.append(f"{module}.{function.name}: {max(runs)} of {sum(runs)} lines")
    assert not bare, "\n".join(bare)


def code_between_comments(function: ast.FunctionDef, lines: list[str]) -> Iterator[list[int]]:
    """The lines of code of a function's body, from each comment to the next."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    run: list[int] = []
    for number in range(body[0].lineno, function.end_lineno + 1) if body else ():
        text = lines[number - 1].strip()
        if text.startswith("#"):
            yield run
            run = []
        elif text:
            run.append(number)
    yield run

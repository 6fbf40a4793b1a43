"""Which code a step runs: what KFP's cache and the reuse of finished steps look at."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def code_version(component: str, root: Path = ROOT) -> str:
    """Short SHA-256 of the files that a component runs: its own, its requirements, and what is
    shared.

    The same in a checkout and in the component's image. Files alone count, whether committed or
    not; texts for people do not, nor `shared/pipeline`, which no step imports, nor recipes, whose
    numbers are the step's config.

    Args:
        component: Name of a folder of components/.
        root: Folder that holds components/ and shared/.
    """
    names = ["components/__init__.py"]
    for folder in (f"components/{component}", "shared"):
        names += [path.relative_to(root).as_posix() for path in (root / folder).rglob("*")]
    sha = hashlib.sha256()
    for name in sorted(filter(_runs, names)):
        if (root / name).is_file():
            content = hashlib.sha256((root / name).read_bytes()).hexdigest()
            sha.update(f"{name} {content}\n".encode())
    return sha.hexdigest()[:16]


def _runs(name: str) -> bool:
    """Whether a path is code or belongs to it: no text for people, nothing hidden or compiled."""
    parts = name.split("/")
    apart = parts[:2] == ["shared", "pipeline"] or "__pycache__" in parts
    apart |= parts[:2] == ["shared", "recipes"] and name.endswith(".yaml")
    hidden = any(part.startswith(".") for part in parts)
    return not (apart or hidden or name.endswith((".md", ".pyc", "~")))

"""Names that MLflow takes, made of any text: different texts get different names."""

import hashlib
import re
from pathlib import PurePosixPath

LONGEST_KEY = 250  # of metrics, parameters and tags in MLflow
LONGEST_FILE = 100  # leaves room in 255 bytes for what MLflow adds to the name of a picture


def legal_key(name: str) -> str:
    """A key of a metric, parameter or tag: letters of any alphabet, digits, `_ - . : /`, blanks."""
    return _legal(name, r"[^/\w.\- :]", LONGEST_KEY)


def legal_file(name: str) -> str:
    """A file name, or the key of a picture: URLs and servers take it as it is."""
    return _legal(name, r"[^A-Za-z0-9_\-. ]", LONGEST_FILE)


def legal_folder(path: str) -> str:
    """A folder of artifacts."""
    return "/".join(legal_file(part) for part in PurePosixPath(path).parts if part != "/")


def _legal(name: str, illegal: str, longest: int) -> str:
    """The name itself where it is legal; else what is left of it, and a few digits of its hash."""
    parts = [part for part in re.sub(illegal, "_", name).split("/") if part not in ("", ".", "..")]
    legal = re.sub(r"^\.\.", "_", "/".join(parts))  # MLflow refuses whatever starts with two dots
    if legal == name and len(legal.encode()) <= longest and legal:
        return legal
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    stem, dot, suffix = legal.rpartition(".")
    if not dot or len(suffix) > 8 or "/" in suffix:
        stem, suffix = legal, ""
    room = longest - len(f"-{digest}{dot}{suffix}".encode())
    while len(stem.encode()) > room:
        stem = stem[:-1]
    return f"{stem}-{digest}{dot if suffix else ''}{suffix}"

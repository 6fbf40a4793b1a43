"""--cluster FILE: read, checked, and refused in one sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.bounds import reason_of
from shared.errors import InputError
from shared.files.documents import read_document
from shared.pipeline.cluster.config import ANY, Cluster
from shared.pipeline.cluster.words import is_secret
from shared.secrets import VARIABLES

# Tables of names of variables: what stands there is not repeated, for it may be a password.
UNSPOKEN = ("secrets", "config_maps", "environment", "annotations")


def read_cluster(file: Path | None) -> Cluster:
    """The cluster of a file; without one, `ANY`. Raises InputError, with line or field."""
    if file is None:
        return ANY

    # What it says.
    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"--cluster {file} does not end in .yaml: name a cluster's YAML file.")
    try:
        said = read_document(file)
    except ValueError as error:
        raise InputError(f"--cluster {file} {_sentence(error)}.") from None
    except OSError as error:
        raise InputError(f"--cluster {file} cannot be read ({error.strerror}).") from None
    if said is None:
        raise InputError(
            f"--cluster {file} is empty: see the examples in docker/kubernetes, and write at least "
            "one field."
        )
    if not isinstance(said, dict):
        raise InputError(f"--cluster {file} is {_kind(said)}: write fields, such as mlflow_uri.")
    _refuse_secrets(file, said)

    # What it means.
    try:
        return Cluster.model_validate(said)
    except ValidationError as error:
        refusal = _refusal(error)
        end = "" if refusal.endswith("?") else "."
        raise InputError(f"--cluster {file}: {refusal}{end}") from None


def _sentence(error: ValueError) -> str:
    """What is wrong with the file as such, after its name."""
    reason = str(error)
    return f"({reason})" if reason.startswith("line ") else reason


def _refuse_secrets(file: Path, said: dict) -> None:
    """Raises InputError for a secret, wherever it stands, and does not repeat it."""
    for place, text in _texts(said, ()):
        names = [str(part) for part in place]
        is_named = names[0] == "environment" and VARIABLES.search(names[-1])
        is_loose = len(names) == 1 and VARIABLES.search(names[0])
        if is_secret(text) or is_named or is_loose:
            raise InputError(
                f"--cluster {file}: {'.'.join(names)} holds a secret, which all users of the "
                "server would see: put it into a Kubernetes secret, and name that under secrets, "
                "as in `mlflow: {password: MLFLOW_TRACKING_PASSWORD}`."
            )


def _texts(said: Any, place: tuple) -> Iterator[tuple[tuple, str]]:
    """All texts of a document, and where they stand."""
    if isinstance(said, dict):
        for name, value in said.items():
            yield from _texts(value, (*place, name))
    elif isinstance(said, list):
        for number, value in enumerate(said):
            yield from _texts(value, (*place, number))
    elif said is not None and place:
        yield place, str(said)


def _refusal(error: ValidationError) -> str:
    """Field, what was found, what to do."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"] if part != "[key]"]
    found = first["input"]
    if not place:  # of several fields together: it names them
        return reason_of(error)
    where = ".".join(place)
    match first["type"]:
        case "missing":
            return f"{where} is missing"
        case "string_type":
            return f"{where} is {_kind(found)}, but should be a text: write it in quotes"
        case "model_type" | "mapping_type" | "dict_type":
            return f"{where} is {_kind(found)}, but should be a table of fields"
        case "tuple_type":
            return f"{where} is {_kind(found)}, but should be a list"
    if place[0] not in UNSPOKEN and not isinstance(found, dict | list):
        where += f" {found!r}"
    reason = reason_of(error).replace("a valid integer", "a whole number")
    return f"{where}{'' if reason.startswith('is ') else ':'} {reason}"


def _kind(found: Any) -> str:
    match found:
        case dict():
            return "a table"
        case list():
            return "a list"
        case None:
            return "empty"
        case str():
            return "a text"
        case bool():
            return "yes or no"
        case int() | float():
            return "a number"
        case _:
            return "a date"

"""The words of a cluster's file: names as Kubernetes has them, amounts, folders, addresses."""

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from shared.secrets import VARIABLES, without_secrets

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "M": 10**6, "G": 10**9, "T": 10**12}
SMALLEST_BYTES = 2**20
MOST_BYTES = 2**50
MOST_CORES = 1024
# Folders of a container that a volume must not hide: the system's, ours, and where KFP mounts its.
TAKEN = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "usr")
TAKEN += ("app", "home/app", "gcs", "kfp", "kfp-launcher", "kfp-workspace", "minio", "s3", "tmp")
TAKEN += ("var/run", "usr/local/Ascend")


def _like(pattern: str, longest: int, wanted: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if len(text) > longest or not re.fullmatch(pattern, text):
            raise ValueError(f"should be {wanted}")
        return text

    return check


def _plain(value: object) -> object:
    """Numbers of YAML as texts, where a number is meant to be read as one."""
    return f"{value}" if isinstance(value, int | float) and not isinstance(value, bool) else value


# Numbers and amounts.


def bytes_of(amount: str) -> int:
    """The bytes of a checked amount of memory."""
    number, unit = re.fullmatch(r"(\d+)(\D+)", amount).groups()
    return int(number) * UNITS[unit]


def cores_of(cores: str) -> float:
    """The cores of a checked number of them."""
    return float(cores.removesuffix("m")) / (1000 if cores.endswith("m") else 1)


def _is_amount(text: str) -> str:
    if not re.fullmatch(rf"[1-9]\d{{0,8}}({'|'.join(UNITS)})", text):
        raise ValueError("should be a whole number and its unit, Mi, Gi or Ti, such as 16Gi")
    if not SMALLEST_BYTES <= bytes_of(text) <= MOST_BYTES:
        raise ValueError("should be from 1Mi to 1024Ti")
    return text


def _is_cores(text: str) -> str:
    is_number = re.fullmatch(r"\d{1,4}(\.\d{1,3})?|\d{1,7}m", text)
    if not is_number or not 0 < cores_of(text) <= MOST_CORES:
        raise ValueError(f"should be a number of cores to {MOST_CORES}, such as 4, 0.5 or 500m")
    return text


Whole = Annotated[int, Field(strict=True)]
YesNo = Annotated[bool, Field(strict=True)]
Amount = Annotated[str, BeforeValidator(_plain), AfterValidator(_is_amount)]
ClaimSize = Amount
Cores = Annotated[str, BeforeValidator(_plain), AfterValidator(_is_cores)]


# Names.

PART = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DOMAIN = rf"{PART}(\.{PART})*"
WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
VARIABLE = "a name of an environment variable, such as MLFLOW_TRACKING_PASSWORD"

Name = Annotated[
    str, AfterValidator(_like(DOMAIN, 253, "a name of small letters, digits, - and ."))
]
# KFP calls the pod's volume after it, and a volume's name has no dots.
ClaimName = Annotated[
    str, AfterValidator(_like(PART, 63, "a name of at most 63 small letters, digits and -"))
]
LabelKey = Annotated[
    str,
    AfterValidator(_like(rf"({DOMAIN}/)?{WORD}", 253, "a label's name, such as example.com/zone")),
]
Label = Annotated[
    str, AfterValidator(_like(rf"({WORD})?", 63, "at most 63 letters, digits, -, _ and ."))
]
ResourceName = Annotated[
    str,
    AfterValidator(_like(rf"{DOMAIN}/{WORD}", 253, "a resource's name, such as nvidia.com/gpu")),
]
ConfigKey = Annotated[
    str, AfterValidator(_like(r"[-._A-Za-z0-9]+", 253, "a key of letters, digits, -, _ and ."))
]
ImageName = Annotated[
    str,
    AfterValidator(
        _like(
            r"[a-z0-9][\w.-]*(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?",
            500,
            "an image, such as registry.example/pix2pixhd-train:cuda-1a2b3c",
        )
    ),
]


def _is_no_secret(name: str) -> str:
    _like(r"[A-Za-z_][A-Za-z0-9_]*", 200, VARIABLE)(name)
    return name


def _names_a_secret(name: str) -> str:
    """A password in the place of the variable's name would be seen by all: what holds a secret is
    called like one."""
    upper = re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", name)
    if len(name) > 200 or not upper or not ("_" in name or VARIABLES.search(name)):
        raise ValueError(f"should be {VARIABLE}, never the secret itself")
    return name


PlainVariable = Annotated[str, AfterValidator(_is_no_secret)]
SecretVariable = Annotated[str, AfterValidator(_names_a_secret)]


# Texts.


def _is_text(text: str) -> str:
    if len(text) > 4096 or not text.isprintable():
        raise ValueError("should be one line of at most 4096 characters")
    return text


def _is_folder(path: str) -> str:
    _is_text(path)
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or not all(parts[1:]) or {".", ".."} & {*parts} or ":" in path:
        raise ValueError("should be a folder from / on, such as /data")
    if any(f"{path}/".startswith(f"/{one}/") or one.startswith(f"{path[1:]}/") for one in TAKEN):
        raise ValueError("is a folder that the container needs itself: take another, such as /data")
    return path


def _is_subpath(path: str) -> str:
    parts = _is_text(path).split("/")
    if path and (not all(parts) or {".", ".."} & {*parts}):
        raise ValueError("should be a folder in the volume, such as datasets/city")
    return path


def _is_url(text: str) -> str:
    parts = urlsplit(_is_text(text))
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("should be the address of a server, such as http://mlflow.mlflow:5000")
    return text


Text = Annotated[str, AfterValidator(_is_text)]
Folder = Annotated[str, AfterValidator(_is_folder)]
Subpath = Annotated[str, AfterValidator(_is_subpath)]
ServerUrl = Annotated[str, AfterValidator(_is_url)]


def is_secret(text: str) -> bool:
    """Whether a text holds a password, a token or a signature."""
    return without_secrets(text) != text

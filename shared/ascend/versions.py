"""Which versions of torch, torch_npu, CANN and the driver go together, by the vendor's tables."""

import os
import re
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

Release = tuple[int, int]  # (9, 1) of CANN 9.1.0, (8, 3) of 8.3.RC1, (25, 0) of driver 25.0.rc1.1

# Version of torch_npu, whose number is that of its torch -> CANN that it was released for.
# Release notes of TorchNPU 26.2.0 and 26.0.0 (docs/zh/release_notes.md of Ascend/pytorch),
# COMPATIBILITY.en.md and docker/OVERVIEW.zh.md there, as of October 2026.
RELEASED_FOR = {
    "2.14.0": "9.2.0",
    "2.13.0": "9.2.0",
    "2.12.0.post3": "9.2.0",
    "2.12.0.post2": "9.1.0",
    "2.12.0": "9.1.0",
    "2.11.0.post3": "9.2.0",
    "2.11.0.post2": "9.1.0",
    "2.11.0": "9.1.0",
    "2.10.0.post7": "9.2.0",
    "2.10.0.post6": "9.1.0",
    "2.10.0.post4": "9.1.0",
    "2.10.0": "9.0.0",
    "2.9.0.post9": "9.2.0",
    "2.9.0.post8": "9.1.0",
    "2.9.0.post6": "9.1.0",
    "2.9.0.post2": "9.0.0",
    "2.9.0": "8.5.0",
    "2.8.0.post4": "9.0.0",
    "2.8.0.post2": "8.5.0",
    "2.8.0": "8.3.RC1",
    "2.7.1.post11": "9.2.0",
    "2.7.1.post10": "9.1.0",
    "2.7.1.post8": "9.1.0",
    "2.7.1.post4": "9.0.0",
    "2.7.1.post2": "8.5.0",
    "2.7.1": "8.3.RC1",
}

# What was released for CANN 8.5 or later works with 8.5 and all since (TorchNPU 26.2.0); what was
# before with 8.0 to 8.3 (release note of Ascend Extension for PyTorch 7.2.0).
OLDEST_OF_FIRST, NEWEST_OF_FIRST = (8, 0), (8, 3)
OLDEST_OF_SECOND = (8, 5)

# CANN -> oldest driver (Ascend HDK) that it works with: release notes of CANN 8.5.0 and 9.2.0.
OLDEST_DRIVER = {(8, 5): (25, 0), (9, 0): (25, 0), (9, 1): (25, 2), (9, 2): (25, 3)}

DRIVER = Path("/usr/local/Ascend/driver")  # where a container gets it from the machine, too


class Installed(NamedTuple):
    """Versions of what is on this machine; "" = not there, or it does not tell."""

    torch: str
    torch_npu: str
    cann: str
    driver: str

    @property
    def is_for_torch(self) -> bool:
        """Whether torch_npu is built for this torch; else it crashes."""
        return not self.torch_npu or numbers(self.torch_npu) == numbers(self.torch)

    @classmethod
    def here(cls, torch: str) -> "Installed":
        try:
            torch_npu = metadata.version("torch_npu")
        except metadata.PackageNotFoundError:
            torch_npu = ""
        return cls(torch, torch_npu, cann_version(), driver_version())


def mismatch(found: Installed) -> str:
    """What does not go together, as half a sentence and what to do; "" = nothing that is known."""
    if not found.is_for_torch:
        own, torch = numbers(found.torch_npu), numbers(found.torch)
        return (
            f"torch_npu {found.torch_npu} is for torch {own}, but torch is {found.torch}: "
            f"`pip install torch-npu=={torch}`, or torch {own}"
        )
    cann, released_for = release_of(found.cann), _released_for(found.torch_npu)
    if cann and released_for:
        is_first = release_of(released_for) < OLDEST_OF_SECOND
        oldest, newest = (
            (OLDEST_OF_FIRST, NEWEST_OF_FIRST) if is_first else (OLDEST_OF_SECOND, cann)
        )
        if not oldest <= cann <= newest:
            how = (
                f"older than {_shown(oldest)}" if cann < oldest else f"newer than {_shown(newest)}"
            )
            return (
                f"CANN {found.cann} is {how}, with which torch_npu {found.torch_npu} does not "
                f"work: install CANN {released_for}"
            )
    driver, oldest = release_of(found.driver), OLDEST_DRIVER.get(cann)
    if driver and oldest and driver < oldest:
        return (
            f"the driver {found.driver} is older than {_shown(oldest)}, with which CANN "
            f"{found.cann} does not work: install a newer driver on the machine, or an older CANN"
        )
    return ""


def release_of(version: str) -> Release | None:
    """The first two numbers of a version; None where it has none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def cann_version() -> str:
    """Version of the CANN whose set_env.sh was sourced, such as 9.1.0 or 8.3.RC1; "" without.

    A toolkit says `version=8.1.RC1` in x86_64-linux/ascend_toolkit_install.info (as torch_npu's
    collect_env reads it), `version_dir=8.1.RC1` in runtime/version.info."""
    home = os.environ.get("ASCEND_HOME_PATH", "")
    if not home:
        return ""
    files = [*Path(home).glob("ascend_*_install.info"), *Path(home).glob("*/ascend_*_install.info")]
    for file, key in (
        *((file, "version") for file in files),
        (Path(home, "runtime/version.info"), "version_dir"),
    ):
        if found := _value(file, key):
            return found
    return ""


def driver_version() -> str:
    """Version of the driver, such as 25.0.rc1.1, as its version.info says `Version=25.0.rc1.1`,
    and of 26 on `package_version=26.0.rc1`; "" without."""
    file = DRIVER / "version.info"
    return _value(file, "package_version") or _value(file, "Version")


def _value(file: Path, key: str) -> str:
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{key}=(\d\S*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _released_for(torch_npu: str) -> str:
    """CANN of a torch_npu, of an unknown build that of the last known one before it; "" of an
    unknown version."""
    known = {_build(one): one for one in RELEASED_FOR if numbers(one) == numbers(torch_npu)}
    before = [build for build in known if build <= _build(torch_npu)]
    return RELEASED_FOR[known[max(before)]] if before else ""


def _build(version: str) -> int:
    """2 of 2.12.0.post2, 0 of 2.12.0 and 2.12.0rc1."""
    found = re.search(r"post(\d+)", version)
    return int(found[1]) if found else 0


def numbers(version: str) -> str:
    """2.13.0 of 2.13.0+cpu, 2.13.0.post2 and 2.13.0rc1."""
    found = re.match(r"\d+\.\d+(\.\d+)?", version)
    return found[0] if found else version


def _shown(release: Release) -> str:
    return ".".join(map(str, release))

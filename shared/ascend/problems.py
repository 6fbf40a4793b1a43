"""Why there is no NPU to compute on here, as sentences that say what to do."""

import contextlib
import functools
import grp
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from shared.ascend import environment, versions
from shared.errors import InputError
from shared.terminal.device_errors import clause, reason_of

DEV = Path("/dev")
CONTROL = "davinci_manager"  # beside the cards, /dev/davinci0 and so on
CPU = "or use --device cpu"
SOURCE = (
    "run `source /usr/local/Ascend/ascend-toolkit/set_env.sh` (of CANN 9: "
    "/usr/local/Ascend/cann/set_env.sh)"
)
# What libtorch_npu.so is linked to, by who brings it (readelf of the wheel of 2.13.0).
OF_DRIVER = re.compile(r"lib(ascend_hal|drv\w*|dcmi|mmpa)\.so")
LACKS_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\d.]*): cannot open shared object file")


class Problem(NamedTuple):
    """Why torch computes on no NPU here."""

    sentence: str
    is_meant: bool = True  # somebody wants an NPU here: --device auto does not pass over it
    is_said: bool = True  # --device auto says it when it takes something else


def find_problem() -> Problem | None:
    """What keeps torch from an NPU of this machine; None: nothing, and `torch.npu` is there."""
    # Half of torch_npu may be in torch after it could not be imported.
    if not hasattr(torch, "npu") or _import.cache_info().currsize:
        if importlib.util.find_spec("torch_npu") is None:
            install = f"`pip install torch-npu=={versions.numbers(torch.__version__)}`"
            sentence = f"torch_npu is not installed; install it with CANN ({install}), {CPU}."
            return Problem(sentence, is_meant=False, is_said=False)
        if problem := _import():
            return Problem(problem)
    try:
        if torch.npu.is_available():
            return None
        reason = ""
    except RuntimeError as error:  # of the driver
        reason = f" ({reason_of(error)})"
    return _without_card(reason)


def mismatch_remark() -> str:
    """Versions that the vendor does not let go together though a card is there, as a sentence; ""
    where they do."""
    wrong = versions.mismatch(versions.Installed.here(torch.__version__))
    return f"{wrong}." if wrong else ""


@contextlib.contextmanager
def refused_card(flag: str) -> Iterator[None]:
    """Make it a refusal of a flag where CANN cannot use a card that is there: somebody has it, or
    the driver does not do. torch_npu meets the card when it is first told something."""
    try:
        yield
    except RuntimeError as error:
        remedy = mismatch_remark().rstrip(".") or (
            "check `npu-smi info` for its health and for who holds it, and the driver"
        )
        sentence = f"the NPU cannot be used ({reason_of(error)}): {remedy}, {CPU}."
        raise InputError(f"{flag}: {sentence}") from None


@functools.cache
def _import() -> str:
    """Import torch_npu; why that cannot be, as a sentence, "" when it could."""
    # What would crash it, or be said less well.
    found = versions.Installed.here(torch.__version__)
    if not found.is_for_torch:
        return f"{versions.mismatch(found)}, {CPU}."
    other = "CUDA" if torch.version.cuda else "ROCm" if torch.version.hip else ""
    if other:
        return _beside(other)
    for name in ("ASCEND_HOME_PATH", "ASCEND_OPP_PATH"):
        place = os.environ.get(name)
        if place and not Path(place).exists():
            return f"{name} is {place}, which is not there: {SOURCE} of the CANN that is, {CPU}."

    # Its own words: ImportError on a library, RuntimeError, a bare Exception of its check of CANN.
    environment.set_defaults()
    try:
        import torch_npu  # noqa: F401
    except Exception as error:
        return _why(str(error) or type(error).__name__, found)
    return ""


def _beside(other: str) -> str:
    cpu_build = f"torch=={versions.numbers(torch.__version__)}"
    return (
        f"torch_npu is installed beside a {other} build of torch ({torch.__version__}), and one "
        f"process computes on one kind of accelerator: `pip install {cpu_build} --index-url "
        f"https://download.pytorch.org/whl/cpu`, or use --device cuda or cpu."
    )


def _why(text: str, found: versions.Installed) -> str:
    """Why torch_npu could not be imported, by what it said."""
    reason = clause(text)
    if "Two accelerators" in text:
        return _beside("CUDA")
    library = LACKS_LIBRARY.search(text)
    if library and OF_DRIVER.match(library[1]):
        return (
            f"torch_npu finds no driver ({library[1]} is not there): install the driver, or give "
            f"the container {versions.DRIVER}/lib64 and its LD_LIBRARY_PATH (docker/README.md), "
            f"{CPU}."
        )
    if wrong := versions.mismatch(found):
        return f"torch_npu cannot be loaded ({reason}): {wrong}, {CPU}."
    if library and (home := os.environ.get("ASCEND_HOME_PATH")):
        return (
            f"the CANN in {home} has no {library[1]}, which torch_npu needs: {SOURCE} of a whole "
            f"toolkit, {CPU}."
        )
    if "undefined symbol" in text:
        versions_here = f"torch_npu {found.torch_npu}, CANN {found.cann or 'of no known version'}"
        return (
            f"torch_npu cannot be loaded ({reason}): its version and CANN's do not match "
            f"({versions_here}), {CPU}."
        )
    return f"torch_npu cannot load CANN ({reason}); {SOURCE}, {CPU}."


def _without_card(reason: str) -> Problem:
    """Why torch_npu, which is whole, sees no card; reason: what it says itself, in brackets."""
    # No device, or not all that it takes.
    cards = sorted(DEV.glob("davinci[0-9]*"), key=lambda path: int(path.name[7:]))
    if not cards:
        give = "give the container its devices (--device /dev/davinci0, see docker/README.md)"
        sentence = (
            f"torch_npu is installed but there is no {DEV}/davinci0 here{reason}: on a machine "
            f"with a card {give} or install the driver, {CPU}."
        )
        return Problem(sentence, is_meant=bool(versions.driver_version()))
    needed = (cards[0], DEV / CONTROL)
    for path in needed:
        if not path.exists():
            return Problem(
                f"torch_npu is installed but there is no {path} here{reason}: give the container "
                f"that device too (see docker/README.md), {CPU}."
            )

    # Not this user's, or not this process's.
    for path in needed:
        if not os.access(path, os.R_OK | os.W_OK):
            group = path.stat().st_gid
            return Problem(
                f"this user may not open {path}, which belongs to group {_group_name(group)}: "
                f"`sudo usermod -aG {_group_name(group)} $USER` and log in again, or start the "
                f"container with --group-add {group}, {CPU}."
            )
    visible = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
    numbers = {str(number) for number in range(len(cards))}  # as it counts them
    if visible is not None and not {one.strip() for one in visible.split(",")} & numbers:
        return Problem(
            f"ASCEND_RT_VISIBLE_DEVICES={visible} hides every NPU of this machine, which are "
            f"{', '.join(sorted(numbers, key=int))}: name some of them, or unset it, {CPU}."
        )

    # All is there.
    if wrong := versions.mismatch(versions.Installed.here(torch.__version__)):
        return Problem(f"torch_npu sees no NPU{reason}: {wrong}, {CPU}.")
    return Problem(
        f"torch_npu is installed but sees no NPU{reason}; check `npu-smi info` for its health and "
        f"for who holds it, and the driver, {CPU}."
    )


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # of the machine, which a container does not know
        return str(number)

"""The chip that a file is compiled for: as it was given, or of this machine's NPU."""

import re

from shared.ascend import smi
from shared.errors import InputError

# Chips that CANN 8.1 knows, and the 950 family, which is named Ascend950PR_9579 and so on.
KNOWN_SOC = re.compile(
    r"Ascend(310|310B[1-4]|310P[1-9]|610|910(A|B(\d(C|-1)?)?|Pro[AB]|PremiumA)|910_\d{2,4}.*|950\w*_\d+\w*)"
)
PATIENCE_S = 60.0


def soc_version(wanted: str) -> str:
    """The name of the chip as atc has it, such as Ascend310P3.

    wanted: "auto" takes that of this machine's NPU; raises InputError where that cannot be told."""
    if wanted == "auto":
        return _chip_of_torch() or _chip_of_npu_smi()
    if not KNOWN_SOC.fullmatch(wanted):
        print(
            f"export: --soc-version {wanted} is not among the known names, such as Ascend310P3: "
            "atc will tell"
        )
    return wanted


def _chip_of_torch() -> str | None:
    try:
        import torch_npu

        name = torch_npu.npu.get_device_name(0)
    # without torch_npu, CANN or NPU: ImportError, RuntimeError, a bare one from its own check
    except Exception:
        return None
    return name if KNOWN_SOC.fullmatch(name) else None


def _chip_of_npu_smi() -> str:
    give = "give the chip that the file is for, such as --soc-version Ascend310P3"
    if not smi.is_there():
        raise InputError(
            f"--soc-version auto finds neither torch_npu with an NPU nor npu-smi here: {give}."
        )

    # One NPU of each kind.
    output = _npu_smi()
    npus = {row["name"]: row["card"] for row in smi.CARD_ROW.finditer(output)}
    if not npus:
        raise InputError(
            "--soc-version auto found no chip in what npu-smi says "
            f"({smi.first_words(output)!r}): {give}."
        )

    # The chip as atc has it; a file is for one.
    chips = sorted(_full_name(name, npu, give) for name, npu in npus.items())
    if len(chips) > 1:
        raise InputError(
            f"--soc-version auto found chips of several kinds, {' and '.join(chips)}: {give}."
        )
    return chips[0]


def _full_name(name: str, npu: str, give: str) -> str:
    """310P3 -> Ascend310P3; of A3 and 950 the table says Ascend910 or Ascend950PR, and the board
    the rest."""
    if not name.startswith("Ascend"):
        return f"Ascend{name}"
    for chip in ((), ("-c", "0")):  # A3 tells of a chip only
        board = _npu_smi("-t", "board", "-i", npu, *chip)
        names = dict(re.findall(r"^\s*(Chip Name|NPU Name)\s*:\s*(\S+)\s*$", board, re.MULTILINE))
        if len(names) == 2:
            return f"{names['Chip Name']}_{names['NPU Name']}"
    raise InputError(
        f"--soc-version auto found {name}, but `npu-smi info -t board -i {npu}` does not tell its "
        f"NPU Name: {give}."
    )


def _npu_smi(*arguments: str) -> str:
    try:
        return smi.ask(*arguments, seconds=PATIENCE_S)
    except TimeoutError as silence:
        return str(silence)

"""Stand-in for Ascend's npu-smi: a script that prints what the real one prints.

Layouts of `npu-smi info`: of 910A and 910B by npu-smi 24.1 and of 310P by 23.0 as their vendor's
manuals show them, of Atlas 300I Duo as in Syllo/nvtop#421, of A3 as in vllm-project/vllm-ascend
#2534 and #2035, of A3 and 950 with their boards as hicann/driver prints them."""

import shlex
from pathlib import Path

NARROW = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.0.3                 Version: 24.1.0.3                                              |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
{rows}
+===========================+===============+====================================================+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 310123        | python                   | 910                     |
"""
WIDE = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 23.0.0                                   Version: 23.0.0                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
{rows}
+===============================+=================+======================================================+
"""
P310 = WIDE.format(
    rows="""\
| 0       310P3                 | OK              | 15.8         42                0    / 0              |
| 0       0                     | 0000:86:00.0    | 0            1074 / 21534                            |
+-------------------------------+-----------------+------------------------------------------------------+
| 0       310P3                 | Warning         | NA           43                0    / 0              |
| 1       1                     | 0000:86:00.0    | 0            1070 / 21534                            |"""
)
B310 = WIDE.format(
    rows="""\
| 0       310B4                 | Alarm           | 0.0          65                15    / 15            |
| 0       0                     | NA              | 0            3628 / 15609                            |"""
)
A910 = NARROW.format(
    rows="""\
| 3     910A                | OK            | 62.2        26                0    / 0             |
| 0                         | 0000:01:00.0  | 0           2280 / 15039      0    / 32768         |"""
)
B910 = NARROW.format(
    rows="""\
| 0     910B3               | OK            | 94.7        54                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3396 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | Warning       | 94.7        54                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3396 / 65536         |"""
)
A3 = NARROW.replace("| Chip      ", "| Chip  Phy-ID").format(
    rows="""\
| 2     Ascend910           | OK            | 178.7       37                0    / 0             |
| 0     4                   | 0000:9D:00.0  | 0           0    / 0          3419 / 65536         |
+------------------------------------------------------------------------------------------------+
| 2     Ascend910           | OK            | -           36                0    / 0             |
| 1     5                   | 0000:9F:00.0  | 0           0    / 0          3196 / 65536         |"""
)
P950 = """\
| npu-smi 25.7.rc1.6                               Version: 25.7.rc1.6                            |
| NPU ID | Name             | Health        | Power(W)    Temp(C)           Hugepages-Usage(page) |
|        |                  | Bus-Id        | NPU Util(%) Memory-Usage(MB)  HBM-Usage(MB)         |
| 0      | Ascend950PR      | OK            | 195.6       56                0     / 0             |
|        |                  | 0000:61:00.0  | 0           0    / 0          5239  / 131072        |
"""
A3_CHIP = """\
        NPU ID                         : 2
        NPU Name                       : 9392
        Chip ID                        : 0
        Chip Name                      : Ascend910
"""
P950_BOARD = """\
NPU ID                         : 0
Product Name                   : A310-50-C00MM304A1
NPU Name                       : 9579
Chip Name                      : Ascend950PR
Chip Version                   : V100
"""


def install(folder: Path, answers: dict[str, str]) -> None:
    """Put it into a folder for PATH. It answers the given arguments alone, as the tool does: what
    it does not know is an error. An answer that begins with ! is a command of the shell."""
    cases = "".join(
        f"{shlex.quote(call)}) {text[1:]};;\n"
        if text.startswith("!")
        else f"{shlex.quote(call)}) cat <<'END'\n{text}\nEND\n;;\n"
        for call, text in answers.items()
    )
    unknown = 'echo "Error parameter of -t"; exit 1'
    folder.mkdir(exist_ok=True)
    script = folder / "npu-smi"
    script.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}*) {unknown};;\nesac\n')
    script.chmod(0o755)

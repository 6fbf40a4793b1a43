"""What atc says when it fails, and what that means to the user."""

import re
from collections.abc import Iterator

SHOWN_LINES = 25  # of atc's output
# "EZ3003: [PID: 7] ... text", or since 2025 "[PID: 7] 2025-12-20-22:25:54 Title(EZ3003): text".
CODE = re.compile(r"(?:\[PID: \d+\] \S+ \w+\()?E[0-9A-Z]\d{4}\b")

# What atc's words mean to the user; {} is what the group matched.
ADVICE = (
    (r"E16005|domain_version", "the file imports several opset domains; atc takes one, of ai.onnx"),
    (
        r"E16002|E19010|E10501|No (?:ONNX )?parser is registered",
        "this CANN cannot read that operator at this opset; try another --opset of 11 to 18, or a "
        "newer CANN",
    ),
    (
        r"E\d{5}\)?:.*soc_version|EZ3003|No supported Ops kernel",
        "compare --soc-version with `npu-smi info`; since CANN 8.5 the ops package of that very "
        "chip must be installed (docker/npu.Dockerfile: the chip in CANN_TAG)",
    ),
    (
        r"No module named '?([\w.]+)",
        "the Python that atc uses lacks a package; run `pip install {}` there",
    ),
    (
        r"(lib(?:ascend_hal|drv\w*)\.so)\S*: cannot open shared object file",
        "without the driver's {} put CANN's stubs on LD_LIBRARY_PATH, "
        "$ASCEND_TOOLKIT_HOME/$(uname -m)-linux/devlib",
    ),
    (r"^exit status 137|^signal 9", "the system killed it, most likely for want of memory"),
)


def telling_lines(text: str) -> list[str]:
    """The block that starts with an error code, such as E10001 or EZ3003; without one the end of
    the output."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if CODE.match(line)), None)
    return lines[-SHOWN_LINES:] if start is None else lines[start : start + SHOWN_LINES]


def advice_on(words: str) -> Iterator[str]:
    """A line for each failure that is known in these words."""
    for pattern, advice in ADVICE:
        if match := re.search(pattern, words, re.MULTILINE):
            yield f"Advice: {advice.format(*match.groups())}."

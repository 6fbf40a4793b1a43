"""What is said where a GPU or an NPU fails at work, or the exchange between processes: known by the
words of their drivers, since torch_npu and many libraries raise a RuntimeError for all.

What the driver says of a wrong call of ours, such as an invalid argument or an index beyond its
tensor, stays an error with its traceback."""

import os
import re
from collections.abc import Iterator

from shared.errors import InputError, WorkFailed
from shared.servers import said

# With one of these a traceback is true, else it is of whatever line asked next; whoever sets it
# wants to see that.
SHOWS_LINE = {"GPU": "CUDA_LAUNCH_BLOCKING", "NPU": "ASCEND_LAUNCH_BLOCKING"}

# Texts of cudaGetErrorString for what is no fault of a call, after torch's or ONNX Runtime's words.
OF_GPU = re.compile(
    r"(?:CUDA (?:driver )?(?:error|failure \d+)|cuDNN error): ((?:"
    r"unspecified launch failure|an illegal (?:memory access|instruction) was encountered"
    r"|misaligned address|hardware stack error|uncorrectable (?:ECC|NVLink) error"
    r"|the launch timed out|unknown error|initialization error|system not yet initialized"
    r"|driver shutting down|(?:all )?CUDA-capable device\(s\) is/are busy|no CUDA-capable device"
    r"|all CUDA-capable devices are busy|CUDA driver version is insufficient|forward compatibility"
    r"|system has unsupported display driver|.* MPS |no kernel image is available"
    r"|CU(?:BLAS|DNN)_STATUS_(?:NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)"
    r")[^\n;]*)"
)
# How torch_npu has it (NPUException.h), and aclruntime of ais_bench.
OF_NPU = re.compile(
    r"\b(?:NPU|OPS) (?:function )?error[:,] .*?error code is (\d+)|\[(\d{6})\]\[[^\n]*", re.DOTALL
)
# Codes of CANN by their thousands: its runtime, driver and tasks, the same below its operators;
# 1..xxx are those of calls. 107019 is a task that takes too long.
NPU_FAILS, TASK_TIMEOUT = (207, 361, 500, 507, 561), 107019
# No code beside it.
INNER = re.compile(r"(?:\bE[1-9A-Z]9999: *Inner Error|CANN Inner Error)[^\n]*")

OF_COLLECTIVES = re.compile(
    r"(?P<nccl>NCCL error in: .*?((?:unhandled|remote process|internal error|timeout)[^\n,]*))"
    r"|(?P<hccl>HCCL function error: (\w+).*?error code is (\d+))"
    r"|(?P<late>Watchdog caught collective operation timeout)"
    r"|(?P<gloo>gloo/transport/\S+ ((?:Connection|Timed out|Read error|Broken pipe)[^\n\[]*))",
    re.DOTALL,
)
HCCL_CALLS = {"1", "2", "5"}  # wrong parameter, null pointer, not supported


def device_problem(error: BaseException) -> str:
    """Which device or exchange fails and what to do; "" where that is not what happened. What
    fails while one is being left is looked through."""
    for one in _behind(error):
        if found := card_problem(one) or exchange_problem(one):
            return found
    return ""


def card_problem(error: BaseException) -> str:
    """The same of a GPU or NPU alone, and of this error alone."""
    text = _words(error)
    if match := OF_GPU.search(text):
        return _of_gpu(match[1].strip())
    if match := OF_NPU.search(text):
        code = int(match[1] or match[2])
        is_fault, reason = code // 1000 in NPU_FAILS or code == TASK_TIMEOUT, reason_of(error)
    else:
        match = None if "HCCL function error" in text else INNER.search(text)
        is_fault, reason = bool(match), clause(match[0]) if match else ""
    return _with_line("NPU", reason, "`npu-smi info` and in ~/ascend/log") if is_fault else ""


def exchange_problem(error: BaseException) -> str:
    """The same of what processes exchange tensors by."""
    match = OF_COLLECTIVES.search(_words(error))
    if not match or (match["hccl"] and match[5] in HCCL_CALLS):
        return ""
    if match["hccl"]:
        reason = f"HCCL, {match[4]}: error {match[5]}"
    elif match["late"]:
        reason = "one of them did not come to a collective operation in time"
    else:
        reason = f"NCCL: {match[2]}" if match["nccl"] else f"gloo: {match[8].strip()}"
    return (
        f"the processes of this training cannot exchange tensors ({reason}): look for what another "
        "of them said, at their cards and at the network between them,"
    )


def reason_of(error: BaseException) -> str:
    """What torch_npu says of an error of CANN, in a line.

    It writes `Initialize:... NPU function error: aclrtSetDevice(0), error code is 507033`, below it
    `[ERROR] ... ERR00100 PTA call acl api failed` and `[Error]: ` with a text for people."""
    text = str(error)
    code = re.search(r"error code is (\d+)", text)
    told = re.search(r"^\[Error\]: *(.+?)\.?$", text, re.MULTILINE)
    line = re.search(r"function error: *(.+?)(?:, error code is.*)?$", text, re.MULTILINE)
    first = clause(line[1] if line else text) or type(error).__name__
    return f"error {code[1]}: {clause(told[1]) if told else first}" if code else first


def clause(text: str) -> str:
    """The first line of a text, to stand within a sentence."""
    return said(text).rstrip(".").replace(". ", "; ")


def _of_gpu(reason: str) -> str:
    if reason.startswith("no kernel image"):
        return (
            f"this build of torch has no kernels for the GPU ({clause(reason)}): install one that "
            "has (https://pytorch.org/get-started),"
        )
    return _with_line("GPU", clause(reason), "`nvidia-smi` and for Xid in the system's log")


def _with_line(kind: str, reason: str, where: str) -> str:
    """ "" where the line that failed is asked for, which the traceback shows."""
    name = SHOWS_LINE[kind]
    if os.environ.get(name, "0") != "0":
        return ""
    return (
        f"the {kind} fails ({reason}): look for its fault with {where} ({name}=1 shows the line of "
        "code)"
    )


def _words(error: BaseException) -> str:
    """What is not a sentence of ours already, which may quote a driver."""
    return "" if isinstance(error, InputError | WorkFailed) else str(error)


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised from or within."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        within = None if found.__suppress_context__ else found.__context__
        found = found.__cause__ or within

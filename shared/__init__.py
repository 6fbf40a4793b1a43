import os
import signal
import sys
from types import FrameType

from shared.machine import threads


def _stop_early(signum: int, _frame: FrameType | None) -> None:
    """Ctrl-C while our programs are still being imported, which takes seconds; later as
    terminal/stopping.py has it."""
    if "PIPELINE_STOP_IS_SAID" not in os.environ:
        over = "\r\x1b[K" if os.isatty(2) else ""  # over ^C on a terminal
        line = f"{over}stopped: nothing was begun yet; say the same command again\n"
        os.write(2, line.encode())
    os._exit(128 + signum)


# In our programs, and not in what imports us as a library. What Python's own libraries start for
# them gets no Ctrl-C: it ends with them. Where the signal is blocked, it is to come later.
_started = " ".join(sys.orig_argv)
if "--multiprocessing-fork" in _started or "multiprocessing.forkserver" in _started:
    if signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
elif os.path.basename(sys.argv[0]) in ("pipeline.py", "pix2pixhd-pipeline") or (
    sys.argv[0] == "-m" and " components." in _started
):
    for _stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_stop) is not signal.SIG_IGN:
            signal.signal(_stop, _stop_early)

# With torch_npu installed but no CANN on the machine, `import torch` itself fails while torch
# autoloads the back-end. shared/ascend/problems.py imports torch_npu when it is wanted, so nothing
# is lost by switching the autoload off, whatever the environment says.
os.environ.update(TORCH_DEVICE_BACKEND_AUTOLOAD="0")

# Both send events to their makers unless told otherwise before they are loaded; ONNX Runtime also
# writes an id of the machine into the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

threads.set_defaults()

import os
import signal

# The networks here are tiny: a second thread costs more than it brings. Set before torch loads, for
# every process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test downloads weights, or finds those that a machine has: nothing answers at this port, and
# below this path there can be no file.
os.environ["WEIGHTS_MIRROR"] = "http://127.0.0.1:9"
os.environ["TORCH_HOME"] = "/dev/null/torch"

# What is started in the background of a script, or by nohup, ignores these, and so would all that
# the tests start to stop it.
for _stop, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_stop) is signal.SIG_IGN:
        signal.signal(_stop, _handler)

import os
import signal

from hypothesis import settings

# The same examples every time: what a test of today does not find fails nobody's work tomorrow.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

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

# These take long and begin first: no process of xdist is left with one at the end, and the run that
# the first one makes is there when other files look at it.
LONG = ["test_embedded.py", "test_readme.py", "test_train.py", "test_distributed.py"]


def pytest_collection_modifyitems(items) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))

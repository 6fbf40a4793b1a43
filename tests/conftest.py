import os

# The networks here are tiny: a second thread costs more than it brings. Set before torch loads, for
# every process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import os

# The tests' networks are tiny: a second thread costs more than it brings. Before torch is loaded, and for every process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

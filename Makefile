# make demo       the whole pipeline on generated street scenes, from nothing
# make ui         the runs in MLflow, until Ctrl-C
# make test       set up and run the tests (about 10 minutes on 2 cores, and 4 for the first installation)
# make test-all   also the slow ones, and those for GPU, NPU and containers where these are there
#
# Each sets up .venv first, with the command pix2pixhd-pipeline, which is pipeline.py from any folder.
# TORCH_INDEX names an extra index for torch: without an NVIDIA driver, that of the CPU wheels, which bring no CUDA
# packages. `make demo TORCH_INDEX=` takes what pip is configured for.

PYTHON ?= python3
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
BIN := .venv/bin

.PHONY: demo ui test test-all lint constraints clean

demo: .venv/ready
	$(BIN)/python pipeline.py submit --recipe demo

ui: .venv/ready
	$(BIN)/python pipeline.py ui

test: .venv/ready lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not npu and not containers"

test-all: .venv/ready lint
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

# torch first, from its own index, so that pip does not take a CUDA build for a machine without a GPU.
.venv/ready: requirements.txt constraints.txt $(wildcard components/*/requirements.txt) shared/pipeline/requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $$(grep -oh '^torch==[0-9.]*' components/train/requirements.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# After a change of requirements.txt: the versions of a new environment, for everybody.
constraints:
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements.txt
	head -1 constraints.txt > .venv/constraints.txt
	$(BIN)/python -m pip freeze --exclude torch >> .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt

clean:
	rm -rf .venv runs pipeline.yaml

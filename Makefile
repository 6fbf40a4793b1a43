# make demo       the whole pipeline on generated street scenes, from nothing
# make images     the images of the steps for DEVICE=cpu|cuda|npu, pushed where REGISTRY=... is given; also TAG=...,
#                 ENGINE=docker|podman, BUILD_ARGS="--build-arg ..." (docker/README.md)
# make ui         the runs in MLflow, until Ctrl-C
# make test       set up and run the tests (about 10 minutes on 2 cores, and 4 for the first installation)
# make test-all   also the slow ones, and those for GPU, NPU and containers where these are there
# make fuzz       every reader of files, options and answers on made inputs, for MINUTES (10) in one process at a time
# make npu-check  what the owner of an Ascend card runs once, ten minutes at most: the device, a step against the CPU,
#                 kernels, images a second, atc, ais_bench; a table and a JSON to send back (docs/ascend.md)
# make gpu-check  the same on an NVIDIA GPU, eight minutes at most
# make audit      what is known against any package of constraints.txt, where pypi.org can be asked
#
# Each sets up .venv first, with the command pix2pixhd-pipeline, which is pipeline.py from any folder; but the two
# checks, which need no network, take the torch of PYTHON=..., else of .venv where it is there, else of python3.
# TORCH_INDEX names an extra index for torch: without an NVIDIA driver, that of the CPU wheels, which bring no CUDA
# packages. `make demo TORCH_INDEX=` takes what pip is configured for.

PYTHON ?= python3
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
BIN := .venv/bin

.PHONY: demo images ui test test-all fuzz npu-check gpu-check lint audit constraints clean

demo: .venv/ready
	$(BIN)/python pipeline.py submit --recipe demo

DEVICE ?= cpu
images: .venv/ready
	@$(BIN)/python -m shared.pipeline.images.build --device '$(DEVICE)' --registry '$(REGISTRY)' --tag '$(TAG)' \
		--engine '$(ENGINE)' --build-args='$(BUILD_ARGS)'

ui: .venv/ready
	$(BIN)/python pipeline.py ui

test: .venv/ready lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not npu and not containers"

test-all: .venv/ready lint
	$(BIN)/python -m pytest

MINUTES ?= 10
fuzz: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz --minutes $(MINUTES)

CHECK_PYTHON = $(if $(filter file default undefined,$(origin PYTHON)),$(firstword $(wildcard $(BIN)/python) $(PYTHON)),$(PYTHON))
npu-check gpu-check:
	@$(CHECK_PYTHON) -m tests.benchmarks.card_check --device $(if $(filter npu-check,$@),npu,cuda) $(FLAGS)

lint: .venv/ready
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

# A mirror of packages answers, but knows no vulnerabilities: that must not look as if there were none.
audit: .venv/audit/ready
	@.venv/audit/bin/python -m pip_audit --strict --no-deps --disable-pip --progress-spinner off \
		-r constraints.txt -r components/train/requirements.txt > .venv/audit/said 2>&1; code=$$?; \
	if grep -q 'known vulnerabilit' .venv/audit/said; then grep -v ^WARNING .venv/audit/said; \
	else echo 'audit refused: pypi.org does not tell here what is known of these versions: say it where it can be asked.'; fi; exit $$code

.venv/audit/ready:
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	touch $@

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

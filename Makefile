# Everything a contributor types. Needs make and Python 3.11 or newer, nothing else.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python on PATH that is new enough; `make venv PYTHON=/path/to/python3.12` overrides it.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Written last by an install; holds the checkout's path, because a virtual environment cannot be moved.
STAMP := $(VENV)/.installed
# One more than there are cores: much of what is tested waits for processes.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# What another project left in the environment must not leak into ours.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV PIP_TARGET PIP_PREFIX
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_USER := 0

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(STAMP) ## Install what is needed into .venv (only when something changed)

.PHONY: run
run: $(STAMP) ## Boot the embedded platform, review a file with the Code Review agent, show its report
	@$(BIN)/celeriac demo

.PHONY: test
test: $(STAMP) ## Run the tests against a real Postgres, Valkey and Celery workers
	@$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal -m "not long" $(ARGS)

.PHONY: long
long: $(STAMP) ## Run the tests that take minutes, one after the other (without those of `make fuzz`)
	@$(BIN)/python -m pytest -m long --timeout 1200 --ignore tests/fuzz $(ARGS)

.PHONY: simulate
simulate: $(STAMP) ## Live through 50 000 seeds of faults (`make test` does through some of them)
	@SIMULATOR_SEEDS=50000 $(BIN)/python -m pytest -q -n $(JOBS) --maxprocesses 8 tests/simulator tests/unit/test_retrace.py -k 'nothing_wrong or lived_through_trouble'

.PHONY: fuzz
fuzz: $(STAMP) ## Ask every route tens of thousands of things (`make test` asks some of them)
	@$(BIN)/python -m pytest -m long -n $(JOBS) --maxprocesses 4 -rP tests/fuzz

.PHONY: lint
lint: $(STAMP) ## Check formatting and style
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

.PHONY: types
types: $(STAMP) ## Check types (mypy --strict)
	@$(BIN)/mypy

.PHONY: contracts
contracts: $(STAMP) ## Check that imports go downward only
	@$(BIN)/lint-imports --no-cache --no-logo

.PHONY: coverage
coverage: $(STAMP) ## Check that the tests of the core reach every branch of it
	@$(BIN)/python -m pytest -q -n $(JOBS) --maxprocesses 8 -m "not long" tests/unit/core --cov --cov-report=term

.PHONY: pythons
pythons: ## Run the unit tests on the other Pythons that are here (3.12, 3.13)
	@.ci/pythons

.PHONY: check
check: lint types contracts test ## Everything above: what a change must pass

.PHONY: rego
rego: $(STAMP) ## Install the evaluator of Rego, without which policies in it are refused (needs the network)
	@$(BIN)/python -m pip install -qq --no-deps 'regopy>=1.5.2,<2'

.PHONY: bench
bench: $(STAMP) ## Measure a step beside raw Celery, DBOS, LangGraph, Prefect and Airflow: table, picture
	@$(BIN)/python -m benchmarks --out .cache/bench/results.json --picture .cache/bench/results.svg $(ARGS)

.PHONY: lock
lock: ## Resolve pyproject.toml anew into requirements.lock (needs the network)
	@rm -rf .cache/lock && $(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet uv
	@.cache/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
		--quiet $(ARGS) --output-file requirements.lock
	@rm -rf .cache/lock

.PHONY: clean
clean: ## Remove what was installed and generated here (never your data)
	@rm -rf $(VENV) .cache .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the install ------------------------------------------------------------------------------

ifneq ($(shell test -x $(BIN)/python && cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml requirements.lock
	@if [ -z "$(PYTHON)" ]; then \
		echo "Celeriac needs Python 3.11 or newer, and found none on PATH." >&2; \
		echo "Install one (https://www.python.org/downloads/), or name it: make venv PYTHON=/path/to/python3" >&2; \
		exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Celeriac needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name a newer one: make venv PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing Celeriac into $(VENV) with $$($(PYTHON) --version) ..."
	@if [ -x $(BIN)/python ] && [ "$$(cat $(STAMP) 2>/dev/null)" = "$(CURDIR)" ]; then \
		$(PYTHON) -m venv $(VENV); else $(PYTHON) -m venv --clear $(VENV); fi
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@printf '%s\n' "$(CURDIR)" > $(STAMP)

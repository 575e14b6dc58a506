# lodestone: `make demo` and `make test` set up all they need; the rest is for developers.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
BENCH_ARGS ?=
TEST_ARGS ?=

.PHONY: help demo test test-plain lint types contracts format bench artefacts clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "lodestone needs Python 3.11; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/base.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# torch first and alone: a package that depends on it would bring a build of several gigabytes.
$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[train,scale,research,dev]'
	@touch $@ $(VENV)/base.stamp

demo: $(VENV)/base.stamp ## Run the main job: campaigns, bids, money, reports, on one machine.
	$(BIN)/lodestone demo $(DEMO_ARGS)

test: $(VENV)/dev.stamp ## Run all tests, then the kernel tests once more as plain Python.
	$(BIN)/pytest $(TEST_ARGS)
	$(MAKE) --no-print-directory test-plain

test-plain: $(VENV)/dev.stamp
	NUMBA_DISABLE_JIT=1 $(BIN)/pytest -m plain $(TEST_ARGS)

lint: $(VENV)/dev.stamp ## Check style, types, spelling and import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(MAKE) --no-print-directory contracts types

types: $(VENV)/dev.stamp
	$(BIN)/basedpyright

contracts: $(VENV)/dev.stamp
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev.stamp ## Measure (BENCH_ARGS="serving --json").
	$(BIN)/python -m bench $(BENCH_ARGS)

artefacts: $(VENV)/dev.stamp ## Train again what ships.
	$(BIN)/lodestone train response

clean: ## Remove runs and caches.
	rm -rf runs .pytest_cache .ruff_cache .hypothesis build dist

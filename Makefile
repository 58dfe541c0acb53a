# The whole set-up: `make table2` or `make test` on a machine with Python 3.11.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# What is installed besides: `make install EXTRAS=aws` on the machines of a cluster.
EXTRAS ?= dev
# Of `make drill`.
MINUTES ?= 30
SEED ?= 0
BIN := .venv/bin
READY := .venv/installed

# Tests that each keep one core busy; the rest starts Ray, and waits for it much of the time.
ONE_CORE := tests/trainables tests/search_spaces

.DEFAULT_GOAL := help
.PHONY: help install table2 test smoke drill gpu lint

help:
	@echo "make install  hdsweep into .venv, and nothing else"
	@echo "make table2   the whole of Table 2 at demo scale"
	@echo "make test     the tests"
	@echo "make smoke    all 180 runs with one or two updates each"
	@echo "make drill    sweeps under random blows, for MINUTES=30; docs/reliability.md"
	@echo "make gpu      on a machine with a GPU: times and bits of its step, in 8 minutes"
	@echo "make lint     formatting, types, import rules"

install: $(READY)

table2: $(READY)
	$(BIN)/hdsweep run table2 --scale demo

test: $(READY)
	$(BIN)/python -m pytest -q -n logical --maxprocesses 8 $(ONE_CORE)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ONE_CORE:%=--ignore=%)

smoke: $(READY)
	$(BIN)/hdsweep run table2 --scale smoke

drill: $(READY)
	$(BIN)/python -m tests.drill --minutes $(MINUTES) --seed $(SEED)

# The figures first; then as many of the tests as there is time for: 124 is that it ran out.
gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py --minutes 5
	timeout 170 $(BIN)/python -m pytest -q -x -m gpu tests/trainables/test_on_gpu.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

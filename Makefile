# The README's commands. Everything goes into .venv beside this file.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
STUDY  := analysis=[demonstrations,calibration,explorer]
# No bytecode in advance: Python writes it for what is used, which is half the time and a fifth of the space.
PIP    := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt

.PHONY: run test slow lint ui app bench docs clean

run: $(VENV)/.core           ## the default study and its explorer; ARGS="dt=small seed=1": that instead
	$(BIN)/dtx run $(or $(ARGS),'$(STUDY)')

test: $(VENV)/.dev           ## the fast tests, in parallel
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

slow: $(VENV)/.dev           ## the long tests
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.dev           ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m tests.pyright

ui: $(VENV)/.core            ## the MLflow UI on this folder's runs
	$(BIN)/dtx ui $(ARGS)

app: $(VENV)/.core           ## the explorer, on this folder's models
	$(BIN)/dtx app $(ARGS)

bench: $(VENV)/.dev          ## the benchmarks table, all rows from one run
	$(BIN)/python benchmarks/table.py $(ARGS)

docs: $(VENV)/.dev           ## the documentation site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build $(ARGS)

# envpool without what it lists: MiniGrid's tasks need two of those packages, and none of 600 MB of files.
$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable . dm-env optree
	$(PIP) --no-deps envpool
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable ".[dev]"
	touch $@

clean:                       ## the virtual environment and caches; never results
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

# The README's commands. Everything goes into .venv beside this file.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

.PHONY: run test slow lint ui bench docs clean

run: $(VENV)/.installed      ## the default study; ARGS="dt=small seed=1" overrides
	$(BIN)/dtx run $(ARGS)

test: $(VENV)/.installed     ## the fast tests, in parallel
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

slow: $(VENV)/.installed     ## the long tests
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.installed     ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m tests.pyright

ui: $(VENV)/.installed       ## the MLflow UI on this folder's runs
	$(BIN)/dtx ui $(ARGS)

bench: $(VENV)/.installed    ## the benchmarks table, all rows from one run
	$(BIN)/python benchmarks/table.py $(ARGS)

docs: $(VENV)/.installed     ## the documentation site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build $(ARGS)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:                       ## the virtual environment and caches; never results
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

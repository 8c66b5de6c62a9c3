# `make demo` and `make test` do everything on a fresh clone: environment, tools, run.
PYTHON ?= python3
BIN := .venv/bin

# Spinning threads make small operations many times slower where another program is busy.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test clean

demo: .venv/ready
	$(BIN)/unconv demo -o unconv-demo

test: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

.venv/ready: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf .venv unconv-demo unconv-out

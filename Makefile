# `make demo`, `make quick` and `make test` do everything on a fresh clone: environment, tools, run.
PYTHON ?= python3
OLDEST ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python) $(shell command -v python3.10))
BIN := .venv/bin
# Two processes of one thread each run the tests in less time than one process of two.
# Nothing here reads log records; catching them costs each test a millisecond.
PARALLEL := -n 2 --dist worksteal -p no:logging

# Test files and the sources are compiled once, not by every process of every run.
export PYTHONDONTWRITEBYTECODE :=

# Spinning threads make small operations many times slower where another program is busy.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo quick test oldest clean

demo: .venv/ready
	$(BIN)/unconv demo -o unconv-demo
	$(BIN)/python examples/crops.py unconv-demo-scan/crops
	$(BIN)/unconv index unconv:caltech unconv-demo-scan/crops -o unconv-demo-scan/index --at features.13 --at features.18 --at features.23
	$(BIN)/unconv figure unconv-demo-scan/index --at features.13 --at features.18 --at features.23 -o unconv-demo-scan/figure2.png
	$(BIN)/unconv site unconv-demo-scan/index -o unconv-demo-scan/site -n 6

quick: .venv/ready
	$(BIN)/ruff check --quiet .
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL) -m "not slow and not browser"

test: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)

oldest:
ifeq ($(OLDEST),)
	@echo "oldest: there is no Python 3.10 on this machine; what it and torch 2.6 would say is not known"
else
	$(MAKE) .venv-oldest/ready
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest $(PARALLEL) -m "not slow and not browser" -o filterwarnings=default
endif

.venv/ready: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --requirement requirements-dev.txt
	touch $@

.venv-oldest/ready: pyproject.toml requirements-oldest.txt
	$(OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade pip
	.venv-oldest/bin/python -m pip install --quiet --editable . --requirement requirements-oldest.txt
	touch $@

clean:
	rm -rf .venv .venv-oldest unconv-demo unconv-demo-scan unconv-out

# `make demo`, `make quick`, `make test` and `make docs` do everything on a fresh clone: environment, tools, run.
PYTHON ?= python3
OLDEST ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python) $(shell command -v python3.10))
BIN := .venv/bin
PACKAGES := import sysconfig; print(sysconfig.get_path('purelib'))
# Have the environment $(1) see what is installed in .venv, too.
sees = $(BIN)/python -c "$(PACKAGES)" > "$$($(1)/bin/python -c "$(PACKAGES)")/packages.pth"
# Two processes of one thread each run the tests in less time than one process of two.
# Nothing here reads log records; catching them costs each test a millisecond.
PARALLEL := -n 2 --dist worksteal -p no:logging

# Test files and the sources are compiled once, not by every process of every run.
export PYTHONDONTWRITEBYTECODE :=

# Spinning threads make small operations many times slower where another program is busy.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo quick test oldest wheel docs clean

demo: .venv/runs
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

# The wheel, beside the packages that are installed already: torch is not fetched a second time.
wheel: .venv/runs
	rm -rf dist .venv-wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv --without-pip .venv-wheel
	$(BIN)/python -m pip --quiet --python .venv-wheel install --no-deps dist/*.whl
	$(call sees,.venv-wheel)
	.venv-wheel/bin/python -I .ci/try_wheel.py dist/*.whl

docs: .venv-docs/ready
	.venv-docs/bin/python docs/make_site.py

# What the demo needs: no tools, but the versions that the tests know.
.venv/runs: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[scan,plot]" --constraint requirements-dev.txt
	touch $@

.venv/ready: .venv/runs
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# Sphinx has a folder of its own and reads the packages of .venv, so that no tool of the tests depends on it.
.venv-docs/ready: requirements-docs.txt .venv/runs
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement requirements-docs.txt
	$(call sees,.venv-docs)
	touch $@

.venv-oldest/ready: pyproject.toml requirements-oldest.txt
	$(OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade pip
	.venv-oldest/bin/python -m pip install --quiet --editable . --requirement requirements-oldest.txt
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-docs .venv-wheel dist site docs/api unconv-demo unconv-demo-scan unconv-out

# Each target does the whole set-up first: a virtual environment in .venv, the exact versions of requirements.lock, this
# checkout in editable mode. Needs make and Python 3.11 or newer; choose one with `make PYTHON=python3.12 ...`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: help setup demo test test-slow check doctor lock clean
help:
	@echo "make demo       synthetic clips -> bundles -> tiny detector -> demo/submission.csv (a few minutes)"
	@echo "make test       the test suite"
	@echo "make test-slow  the long tests: full-size model, shuffled labels, kill and resume"
	@echo "make check      linter and import rules"
	@echo "make doctor     what is right and wrong with this installation"

setup: $(READY)
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	$(BIN)/python -m examples.demo

test: $(READY)
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m pytest -q tests/test_house.py

doctor: $(READY)
	$(BIN)/python -m visavox.doctor

lock: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade -e '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache

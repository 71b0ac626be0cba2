# Each target does the whole set-up first: a virtual environment in .venv, the exact versions of requirements.lock, this
# checkout in editable mode. Needs make and Python 3.11 or newer; choose one with `make PYTHON=python3.12 ...`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export NO_ALBUMENTATIONS_UPDATE := 1
# Threads that wait for each other sleep instead of spinning: on a busy machine spinning takes the cores from those who work.
export OMP_WAIT_POLICY := PASSIVE

PROCESSES ?= 2
# A file of tests stays in one process; files are begun in the order in which they are collected (LONGEST in tests/conftest.py).
SHARED = -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: help setup demo app serve page test test-page test-browser test-slow test-durability check bench doctor lock clean
help:
	@echo "make demo       synthetic clips -> bundles -> tiny detector -> demo/submission.csv (a few minutes)"
	@echo "make app        the page that judges a video, at http://localhost:8501 (trains a tiny pair where there is no xception.ckpt)"
	@echo "make page       build frontend/ into visavox/service/page, with Node 20.19 or newer, else with that of PyPI"
	@echo "make serve      the service with its page, at http://localhost:8000 (CHECKPOINT=FILE; without one trains a tiny pair as make app does)"
	@echo "make test       the test suite, by two processes (PROCESSES=4 by four)"
	@echo "make test-page  types, linter and unit tests of frontend/"
	@echo "make test-browser  the pages in headless Chromium (which has to be there: apt-get install chromium)"
	@echo "make test-slow  the long tests: full-size model, shuffled labels, kill and resume"
	@echo "make test-durability  what takes long of tests/durability and others: killed runs, huge inputs, hundreds of files"
	@echo "make check      linter, import contracts, type checker"
	@echo "make bench      time per video beside the straightforward pipeline, into benchmarks/results.md (minutes)"
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

app: $(READY)
	@test -f xception.ckpt || test -n "$$VISAVOX_XCEPTION" || $(BIN)/python -m examples.xception --small --output demo/app
	$(BIN)/python -m streamlit run streamlit_app.py

serve: $(READY)
	$(BIN)/python frontend/build.py --if-stale
	@test -n "$(CHECKPOINT)" || test -f xception.ckpt || $(BIN)/python -m examples.xception --small --output demo/app
	$(BIN)/python -m visavox serve --checkpoint "$(or $(CHECKPOINT),$(firstword $(wildcard xception.ckpt) demo/app/xception.ckpt))" $(SERVE)

page: $(READY)
	$(BIN)/python frontend/build.py

test: $(READY)
	$(BIN)/python -m pytest $(SHARED)

test-page: $(READY)
	$(BIN)/python frontend/build.py --check

test-browser: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'playwright>=1.40' 'axe-playwright-python>=0.1.8'
	$(BIN)/python -m pytest -m browser $(SHARED)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-durability: $(READY)
	$(BIN)/python -m pytest -m durability tests/durability tests/cases tests/workers tests/storage

check: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.bench

doctor: $(READY)
	$(BIN)/python -m visavox doctor

lock: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade -e '.[dev,app,search,vad,fakes,foundation,export,provenance,serve,queue,ray,remote]'
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock  # then put the platform markers back

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache

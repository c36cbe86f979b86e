# `make demo` and `make test` need Python 3.11+ and make, nothing else: they create .venv, install into it, and run.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
# stamps: the program alone, and everything that its tests need
READY = $(VENV)/.installed
DEV = $(VENV)/.installed-dev
# every package at its locked version, torch at the newest that this machine permits: see docs/compatibility.md
LOCK = locks/packages.txt
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(LOCK)
# fvcore and iopath come as source. What builds them and us is installed first, locked like the rest: an isolated build takes its
# tools unlocked, and how to stop that changes from pip to pip.
TOOLS = $(PIP) setuptools wheel hatchling editables
OURS = $(PIP) --no-build-isolation --use-pep517
# an editable install leaves our own bytecode to the first run; some environments never write it
COMPILE = $(BIN)/python -m compileall -q roofline models
DEMO = reports/demo
WORKERS ?= 2

.PHONY: help demo test lint lock matrix bench bench-startup conformance wheel clean

help:
	@echo "make demo    analyse MobileNetV3-Large on this machine's CPU; chart and page in $(DEMO)/"
	@echo "make test    the whole test suite        make lint    ruff and mypy"
	@echo "make bench   beside other counters       make wheel   build dist/*.whl"
	@echo "make matrix  the tests on the oldest packages, a part on the locked and the newest: docs/compatibility.md"
	@echo "make lock    resolve the locked packages anew (locks/)"
	@echo "make conformance   every model of torchvision and timm, half an hour: docs/conformance.md"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "roofline needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml $(LOCK) | $(BIN)/python
	@echo "Installing roofline and its dependencies into $(VENV) (torch is large: this takes minutes on a slow line)"
	@$(TOOLS)
	$(OURS) -e .
	$(COMPILE)
	@touch $@

$(DEV): pyproject.toml $(LOCK) | $(BIN)/python
	@echo "Installing roofline, the model libraries and the test tools into $(VENV) (torch is large)"
	@$(TOOLS)
	$(OURS) -e '.[dev]'
	$(COMPILE)
	@touch $@ $(READY)

demo: $(READY)
	@mkdir -p $(DEMO)
	$(BIN)/roofline analyze mobilenet_v3_large --device cpu -o $(DEMO)/mobilenet_v3_large.png -o $(DEMO)/mobilenet_v3_large.html

test: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV)
	$(OURS) -e '.[peers]'
	$(BIN)/python benchmarks/peers.py

bench-startup: $(READY)
	$(BIN)/python benchmarks/startup.py

# the whole sweep, then the page; the page's part on timm's own tables needs one of them:
# make conformance CONFORMANCE_ARGS='--timm-table benchmark-infer-....csv'
conformance: $(DEV)
	$(BIN)/python benchmarks/conformance.py $(CONFORMANCE_ARGS)

lock: $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python .ci/lock.py

matrix: $(BIN)/python
	$(PIP) uv
	$(BIN)/python .ci/matrix.py --write $(MATRIX_ARGS)

wheel: $(DEV)
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf $(VENV) build dist $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# `make` lists the targets. Each one first makes the environment that it needs, and only once.

# The first of these that is Python 3.11 or newer; `make PYTHON=/path/to/python …` names another.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# torch's own index of CPU builds: PyPI's builds for Linux bring gigabytes of CUDA.
# `make TORCH_INDEX= …` takes the build that pip finds by itself.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# More for the command behind the target: `make test ARGS="-x -q"`.
ARGS ?=
# What `make test` tests: `make test ROOMS=tests/data`.
ROOMS ?= tests
# Processes of `make test`, one thread each: tiny models gain nothing from a second thread. 0: in this process.
WORKERS ?= 2

VENV ?= .venv
PEER ?= .venv-peer
BIN = $(VENV)/bin
# One thread a process; a process that has nothing left takes tests over from the other.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
SECONDS_EACH = not slow and not browser and not database and not fuzz and not distributed
UNITS = $(addprefix tests/,algorithms data feedback/statistics functional models reward)
PIP = python -m pip install -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test some units loops parts test-distributed slow slow-beside slow-alone lint style types layers bench bench-cuda wheel clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## the whole loop on a small model, about 8 minutes on two cores
	$(BIN)/backflip demo $(ARGS)

test: $(if $(filter tests,$(ROOMS)),units loops,some)  ## the tests that take seconds

some: $(VENV)/.dev
	$(PYTEST) -m "not slow" $(ROOMS) $(ARGS)

units: $(VENV)/.dev  # types are checked at every call
	$(PYTEST) -m "$(SECONDS_EACH)" $(UNITS) $(ARGS)

loops: $(VENV)/.dev  # whole runs, servers, commands
	BACKFLIP_TYPES=0 $(PYTEST) -m "$(SECONDS_EACH)" tests $(UNITS:%=--ignore=%) $(ARGS)

parts: $(VENV)/.dev  ## the tests that need a browser or a database server, or send a great many requests
	BACKFLIP_TYPES=0 $(PYTEST) -m "not slow and (browser or database or fuzz)" $(ARGS)

test-distributed: $(VENV)/.dev  ## the tests that start several processes, about 8 minutes on two cores
	BACKFLIP_TYPES=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "distributed and not slow" tests/distributed $(ARGS)

slow: slow-beside slow-alone  ## the tests that take minutes

slow-beside: $(VENV)/.dev
	$(PYTEST) -m "slow and not alone" $(ARGS)

slow-alone: $(VENV)/.dev  # these measure time, so that nothing runs beside them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and alone" tests/cluster $(ARGS)

lint: style types layers  ## style, types and the direction of imports

style: $(VENV)/.dev
	$(BIN)/ruff check --output-format concise .
	$(BIN)/ruff format --check --quiet .

types: $(VENV)/.dev
	$(BIN)/pyright --project . --pythonpath $(BIN)/python

layers: $(VENV)/.dev
	$(BIN)/lint-imports

bench: $(VENV)/.demo $(PEER)/.peer  ## speed and memory against TRL, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/versus_trl.py --peer-python $(PEER)/bin/python $(ARGS)

bench-cuda:  ## the same on a CUDA device, with batches that fill it, in 13 minutes
	$(MAKE) .venv-cuda/.demo .venv-peer-cuda/.peer VENV=.venv-cuda PEER=.venv-peer-cuda TORCH_INDEX=
	.venv-cuda/bin/python benchmarks/on_cuda.py --peer-python .venv-peer-cuda/bin/python $(ARGS)

wheel: $(VENV)/.dev  ## build dist/*.whl
	$(BIN)/python -m build --wheel

clean:  ## remove environments, builds and caches; runs/ stays
	rm -rf .venv .venv-peer .venv-cuda .venv-peer-cuda build dist src/*.egg-info
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments: a stamp is newer than what it was made from, so a second call installs nothing.

%/.torch: constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found: make PYTHON=/path/to/python …"; exit 2; }
	@echo "Making $* with $(PYTHON); the first time takes a few minutes."
	test -x $*/bin/pip || $(PYTHON) -m venv $* || { \
	  $(PYTHON) -m venv --clear --without-pip $* && $(PYTHON) -m pip --python $*/bin/python install -qq pip; }
	if [ -n "$(TORCH_INDEX)" ]; then \
	  $*/bin/$(PIP) --no-deps --retries 1 --timeout 10 --index-url $(TORCH_INDEX) "$$(grep ^torch== constraints.txt)" \
	  || echo "$(TORCH_INDEX) gave no torch: the build that pip finds by itself is taken, on Linux with CUDA."; fi
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(BIN)/$(PIP) -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/$(PIP) -c constraints.txt -e '.[dev,demo,feedback,math,quantized,ray,tensorboard]'
	$(BIN)/$(PIP) -c constraints.txt -e '.[gym]' || echo "reasoning-gym needs a C compiler: its tests are skipped."
	touch $(VENV)/.demo $@

$(PEER)/.peer: $(PEER)/.torch constraints-peer.txt
	$(PEER)/bin/$(PIP) -c constraints-peer.txt trl peft
	touch $@

# `make` alone says what there is.

PYTHON ?= python3
# Tests wait for servers of their own more than they work: on two cores three at a time are done soonest.
JOBS ?= 3

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input
# Hashes do not cover what building a source archive downloads, so only wheels.
INSTALL := $(PIP) install -q --require-hashes --only-binary :all:
# What has no wheel is built by the pinned setuptools, so that nothing is downloaded without a hash here either.
BUILD := $(PIP) install -q --require-hashes --no-deps --no-build-isolation
# The project itself is a link to this folder, made with the pinned setuptools; nothing is downloaded.
LINK := $(PIP) install -q --no-index --no-deps --no-build-isolation -e .
# The wire contract for programs; whoever reads it finds the registry with the usual prefix.
CONTRACT := $(VENV)/bin/agent-registry schema --prefix registry
# For tools that talk when all is well.
quiet = @out=$$($(1) 2>&1) || { echo "$$out"; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help up cluster test check schema bench simulate loop robustness

help:
	@echo 'make up          start NATS and one registry here (ARGS="--port 4222 --store DIR")'
	@echo 'make cluster     start three NATS servers and two registries here (ARGS="--port 4223 --store DIR")'
	@echo 'make test        run the tests (ARGS="-k lease", JOBS=$(JOBS))'
	@echo 'make check       formatting, lint, types, import rules, and whether docs/asyncapi.json is what the code says'
	@echo 'make schema      write docs/asyncapi.json anew'
	@echo 'make bench       measure against the raw client'
	@echo 'make simulate    how soon the dead are found, and how it scales, beside other systems (ARGS="--only scaling")'
	@echo 'make loop        agents scaled under a load that rises and falls (ARGS="--shape step --seconds 60")'
	@echo 'make robustness  minutes of faults from a random seed (ARGS="--seed 7 --seconds 120")'
	@echo 'Each makes $(VENV) first, from Python 3.11 or newer (PYTHON=$(PYTHON)).'

# exec: the signal that stops make must reach the registry, not a shell in between.
up: $(VENV)/.runtime
	@exec $(VENV)/bin/agent-registry up $(ARGS)

cluster: $(VENV)/.runtime
	@exec $(VENV)/bin/python -m deploy.cluster $(ARGS)

test: $(VENV)/.dev
	@exec $(VENV)/bin/python -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

check: $(VENV)/.dev
	@$(VENV)/bin/ruff format --check --quiet --diff .
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary
	$(call quiet,$(VENV)/bin/lint-imports --no-logo)
	$(call quiet,$(PIP) check)
	@$(CONTRACT) | cmp -s - docs/asyncapi.json || { echo 'docs/asyncapi.json is not what the code says: make schema'; exit 1; }

schema: $(VENV)/.runtime
	@$(CONTRACT) > docs/asyncapi.json.new && mv docs/asyncapi.json.new docs/asyncapi.json

loop: $(VENV)/.dev
	@exec $(VENV)/bin/python -m tests.loop $(ARGS)

robustness: $(VENV)/.dev
	@exec $(VENV)/bin/python -m tests.robustness $(ARGS)

simulate: $(VENV)/.dev
	@exec $(VENV)/bin/python -m tests.simulation $(ARGS)

bench: $(VENV)/.dev
	@exec $(VENV)/bin/python -m bench $(ARGS)

# A stamp is touched last, so what failed half-way is done again.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo '$(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.12' >&2; exit 1; }
	@echo 'making $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made requirements.txt requirements-source.txt pyproject.toml
	@echo 'installing what requirements.txt pins'
	@$(INSTALL) -r requirements.txt
	@$(BUILD) -r requirements-source.txt
	@$(LINK)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	@echo 'installing what requirements-dev.txt pins'
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

# Muse. `make serve` and `make test` are the two commands; each sets up what it needs, once.
#
# PYTHON: the interpreter that the environment is made from (3.11 or newer).

PYTHON ?= python3
BIN := .venv/bin
WORKER := .venv-moshi/bin
# What is set up is set up by one `make` at a time; another waits, and finds it made.
SET_UP := $(PYTHON) requirements/one_at_a_time.py $(MAKE) --no-print-directory
# An environment gets its pip last: one without it was broken off.
MADE = test -x $(1)/bin/python && test -x $(1)/bin/pip || $(PYTHON) -m venv --clear $(1)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test test-models worker-moshi lint format bench models test-setup clean models-there tests-there
.NOTPARALLEL:

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

serve: models  ## Hold conversations: http://127.0.0.1:8000
	$(BIN)/python -m server

test: test-setup  ## Run all tests but those of test-models.
	$(BIN)/python -m pytest -m "not worker"

worker-moshi:  ## Set up the Moshi worker's own environment, with torch.
	+@$(SET_UP) .venv-moshi/.installed

test-models: test-setup  ## Run the tests of the speech models, in the worker's environment.
	+@$(SET_UP) .venv-moshi/.tests
	$(WORKER)/python -m pytest tests/models/moshi
	$(WORKER)/python -m mypy models/mimi.py models/moshi
	$(BIN)/python -m pytest -m worker

lint:  ## Check style, types and the direction of imports.
	+@$(SET_UP) .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format:  ## Bring the code into shape.
	+@$(SET_UP) .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: test-setup  ## Measure what docs/benchmarks.md shows.
	$(BIN)/python -m benchmarks

models:  ## Fetch the embedded models, about 250 MB, once.
	+@$(SET_UP) models-there

test-setup:  ## Set up what the tests need beyond the code.
	+@$(SET_UP) tests-there

clean:  ## Remove every environment, model and test recording.
	rm -rf .venv .venv-pipecat .venv-moshi .models .testdata .cache

models-there: .venv/.base
	$(BIN)/python -m models fetch

tests-there: .venv/.dev models-there .venv-pipecat/.installed
	$(BIN)/python -m models fetch whisper-base
	@sh tests/install_packages.sh
	$(BIN)/python -m benchmarks.fetch_recordings

.venv/.base: pyproject.toml requirements/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Muse needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(call MADE,.venv)
	$(PIP) --editable '.[embedded]'
	touch $@

.venv/.dev: .venv/.base
	$(PIP) --editable '.[embedded,dev]'
	touch $@

.venv-pipecat/.installed: requirements/pipecat.txt
	$(call MADE,.venv-pipecat)
	.venv-pipecat/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/pipecat.txt
	touch $@

.venv-moshi/.installed: requirements/worker-moshi.txt
	$(call MADE,.venv-moshi)
	$(WORKER)/python -m pip install --quiet --disable-pip-version-check --requirement requirements/worker-moshi.txt
	$(WORKER)/python -m pip install --quiet --disable-pip-version-check --no-deps moshi==0.2.13 --editable .
	touch $@

.venv-moshi/.tests: .venv-moshi/.installed requirements/worker-moshi-tests.txt
	$(WORKER)/python -m pip install --quiet --disable-pip-version-check --requirement requirements/worker-moshi-tests.txt
	touch $@

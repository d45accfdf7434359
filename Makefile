# Longtail: `make help` lists the targets. Needs Python 3.11, make and pip; everything else comes from PyPI.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
export LONGTAIL_HOME ?= $(CURDIR)/.longtail
export PYTHONUNBUFFERED := 1

.PHONY: help install demo rollout test exhaustive lint types alerts audit sbom proto proto-check format bench soak up down status clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Longtail needs Python 3.11, this is " + sys.version.split()[0] + "; name one: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --progress-bar on -c constraints.txt -e '.[training,dev]'
	@touch $@

install: $(VENV)/.installed ## create .venv with the pinned set

demo: install ## the whole path on real data, from raw transactions to ranked lists over gRPC
	@$(BIN)/longtail demo

rollout: install ## a search as a job of a Ray cluster of two nodes here, its winner released and served; says where each artefact lies
	@$(BIN)/longtail search rollout

test: install ## the whole suite, with real Triton, Feast and Ray
	$(BIN)/pytest -m 'not exhaustive' --numprocesses 2 --dist loadfile

exhaustive: install ## the long property runs
	$(BIN)/pytest -m exhaustive

lint: install ## ruff, format, buf, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd protos && ../$(BIN)/buf lint
	$(BIN)/lint-imports

types: install ## mypy, strict
	$(BIN)/mypy

alerts: install ## alert rules and their tests through promtool, from the PATH or Debian's package
	@$(BIN)/python -m deploy.promtool

audit: install ## known advisories against the pinned set; asks PyPI, and says so when it cannot
	@$(BIN)/python -m deploy.audit

sbom: install ## what the platform is made of, CycloneDX, under LONGTAIL_HOME
	@$(BIN)/python -m deploy.sbom "$(LONGTAIL_HOME)/sbom.cdx.json"

proto: install ## write protos/gen again
	$(BIN)/python protos/generate.py

proto-check: install ## fail if protos/gen is not what generate.py writes
	$(BIN)/python protos/generate.py --check

format: install ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## measure Rank against a running platform (`make up` first)
	@$(BIN)/longtail bench rank

MINUTES ?= 10
soak: install ## load and random faults on a running platform for MINUTES=10, then a verdict (`make up` first)
	@$(BIN)/longtail soak --minutes $(MINUTES)

up: install ## start the platform in the background
	@$(BIN)/longtail up

down: install ## stop it
	@$(BIN)/longtail down

status: install ## what runs
	@$(BIN)/longtail status

clean: ## stop the platform, remove the state directory (data, models, releases); keeps .venv
	@if [ -x "$(BIN)/longtail" ]; then "$(BIN)/longtail" down; fi
	rm -rf "$(LONGTAIL_HOME)"

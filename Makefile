# Each target sets up what it needs: `make demo` works on a fresh clone.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
READY := $(VENV)/.ready
PACKAGE := src/biddable

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check fix docs site pictures bench

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY) ## make .venv with the pinned dependencies

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY) ## base -> instruct -> comparison, in minutes on a CPU; ARGS="--method lora --seed 1"
	$(BIN)/biddable demo $(ARGS)

test: $(READY) ## the quick tests, offline, on two cores; ARGS="-k masks"
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-all: $(READY) ## the slow tests too, and the coverage gates
	$(BIN)/python -m pytest -m "not network and not gpu" --cov --cov-report= --cov-fail-under=90 $(ARGS)
	$(BIN)/python -m coverage report --fail-under=95 --include='$(PACKAGE)/data/*,$(PACKAGE)/models/loss.py,$(PACKAGE)/models/lora.py,$(PACKAGE)/evaluation/checks.py,$(PACKAGE)/evaluation/statistics.py'

check: $(READY) ## format, lint, types, reference pages in sync, changelog and version agree
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/reference.py --check

fix: $(READY) ## format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python scripts/reference.py

bench: $(READY) ## every benchmark, results into benchmarks/results; an hour or more on two quiet cores; LITGPT=python that has it
	$(BIN)/python benchmarks/data.py --write
	$(BIN)/python benchmarks/check.py --out benchmarks/results/check.json
	$(BIN)/python benchmarks/train.py --write
	$(if $(LITGPT),$(BIN)/python benchmarks/train_litgpt.py $(LITGPT) --write)
	$(BIN)/python benchmarks/plan.py --write
	$(BIN)/python benchmarks/generate.py --write
	$(BIN)/python benchmarks/serve.py --write
	$(BIN)/python benchmarks/soak.py --write
	$(BIN)/python benchmarks/export.py --write

docs: $(READY) ## write the generated reference pages
	$(BIN)/python scripts/reference.py

site: $(READY) docs ## build the documentation into site/; it opens from the disk
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

pictures: $(READY) ## draw the documentation's pictures again; RUN=runs/demo for the README's
	$(BIN)/python scripts/pictures.py $(if $(RUN),--run $(RUN))

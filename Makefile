# Every target makes what it needs: a fresh clone, Python 3.11 and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help quickstart results tables test lint types check format bench clean

help:           ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(VENV)/train.stamp   ## Distil a student in fifteen languages from a bundled teacher, minutes on two cores
	$(BIN)/nerdistill run configs/quickstart.toml

test: $(VENV)/dev.stamp           ## Run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp           ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp          ## Check types
	$(BIN)/mypy

check: lint types test            ## What continuous integration runs

format: $(VENV)/dev.stamp         ## Apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: $(VENV)/train.stamp      ## Write results/quickstart.json anew
	$(BIN)/nerdistill run configs/quickstart.toml --results results/quickstart.json

tables: $(VENV)/train.stamp       ## Bring the tables and pictures of README and docs/ up to date with results/
	$(BIN)/python -m nerdistill.evaluation.documents README.md docs/*.md

bench: $(VENV)/train.stamp        ## Words per second of student and teacher of the quickstart, side by side
	$(BIN)/nerdistill evaluate configs/quickstart.toml

clean:          ## Remove the environment and every run
	rm -rf $(VENV) runs dist

$(VENV)/pip.stamp: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	touch $@

$(VENV)/train.stamp: $(VENV)/pip.stamp pyproject.toml constraints.txt
	$(INSTALL) --editable ".[train,report]"
	touch $@

$(VENV)/dev.stamp: $(VENV)/train.stamp
	$(INSTALL) --group dev
	touch $@

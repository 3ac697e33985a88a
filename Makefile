# Every target makes what it needs: a fresh clone, Python 3.11 and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help quickstart results tables test lint types check format bench bench-tag clean

help:           ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(VENV)/train.stamp   ## Distil a student in fifteen languages from a bundled teacher, minutes on two cores
	$(BIN)/nerdistill run configs/quickstart.toml

test: $(VENV)/dev.stamp           ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

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

bench: $(VENV)/train.stamp        ## Student, teacher and spaCy of the quickstart side by side; which ratios moved
	$(BIN)/nerdistill distill configs/quickstart.toml
	$(BIN)/nerdistill benchmark-rival configs/quickstart.toml
	$(BIN)/nerdistill benchmark configs/benchmark_quickstart.toml --compare results/benchmark_quickstart.json

# Another student and other text: make bench-tag MODEL=runs/mine/bundle TEXT="'text/*.txt.gz'"
MODEL ?= runs/quickstart/bundle
TEXT ?= 'data/seed/*/unlabelled.txt'

bench-tag: $(VENV)/train.stamp    ## Tag a corpus of 1 GB: words per second, memory, and the same bytes after five kills
	$(BIN)/nerdistill bench-tag $(MODEL) $(TEXT) --size 1G --workers 2 --results results/tagging.json

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

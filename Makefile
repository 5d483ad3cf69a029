# Needs Python 3.11 with venv, and make. `make demo` and `make test` install what they need once, into .venv.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
PAPERS := spherefacer facenet maskinv ckd aikd

.PHONY: help install demo test test-slow lint format bench tables docs clean
.DEFAULT_GOAL := help

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

install: $(STAMP) ## create .venv with pinned dependencies and kdface itself

demo: $(STAMP) ## train, evaluate and draw a small model on generated faces (minutes, no data needed)
	$(BIN)/kdface train experiment=demo

test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(STAMP) ## the tests that take most of a minute each, or minutes: sweeps killed again and again
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure speed side by side, as ratios
	$(BIN)/python -m benchmarks

tables: $(STAMP) ## train and write the small tables and report of experiments/ (KDFACE_DATA=FOLDER; 3 hours on two cores, resumable)
	$(BIN)/kdface table $(PAPERS:%=experiments/%/small.yaml) --run --figures hydra.launcher.n_jobs=$(shell nproc)
	$(BIN)/kdface report runs $(PAPERS:%=experiments/%/small.yaml) -o runs/report.html

docs: $(STAMP) ## build the documentation site in build/site; a broken link is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]' -c constraints.txt
	$(BIN)/mkdocs build --strict

clean: ## remove .venv, caches and the demo's runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist runs/demo

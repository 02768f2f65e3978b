# Two commands: `make book` builds both languages, `make test` runs every check.
# Each sets up what it needs in .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
WHAT   ?= tests notebooks
export MPLBACKEND := Agg
PARALLEL := -n $(JOBS)
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=300 \
  --nbval-sanitize-with book/tools/sanitize.cfg

.DEFAULT_GOAL := help
.PHONY: help setup book test pytest check quick lint notebooks lab bench clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/installed: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[book,test,dev]"
	touch $@

setup: $(VENV)/installed  ## the virtual environment with the tested versions

book: setup  ## the book in both languages, in _build/html
	$(BIN)/python book/tools/build.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint book  ## every check: style, types, book, notebooks, library
	$(BIN)/python book/tools/browser.py
	$(MAKE) --no-print-directory pytest

pytest: setup  ## tests and notebooks alone, or those of WHAT
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WHAT) $(PARALLEL) $(NBVAL)

check: setup  ## all that concerns one stem, such as: make check F=vae
	$(BIN)/python book/tools/workshop.py check $(F)

quick: setup  ## style, types and the tests of what changed
	$(BIN)/python book/tools/workshop.py quick

notebooks: setup  ## run the English notebooks in place and bring the Chinese ones in step
	$(BIN)/python book/tools/notebooks.py run
	$(BIN)/python book/tools/notebooks.py sync

lab: setup  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

bench: setup  ## measurements against peers, side by side
	$(BIN)/python -m benchmarks

clean:
	rm -rf _build

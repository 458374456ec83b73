# All in an environment of their own, .venv; README.md says how to do without make.
PYTHON ?= python3
# By path, too: make of macOS looks up a command in the PATH from before this line.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
BIN := .venv/bin

.PHONY: help repro reproduce results results-check test test-slow bench lint

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: .venv/dropgpt  ## a trained model, its perplexity and its generations
	$(BIN)/python -m dvc repro
	@test "$$VIRTUAL_ENV" = "$(CURDIR)/.venv" || \
		echo 'Now `source .venv/bin/activate`: it gives you `dvc` and `dropgpt`.'

reproduce: .venv/dropgpt  ## every stage again; fails, naming the output, if a byte differs
	$(BIN)/python -m dropgpt.reproduce

results: .venv/dropgpt  ## what dropout does: the laboratory's missing runs, and RESULTS.md
	$(BIN)/python -m laboratory small

results-check: .venv/dropgpt  ## some of its runs again; fails where a number differs
	$(BIN)/python -m laboratory small --check

test: .venv/dropgpt-test  ## the tests
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

test-slow: .venv/dropgpt-test  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest tests/test_properties.py tests/training/test_checkpoint.py --hypothesis-profile search

bench: .venv/dropgpt-test  ## speed and memory, beside a peer's
	$(BIN)/python -m benchmarks

lint: .venv/dropgpt-test  ## format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# A file that comes last: Ctrl-C leaves a folder that is no environment yet.
.venv/made:
	$(PYTHON) -m venv .venv && touch $@ || { rm -rf .venv; exit 1; }

.venv/dropgpt: pyproject.toml constraints.txt | .venv/made
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	$(BIN)/python -m dropgpt.plots_page
	touch $@

.venv/dropgpt-test: .venv/dropgpt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

# All in an environment of their own, .venv; README.md says how to do without make.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help repro reproduce results results-check test test-slow bench lint

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: .venv/dropgpt  ## a trained model, its perplexity and its generations
	dvc repro
	@test "$$VIRTUAL_ENV" = "$(CURDIR)/.venv" || \
		echo 'Now `source .venv/bin/activate`: it gives you `dvc` and `dropgpt`.'

reproduce: .venv/dropgpt  ## every stage again; fails, naming the output, if a byte differs
	python -m dropgpt.reproduce

results: .venv/dropgpt  ## what dropout does: the laboratory's missing runs, and RESULTS.md
	python -m laboratory small

results-check: .venv/dropgpt  ## some of its runs again; fails where a number differs
	python -m laboratory small --check

test: .venv/dropgpt-test  ## the tests
	python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

test-slow: .venv/dropgpt-test  ## the tests that take minutes
	python -m pytest -m slow
	python -m pytest tests/test_properties.py tests/training/test_checkpoint.py --hypothesis-profile search

bench: .venv/dropgpt-test  ## speed and memory, beside a peer's
	python -m benchmarks

lint: .venv/dropgpt-test  ## format, lint and types
	ruff format --check
	ruff check
	mypy

.venv:
	$(PYTHON) -m venv .venv

.venv/dropgpt: pyproject.toml constraints.txt | .venv
	python -m pip install --quiet --constraint constraints.txt --editable .
	python -m dropgpt.plots_page
	touch $@

.venv/dropgpt-test: .venv/dropgpt
	python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

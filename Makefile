# Each target only wraps commands that README.md gives for those who keep their own environment.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test lint

repro: .venv/dropgpt  ## a trained model, its perplexity and its generations
	dvc repro

test: .venv/dropgpt-test  ## the tests
	python -m pytest

lint: .venv/dropgpt-test  ## format, lint and types
	ruff format --check
	ruff check
	mypy

.venv:
	$(PYTHON) -m venv .venv

.venv/dropgpt: pyproject.toml constraints.txt | .venv
	python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dropgpt-test: .venv/dropgpt
	python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

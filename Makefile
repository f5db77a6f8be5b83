# Needs git, make and Python 3.11 or 3.12; everything else goes into .venv.
NAMES := python3.11 python3.12 python3
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in $(NAMES); do "$$p" -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format docs clean

help:
	@echo "make demo      install, then run the demonstration into demo/"
	@echo "make install   install into .venv"
	@echo "make test      checks and fast tests"
	@echo "make test-all  checks, all tests, and the documentation with its gallery"
	@echo "make lint      checks only"
	@echo "make format    format the code"
	@echo "make docs      build the documentation into docs/_build/html"
	@echo "make clean     remove what was built, .venv included"

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || { test -n "$(PYTHON)" && "$(PYTHON)" -c '$(FITS)' 2>/dev/null; } || { \
		echo "nmm_infer needs Python 3.11 or 3.12: install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@echo "Installing into .venv (a few minutes the first time)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@$(PIP) install --upgrade pip
	@$(PIP) install -c constraints.txt -e ".[test]"
	@touch $@

.venv/.installed-docs: .venv/.installed
	@echo "Installing the documentation tools into .venv"
	@$(PIP) install -c constraints.txt -e ".[docs]"
	@touch $@

demo: install
	@$(BIN)/nmm-infer demo --output demo --overwrite

lint: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow"

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2
	$(MAKE) docs

format: install
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: .venv/.installed-docs
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html

clean:
	rm -rf .venv build dist demo *.egg-info docs/_build docs/gallery docs/api/generated
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

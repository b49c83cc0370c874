# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= runs/demo

.PHONY: demo test test-slow lint types fast clean

.venv/.installed: pyproject.toml
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/.installed
	$(BIN)/seelike compare --out $(OUT) --overwrite

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed
	$(BIN)/mypy

fast: .venv/.installed
	$(BIN)/pytest -q -x

test: lint types
	$(BIN)/pytest -n auto --maxprocesses 8

test-slow: .venv/.installed
	$(BIN)/pytest -m slow

clean:
	rm -rf .venv runs dist .pytest_cache .mypy_cache .ruff_cache

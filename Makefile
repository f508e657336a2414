# make demo    1,903 emoji learnt, searched and shown; minutes after the first installation
# make test    linter, formatter, type checker, tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MAKEFLAGS += --no-print-directory

.PHONY: demo test clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp
	$(BIN)/xmr demo

test: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest

clean:
	rm -rf $(VENV) demo.duckdb demo.duckdb.xmr demo.html demo.png

# one environment for both; installed anew where what is asked for has changed
$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]" --constraint constraints.txt
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; make PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

# make demo    1,903 emoji added, searched and shown; minutes after the first installation
# make test    linter, formatter, type checker, tests
# make test-clients    the SQL of a library in DuckDB 1.4, 1.5 and 2.0, SQLAlchemy, ibis, the command line and Node

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MAKEFLAGS += --no-print-directory

.PHONY: demo test test-clients clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp
	$(BIN)/xmr demo

test: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

CLIENTS := $(addprefix .clients/,duckdb-1.4 duckdb-1.5 duckdb-2.0 sqlalchemy ibis cli)
WANTED_sqlalchemy := duckdb-engine sqlalchemy
WANTED_ibis := 'ibis-framework[duckdb]'
WANTED_cli := duckdb-cli

test-clients: $(VENV)/dev.stamp $(CLIENTS) .clients/node
	$(BIN)/pytest -rs tests/clients

# duckdb-1.4 is DuckDB 1.4; a folder whose installation failed does not stay
$(CLIENTS): .clients/%:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet $(or $(WANTED_$*),'$(subst -,==,$*).*') || { rm -rf $@; exit 1; }

.clients/node:
	mkdir -p $@
	if command -v npm >/dev/null; then npm install --silent --prefix $@ @duckdb/node-api || { rm -rf $@; exit 1; }; else rmdir $@; fi

clean:
	rm -rf $(VENV) .clients demo.duckdb demo.duckdb.xmr demo.html demo.png demo-*

# one environment for both; installed anew where what is asked for has changed
$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]" --constraint constraints.txt
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; make PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

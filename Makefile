# make demo    1,903 emoji learnt, searched and shown; minutes after the first installation
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
	$(BIN)/pytest

test-clients: $(VENV)/dev.stamp $(addprefix .clients/,duckdb-1.4 duckdb-1.5 duckdb-2.0 sqlalchemy ibis cli) .clients/node
	$(BIN)/pytest -rs tests/clients

.clients/duckdb-%:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet "duckdb==$*.*"

.clients/sqlalchemy: WANTED = duckdb-engine sqlalchemy
.clients/ibis: WANTED = ibis-framework[duckdb]
.clients/cli: WANTED = duckdb-cli
.clients/sqlalchemy .clients/ibis .clients/cli:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet $(WANTED)

.clients/node:
	mkdir -p $@
	if command -v npm >/dev/null; then npm install --silent --prefix $@ @duckdb/node-api; else rmdir $@; fi

clean:
	rm -rf $(VENV) .clients demo.duckdb demo.duckdb.xmr demo.html demo.png

# one environment for both; installed anew where what is asked for has changed
$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]" --constraint constraints.txt
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; make PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

"""Statements of standard input, run by a client of this interpreter; rows to standard output. No xmr here.

The client is the argument: duckdb (if there is none), sqlalchemy through duckdb-engine, or ibis.
"""

import json
import sys

import duckdb


def runner(client, file):
    """What runs a statement, and the errors it raises."""
    if client == "sqlalchemy":
        import sqlalchemy

        engine = sqlalchemy.create_engine(f"duckdb:///{file}", connect_args={"read_only": True})

        def run_alone(statement):  # after an error, a transaction takes no more statements
            try:
                return connection.exec_driver_sql(statement)
            except sqlalchemy.exc.DBAPIError:
                connection.rollback()
                raise

        connection = engine.connect()
        return run_alone, sqlalchemy.exc.DBAPIError
    if client == "ibis":
        import ibis

        return ibis.duckdb.connect(file, read_only=True).raw_sql, duckdb.Error
    return duckdb.connect(file, read_only=True).execute, duckdb.Error


asked = json.load(sys.stdin)
run, errors = runner(sys.argv[1] if len(sys.argv) > 1 else "duckdb", asked["file"])
answers = []
for statement in asked["statements"]:
    try:
        answers.append([list(row) for row in run(statement).fetchall()])
    except errors as error:
        answers.append(str(getattr(error, "orig", error)).splitlines()[0])
assert "xmr_core" not in sys.modules
sys.stdout.write(json.dumps({"version": duckdb.__version__, "answers": answers}, default=str))

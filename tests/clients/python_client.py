"""Statements of standard input, run by a client of this interpreter; rows to standard output. No xmr here.

The client is the argument: duckdb (if there is none), sqlalchemy through duckdb-engine, or ibis.
"""

import json
import sys

import duckdb


def runner(client, file):
    """What gives the rows of a statement, and the errors it raises."""
    if client == "sqlalchemy":
        import sqlalchemy

        engine = sqlalchemy.create_engine(f"duckdb:///{file}", connect_args={"read_only": True})

        connection = engine.connect()

        def run_alone(statement):
            """In a transaction of its own: after an error it takes no more statements, and ATTACH goes with it."""
            try:
                rows = connection.exec_driver_sql(statement).fetchall()
                connection.commit()
                return rows
            except sqlalchemy.exc.DBAPIError:
                connection.rollback()
                raise

        return run_alone, sqlalchemy.exc.DBAPIError
    if client == "ibis":
        import ibis

        client = ibis.duckdb.connect(file, read_only=True)
        return lambda statement: client.raw_sql(statement).fetchall(), duckdb.Error
    plain = duckdb.connect(file, read_only=True)
    return lambda statement: plain.execute(statement).fetchall(), duckdb.Error


asked = json.load(sys.stdin)
run, errors = runner(sys.argv[1] if len(sys.argv) > 1 else "duckdb", asked["file"])
answers = []
for statement in asked["statements"]:
    try:
        answers.append([list(row) for row in run(statement)])
    except errors as error:
        answers.append(str(getattr(error, "orig", error)).splitlines()[0])
assert "xmr_core" not in sys.modules
sys.stdout.write(json.dumps({"version": duckdb.__version__, "answers": answers}, default=str))

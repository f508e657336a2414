"""The same through SQLAlchemy and duckdb-engine."""

import json
import sys

import duckdb
import sqlalchemy

asked = json.load(sys.stdin)
engine = sqlalchemy.create_engine(f"duckdb:///{asked['file']}", connect_args={"read_only": True})
answers = []
with engine.connect() as con:
    for statement in asked["statements"]:
        try:
            answers.append([list(row) for row in con.exec_driver_sql(statement).fetchall()])
        except sqlalchemy.exc.DBAPIError as error:
            answers.append(str(error.orig).splitlines()[0])
sys.stdout.write(json.dumps({"version": duckdb.__version__, "answers": answers}, default=str))

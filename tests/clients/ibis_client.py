"""The same through ibis."""

import json
import sys

import duckdb
import ibis

asked = json.load(sys.stdin)
con = ibis.duckdb.connect(asked["file"], read_only=True)
answers = []
for statement in asked["statements"]:
    try:
        answers.append([list(row) for row in con.raw_sql(statement).fetchall()])
    except duckdb.Error as error:
        answers.append(str(error).splitlines()[0])
sys.stdout.write(json.dumps({"version": duckdb.__version__, "answers": answers}, default=str))

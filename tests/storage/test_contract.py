"""The DuckDB store keeps the contract of stores."""

from xmr_core.testing import conformance

TestDuckDB = conformance("store", "duckdb")

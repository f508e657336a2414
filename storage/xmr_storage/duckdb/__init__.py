"""The DuckDB store, and what only DuckDB needs: its connection, macros, live functions, export and compaction."""

from xmr_core.testing import conformance

TestSQLite = conformance("store", "sqlite")

from xmr_core.testing import conformance

TestPivots = conformance("indexer", "pivots")

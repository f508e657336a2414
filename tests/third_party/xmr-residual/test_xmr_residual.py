from xmr_core.testing import conformance

TestResidual = conformance("indexer", "residual", config={"stages": 4})

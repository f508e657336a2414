"""Spreading vectors: Fuser `catalyzer`, a network that spreads vectors evenly over the unit sphere; Indexer `lattice`,
which stores them as numbers of lattice points; Fuser `pca`, the control without a network.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019.
"""

from __future__ import annotations

import xmr_core as xmr
from xmr_spreading.catalyzer import Catalyzer
from xmr_spreading.indexer import Lattice
from xmr_spreading.pca import Pca


@xmr.hookimpl
def xmr_fusers() -> list[type[xmr.Fuser]]:
    """The network, and the control."""
    return [Catalyzer, Pca]


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The lattice."""
    return [Lattice]

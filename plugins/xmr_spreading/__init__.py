"""Spreading vectors: Fuser `catalyzer`, a network that spreads vectors evenly over the unit sphere, Indexer `lattice`,
which stores them as numbers of lattice points, and Fuser `pca`, the control without a network.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019.
"""

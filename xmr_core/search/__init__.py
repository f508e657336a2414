"""Search: true distances, exact scans, re-ranking, and what indexers share."""

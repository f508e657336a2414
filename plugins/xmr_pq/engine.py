"""faiss, and no more of its threads than the work is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xmr_core import PluginError

__all__ = ["require_faiss", "threads"]


def require_faiss() -> Any:
    """The module faiss. Raises PluginError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise PluginError("pq needs faiss: pip install faiss-cpu") from error
    return faiss


@contextmanager
def threads(worth: bool) -> Iterator[None]:
    """Inside, faiss works in one thread unless more are `worth` it: on a busy machine, threads wait for one another far
    longer than a little work takes. It concerns the calling thread alone."""
    faiss = require_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before if worth else 1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)

"""Deep cross-modal hashing: pictures and texts to the same few bits. Source: Jiang & Li, CVPR 2017.

Two nets, one a modality, are trained so that similar items (that share a label; without labels, that belong together)
get similar codes whichever modality they are of. What is given are the nets' real outputs; `sign` makes them bits:

    dcmh(bits=64) >> sign >> hamming
"""

from __future__ import annotations

import xmr_core as xmr
from xmr_dcmh.cnnf import Cnnf
from xmr_dcmh.config import DcmhConfig
from xmr_dcmh.dcmh import Dcmh

__all__ = ["Cnnf", "Dcmh", "DcmhConfig"]


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """DCMH, and the picture network of its paper."""
    return [Dcmh, Cnnf]

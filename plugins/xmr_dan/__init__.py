"""Dual attention networks: Fuser `dan` (m-DAN) embeds pictures and sentences by what it attends to in each; Answerer
`rdan` (r-DAN) answers questions about pictures.

Source: Nam, Ha & Kim, "Dual Attention Networks for Multimodal Reasoning and Matching", CVPR 2017.
"""

from __future__ import annotations

import xmr_core as xmr
from xmr_dan.dan import Dan
from xmr_dan.rdan import Rdan


@xmr.hookimpl
def xmr_fusers() -> list[type[xmr.Fuser]]:
    """m-DAN."""
    return [Dan]


@xmr.hookimpl
def xmr_answerers() -> list[type[xmr.Answerer]]:
    """r-DAN."""
    return [Rdan]

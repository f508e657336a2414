"""Images and texts aligned without labels: from which captions belong to which images, over any pair of encoders.

`ridge` maps image vectors to text vectors in closed form, `cca` both to their most correlated directions, and
`contrastive` trains a small network for each modality. All take vectors of two different widths and many-to-many
links, and give vectors compared by cosine:

    each(image='lite0', text='minilm') >> ridge >> flat
    each(image='lite0', text=['minilm', 'bow(weighting="tfidf")']) >> contrastive >> itq(bits=256) >> hamming
"""

from __future__ import annotations

import xmr_core as xmr
from xmr_align.cca import Cca
from xmr_align.config import CcaConfig, ContrastiveConfig, RidgeConfig
from xmr_align.contrastive import Contrastive
from xmr_align.ridge import Ridge

__all__ = ["Cca", "CcaConfig", "Contrastive", "ContrastiveConfig", "Ridge", "RidgeConfig"]


@xmr.hookimpl
def xmr_fusers() -> list[type[xmr.Fuser]]:
    """The three ways to align."""
    return [Ridge, Cca, Contrastive]

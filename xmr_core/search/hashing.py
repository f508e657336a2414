"""What fusers that hash share: vectors centred by modality, projected, cut at zero, and packed into bits.

A linear hasher says what it learns from the centred vectors:

    class Difference(BitFuser):
        name = "difference"

        def learn(self, centred, pairs):
            images, texts = (vectors[pairs.links[:, i]] for i, vectors in enumerate(centred.values()))
            return {"projection": np.linalg.svd(images - texts)[2][-8:].T}  # the axes in which pairs differ least
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import C, Fuser
from xmr_core.errors import DataError
from xmr_core.types import IMAGE, TEXT, Embeddings, FeaturePairs, Features, Metric, as_vectors, pack_bits

__all__ = ["BitFuser"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class BitFuser(Fuser[C]):
    """A fuser that gives packed bits: bit j of x is 1 where ((x - centre) @ projection)_j >= 0, in float64.

    State: the centre (d,) of each modality that it was fitted on, under the modality's name; `projection` (d, bits),
    or `projection/image` and `projection/text` where each modality has its own; without one the numbers themselves
    are cut. What is learned about images and texts is centred apart: encoders seldom give both the same mean, and a
    common boundary would tell the modalities apart instead of what they show.
    """

    same_width: ClassVar[bool] = True  # False: images and texts may have different widths, each its own projection

    @property
    def metric(self) -> Metric:
        """hamming."""
        return "hamming"

    def centre(self, vectors: Floats) -> NDArray[Any]:
        """The centre (d,) of one modality's vectors (n, d): their mean."""
        mean: NDArray[Any] = vectors.mean(axis=0, dtype=np.float64)
        return mean

    def learn(self, centred: Mapping[str, Floats], pairs: FeaturePairs) -> Mapping[str, NDArray[Any]]:
        """What else the state holds, learned from centred vectors (n, d) by modality: the projections."""
        return {}

    def project(self, centred: Doubles, modality: str) -> Doubles:
        """(n, bits) numbers to cut at zero. Override where a hasher is not linear."""
        projection = self.state.get(f"projection/{modality}", self.state.get("projection"))
        return centred if projection is None else centred @ projection.astype(np.float64)

    def fit(self, pairs: FeaturePairs) -> Self:
        """A new hasher, fitted on whichever modalities there are. Raises DataError where there are none, or where
        their widths differ and may not."""
        sides = {side.modality: _vectors(side) for side in (pairs.images, pairs.texts) if len(side)}
        widths = sorted({vectors.shape[1] for vectors in sides.values()})
        if not widths or (self.same_width and len(widths) > 1):
            got = f"{' and '.join(map(str, widths))} dimensions" if widths else "nothing"
            raise DataError(f"images and texts: expected vectors of one width, got {got}")
        centres = {modality: self.centre(vectors).astype(np.float32) for modality, vectors in sides.items()}
        learned = self.learn({modality: vectors - centres[modality] for modality, vectors in sides.items()}, pairs)
        floats = {
            name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in learned.items()
        }
        return self.with_state({**centres, **floats})

    def fuse(self, features: Features) -> Embeddings:
        """Bits (n, bits / 8). Raises NotFittedError, DataError on a modality or width that was not fitted.

        Where it was fitted on one modality alone, as over images of which none has a caption, and both have one width,
        the other is centred and projected as that one: an encoder of both put them into one space.
        """
        self.require_fit()
        others = [self.state[modality] for modality in (IMAGE, TEXT) if modality in self.state and self.same_width]
        centre = self.state.get(features.modality, others[0] if others else None)
        if centre is None:
            raise DataError(f"{self.name} was fitted without {features.modality}s; fit again on pairs that have them")
        centred = _vectors(features, len(centre)).astype(np.float64) - centre  # float64: no row depends on its batch
        return self.cut(self.project(centred, features.modality))

    @staticmethod
    def cut(numbers: NDArray[Any]) -> Embeddings:
        """Packed bits of numbers (n, bits), 1 where one is zero or more. Raises DataError unless bits fill bytes."""
        return Embeddings(pack_bits(numbers >= 0), "hamming")


def _vectors(side: Features, dim: int | None = None) -> Floats:
    return as_vectors(side.vectors, f"{side.modality} features", dim)


def _single(array: NDArray[Any]) -> NDArray[Any]:
    """float32 in place of float64; arrays of other types as they are."""
    return array.astype(np.float32) if array.dtype == np.float64 else array

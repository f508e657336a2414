"""r-DAN: reasons over a picture and a question with one memory of both, and answers.

Source: Nam, Ha & Kim, "Dual Attention Networks for Multimodal Reasoning and Matching", CVPR 2017, section 3.3. Its
memory needs both sides, so it has no vector of either and no index: it answers, `each >> rdan`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Form
from xmr_dan.config import RdanConfig

if TYPE_CHECKING:
    from xmr_dan.joint import JointNetwork

__all__ = ["Rdan"]

QUESTIONS = 512  # answered at once


class Rdan(xmr.Answerer[RdanConfig]):
    """Regions and words to the probabilities of the most frequent answers.

    State: `answers` (a) str; the network under `net/`; `accuracy` (1,) on the pictures that were held out, NaN where
    none were.
    """

    name: ClassVar[str] = "rdan"
    accepts: ClassVar[Mapping[str, frozenset[Form]]] = {
        xmr.IMAGE: frozenset({"regions", "vector"}),
        xmr.TEXT: frozenset({"tokens"}),
    }
    encoder_wanted: ClassVar[str] = "each"

    @xmr.takes(RdanConfig)
    def __init__(self) -> None:
        self._network: JointNetwork | None = None  # made of the state where first needed

    @property
    def answers(self) -> NDArray[np.str_]:
        """(a,) most frequent first. Raises NotFittedError."""
        self.require_fit()
        return self.state["answers"]

    def fit(self, questions: xmr.QuestionFeatures) -> Self:
        """The network, trained on the questions; a fit that was killed goes on from its last checkpoint.

        Raises DataError where no answer occurs twice or all are one, ConfigError where the loss stops being finite.
        """
        from xmr_dan.rdan_training import train

        return self.with_state(train(questions, self.config))

    def answer(self, questions: xmr.QuestionFeatures) -> NDArray[np.float32]:
        """(n, a). Raises DataError where the features are those of another model, NotFittedError."""
        self.require_fit()
        probabilities = np.empty((len(questions), len(self.answers)), np.float32)
        for rows, (scores, *_) in self._outputs(questions):
            probabilities[rows] = scores.softmax(dim=1).cpu().numpy()
        return probabilities

    def attention(self, questions: xmr.QuestionFeatures) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """(n, steps, r) and (n, steps, t); None where there are no steps."""
        self.require_fit()
        if not self.config.steps:
            return None
        n, steps = len(questions), self.config.steps
        sides = tuple(
            np.zeros((n, steps, side.values.shape[1]), np.float32) for side in (questions.images, questions.questions)
        )
        for rows, (_, *weights) in self._outputs(questions):
            for side, of_steps in zip(sides, weights, strict=True):
                for step, of_items in enumerate(of_steps):
                    side[rows, step, : of_items.shape[1]] = of_items.cpu().numpy()
        return sides[0], sides[1]

    def _outputs(self, questions: xmr.QuestionFeatures) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Positions of questions and what the network gives for them, block by block; those of a picture together."""
        import torch

        from xmr_dan.rdan_training import Inputs

        network = self._loaded()
        device = next(network.parameters()).device
        inputs = Inputs(questions)
        inputs.check(network)
        order = np.argsort(questions.image_of, kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), QUESTIONS):
                rows = order[start : start + QUESTIONS]
                yield rows, network(inputs.batch(rows, device))

    def _loaded(self) -> JointNetwork:
        if self._network is None:
            from xmr_dan.rdan_training import stored

            self._network = stored(self.state, self.config)
        return self._network

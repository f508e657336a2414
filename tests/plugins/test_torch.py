"""The bench for networks: devices, random numbers, arrays, rates, pairs, and the training loop."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import xmr_core as xmr
from xmr_core.progress import Run, use_run
from xmr_torch import rates
from xmr_torch.arrays import arrays, optimiser_arrays, restore_optimiser, tensors
from xmr_torch.computing import device, has_bfloat16, outputs, randomness
from xmr_torch.pairs import hashing_map, shuffled
from xmr_torch.trainer import Trainer

Rows = NDArray[np.int64]


# devices


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "gpus", "found"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, found: str) -> None:
    with_gpus(monkeypatch, gpus)
    assert str(device(name)) == found


@pytest.mark.parametrize("name", ["", "potato", "cuda:-7", "cuda:x", "meta", "ipu"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(xmr.ConfigError, match=f"device='{name}': must be auto, cpu, cuda"):
        device(name)


@pytest.mark.parametrize(
    ("name", "gpus", "message"), [("cuda", 0, "there is no GPU that torch can use"), ("cuda:2", 2, "can use 2 of them")]
)
def test_an_absent_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, message: str) -> None:
    with_gpus(monkeypatch, gpus)
    with pytest.raises(xmr.ConfigError, match=message):
        device(name)


def test_precision_is_known_of_every_device() -> None:
    assert has_bfloat16(torch.device("cpu")) in (True, False)
    assert not has_bfloat16(torch.device("mps"))


def test_random_numbers_come_from_the_seed_and_leave_the_global_ones_alone() -> None:
    before = torch.random.get_rng_state()
    drawn = []
    for seed in (3, 3, 4):
        with randomness(seed, torch.device("cpu")):
            drawn.append(torch.rand(5))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.random.get_rng_state(), before)


# arrays


def test_arrays_and_tensors_are_inverse_and_share_no_memory() -> None:
    named = {"a": torch.arange(3.0), "b": torch.tensor(7)}
    made = arrays(named)
    made["a"] += 1
    back = tensors(made)
    made["a"] += 1
    assert named["a"].tolist() == [0, 1, 2] and back["a"].tolist() == [1, 2, 3] and back["b"].item() == 7


@pytest.mark.parametrize(
    "new", [torch.optim.Adam, lambda p: torch.optim.SGD(p, momentum=0.9), torch.optim.SGD, torch.optim.AdamW]
)
def test_an_optimiser_goes_on_from_its_arrays(new: Any) -> None:
    ways = []
    for restored in (False, True):
        weights = nn.Parameter(torch.tensor([3.0, -2.0]))
        optimiser = new([weights])
        for step in range(4):
            if restored and step == 2:
                kept = optimiser_arrays(optimiser)
                optimiser = new([weights])
                restore_optimiser(optimiser, kept)
            optimiser.zero_grad()
            torch.autograd.backward(weights.square().sum())
            optimiser.step()
        ways.append(weights.detach())
    assert torch.equal(*ways)


def test_outputs_are_those_of_evaluation_whatever_the_block() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9))
    x = np.random.default_rng(0).standard_normal((10, 4)).astype("f4")
    whole = outputs(network, x)
    np.testing.assert_allclose(outputs(network, x, block=3), whole, atol=1e-6)
    np.testing.assert_allclose(whole, network[0](torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    assert outputs(network, x[:0]).shape == (0, 3)


# rates, pairs


def test_rates_go_up_and_come_down() -> None:
    cycle = [rates.one_cycle(step / 100) for step in range(100)]
    assert cycle[0] == 0.02 and max(cycle) > 0.98 and cycle[-1] < 0.001
    assert [rates.cosine(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [rates.halves(p) for p in (0, 0.49, 0.5)] == [1, 1, 0.1]
    assert [rates.steps(p, (4, 2, 1)) for p in (0, 0.34, 0.99, 1)] == [4, 2, 1, 1]
    assert [rates.geometric(p, 0.01) for p in (0, 0.5, 1)] == pytest.approx([1, 0.1, 0.01])


def test_shuffled_batches_hold_each_position_once() -> None:
    batches = shuffled(10, 4, np.random.default_rng(0))
    assert [len(rows) for rows in batches] == [4, 4, 2]
    assert sorted(np.concatenate(batches)) == list(range(10))


def test_codes_that_agree_with_similarity_have_a_map_of_one() -> None:
    signs = np.repeat(np.array([[1, -1], [-1, 1]], np.float32), 4, axis=1)[[0, 1, 0, 1]]  # (4, 8)
    similar = torch.from_numpy(np.array([[1, 0, 1, 0], [0, 1, 0, 1]] * 2, np.float32))
    found = hashing_map(signs, signs, lambda at: similar[torch.from_numpy(at)])
    assert found == {"map_image_to_text": 1.0, "map_text_to_image": 1.0}


# the loop


class Line(Trainer[Rows]):
    """A line through points; validation gives `scores`, an epoch after the other."""

    def __init__(self, epochs: int = 4, scores: tuple[float, ...] = (), rate: float = 0.05) -> None:
        rng = np.random.default_rng(0)
        self.x = torch.from_numpy(rng.standard_normal((40, 3)).astype("f4"))
        self.y = self.x @ torch.tensor([[1.0], [-2.0], [0.5]])
        self.scores, self.seen = scores, 0
        with randomness(0, torch.device("cpu")):
            network = nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 1))
        super().__init__("line", network, torch.optim.Adam(network.parameters()), epochs, rate, seed=1)

    def batches(self, rng: np.random.Generator) -> list[Rows]:
        return shuffled(len(self.x), 16, rng)

    def loss(self, batch: Rows) -> dict[str, Tensor]:
        error = self.network(self.x[batch]) - self.y[batch]
        return {"loss": error.square().mean(), "bias": error.mean()}

    def validate(self) -> dict[str, float]:
        return {"score": self.scores[self.epoch]} if self.scores else {}

    def end_epoch(self) -> None:
        self.seen += 1

    def extra(self) -> dict[str, NDArray[Any]]:
        return {"seen": np.array(self.seen)}

    def restore_extra(self, kept: Mapping[str, NDArray[Any]]) -> None:
        self.seen = int(kept["seen"])

    @property
    def weights(self) -> NDArray[np.float32]:
        return arrays(self.network.state_dict())["1.weight"]


class Diary(Run):
    """A run that keeps what it is told, and may be killed at a checkpoint."""

    def __init__(self, lives: int = 1000) -> None:
        self.figures: list[Mapping[str, float]] = []
        self.kept: dict[str, NDArray[Any]] | None = None
        self.checkpoints, self.lives = 0, lives

    def log(self, what: str, step: int, **figures: float) -> None:
        self.figures.append(figures)

    def checkpoint(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.kept = {name: np.array(array) for name, array in arrays.items()}
        self.checkpoints += 1
        if self.checkpoints == self.lives:
            raise KeyboardInterrupt

    def restore(self) -> dict[str, NDArray[Any]] | None:
        return self.kept


def test_a_line_is_found_and_every_epoch_is_logged() -> None:
    with use_run(Diary()) as diary:
        line = Line(epochs=40)
        line.train()
    assert diary.figures[-1]["loss"] < diary.figures[0]["loss"] / 3
    assert set(diary.figures[0]) == {"loss", "bias"} and len(diary.figures) == 40
    assert not line.network.training


def test_a_killed_training_resumes_to_the_same_end() -> None:
    scores = (0.1, 0.5, 0.2, 0.4, 0.3)
    whole, resumed = Line(5, scores), Line(5, scores)
    whole.train()
    with use_run(Diary(lives=3)):
        with pytest.raises(KeyboardInterrupt):
            Line(5, scores).train()
        resumed.train()
    assert np.array_equal(resumed.weights, whole.weights)
    assert (resumed.seen, resumed.score, resumed.best_epoch) == (5, 0.5, 1)


def test_a_training_that_had_ended_is_not_repeated() -> None:
    with use_run(Diary()) as diary:
        Line(3).train()
        again = Line(3)
        again.train()
    assert len(diary.figures) == 3 and again.seen == 3


def test_the_best_epoch_is_kept_the_first_where_several_are() -> None:
    best, last = Line(4, (0.1, 0.7, 0.7, 0.2)), Line(4)
    best.train(), last.train()
    assert best.best_epoch == 1 and not np.array_equal(best.weights, last.weights)


def test_checkpoints_are_few() -> None:
    with use_run(Diary()) as diary:
        Line(25).train()
    assert diary.checkpoints == 8  # one in three epochs


def test_groups_have_their_share_of_the_rate() -> None:
    line = Line(1)
    line.optimiser.param_groups[0]["share"] = 0.1
    line.train()
    assert line.optimiser.param_groups[0]["lr"] == pytest.approx(0.005)


def test_the_global_random_numbers_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    Line(2).train()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_loss_that_is_not_finite_stops_the_training_at_once() -> None:
    line = Line(3, rate=0.07)
    line.y[:] = torch.inf
    with pytest.raises(xmr.ConfigError, match=r"line: the loss is inf in epoch 1; a lower rate than 0\.07 "):
        line.train()
    assert line.seen == 0


@pytest.mark.parametrize(
    ("scores", "warning"),
    [
        ((0.1, 0.2, 0.3), "validation still rose in the last epoch, from 0.2 to 0.3; more than 3 epochs"),
        ((0.3, 0.2, 0.1), "validation never rose after the first epoch, 0.3, to 0.1; a lower rate"),
        ((0.1, 0.3, 0.301), ""),
        ((0.1, 0.3, 0.2), ""),
        ((0.3, 0.3, 0.3), ""),
        ((), ""),
    ],
)
def test_a_training_whose_scores_look_wrong_says_so(
    scores: tuple[float, ...], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "xmr.training"):
        Line(3, scores).train()
    assert len(caplog.messages) == bool(warning) and all(warning in message for message in caplog.messages)


def test_the_package_and_the_protocol_load_no_torch() -> None:
    code = "import sys, xmr_torch, xmr_torch.tunable; assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0

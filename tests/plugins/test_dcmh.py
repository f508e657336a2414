"""DCMH: the objective against hand-made numbers and finite differences, the schedule, and what comes of a fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core import measures, registry
from xmr_core.progress import Run, use_run
from xmr_core.testing import conformance
from xmr_dcmh import Cnnf, Dcmh
from xmr_torch.tunable import TunableEncoder

torch = pytest.importorskip("torch")
from xmr_dcmh import fitting, nets, objective, training  # noqa: E402  (they import torch)
from xmr_torch.pairs import similarities, split  # noqa: E402

SMALL = {"image": "precomputed(dim=20)", "text": "precomputed(dim=15)", "hidden": 64, "bits": 16, "rate": 0.01}
N, C = 12, 5
GAMMA, ETA = 0.7, 0.3

TestDcmh = conformance(
    "encoder", "dcmh", config={"bits": 16, "hidden": 32, "epochs": 2, "validation": 5, "device": "cpu"}
)


def synthetic(n: int = 200, topics: int = 4, seed: int = 0) -> xmr.Pairs:
    """n pairs of vectors (20 and 15 numbers) about one topic each, which is their label."""
    rng = np.random.default_rng(seed)
    labels = np.eye(topics, dtype=np.uint8)[np.arange(n) % topics]
    images, texts = (
        (labels @ rng.standard_normal((topics, dim)) + 0.3 * rng.standard_normal((n, dim))).astype(np.float32)
        for dim in (20, 15)
    )
    links = np.stack([np.arange(n)] * 2, axis=1)
    names = [str(topic) for topic in range(topics)]
    return xmr.Pairs(
        xmr.Items(xmr.IMAGE, images, labels=labels), xmr.Items(xmr.TEXT, texts, labels=labels), links, names
    )


def mean_ap(dcmh: Dcmh, pairs: xmr.Pairs) -> tuple[float, float]:
    """MAP of picture to text and of text to picture among the pairs' own items."""
    codes = [
        xmr.Embeddings(xmr.pack_bits(dcmh.encode(items).vectors >= 0), "hamming")
        for items in (pairs.images, pairs.texts)
    ]
    labels = pairs.images.labels
    assert labels is not None
    image, text = codes
    return (
        measures.mean_average_precision(measures.between(image, text), labels, labels),
        measures.mean_average_precision(measures.between(text, image), labels, labels),
    )


class Diary(Run):
    """A run that keeps what it is told, and may be killed after an epoch's checkpoint."""

    def __init__(self, killed_after: int | None = None) -> None:
        self.epochs: list[Mapping[str, float]] = []
        self.saved: dict[str, NDArray[Any]] | None = None
        self.killed_after = killed_after

    def log(self, what: str, step: int, **figures: float) -> None:
        self.epochs.append(figures)

    def checkpoint(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.saved = {name: np.array(array) for name, array in arrays.items()}
        if self.killed_after and arrays["epoch"] >= self.killed_after:
            raise KeyboardInterrupt

    def restore(self) -> dict[str, NDArray[Any]] | None:
        return self.saved


# the objective


@pytest.fixture
def sides() -> SimpleNamespace:
    """F, G (12, 5) at random, their B, and an S of 0 and 1; float64."""
    random = torch.Generator().manual_seed(0)
    F, G = (torch.randn(N, C, generator=random, dtype=torch.float64) for _ in "FG")
    S = (torch.rand(N, N, generator=random) < 0.3).double()
    return SimpleNamespace(F=F, G=G, B=objective.codes(F, G), S=S)


def test_the_objective_of_one_pair_and_one_bit_is_what_a_hand_gives() -> None:
    F, G, B, S = (torch.tensor([[value]], dtype=torch.float64) for value in (2, 1, 1, 1))
    likelihood = np.log(1 + np.e) - 1  # Theta = 2 * 1 / 2 = 1
    assert float(objective.total(F, G, B, S, gamma=3, eta=5)) == pytest.approx(likelihood + 3 * (1 + 0) + 5 * (4 + 1))


def by_hand(own: Any, other: Any, B: Any, S: Any) -> Any:
    """The gradient of J in `own`, in closed form."""
    theta = own @ other.T / 2
    return (torch.sigmoid(theta) - S) @ other / 2 + 2 * GAMMA * (own - B) + 2 * ETA * own.sum(dim=0)


@pytest.mark.parametrize("side", ["F", "G"])
def test_gradients_agree_with_finite_differences(sides: SimpleNamespace, side: str) -> None:
    def objective_at(change: Any) -> float:
        moved = {"F": sides.F, "G": sides.G, side: getattr(sides, side) + change}
        return float(objective.total(moved["F"], moved["G"], sides.B, sides.S, GAMMA, ETA))

    own, other, S = (sides.F, sides.G, sides.S) if side == "F" else (sides.G, sides.F, sides.S.T)
    gradient = by_hand(own, other, sides.B, S)
    step = 1e-5
    for i, k in np.ndindex(N, C):
        change = torch.zeros(N, C, dtype=torch.float64)
        change[i, k] = step
        assert (objective_at(change) - objective_at(-change)) / (2 * step) == pytest.approx(
            float(gradient[i, k]), abs=1e-6
        )


def test_a_batch_has_the_gradient_of_the_whole_in_its_rows(sides: SimpleNamespace) -> None:
    rows = torch.tensor([7, 2, 9])
    live = sides.F[rows].clone().requires_grad_()
    rest = sides.F.sum(dim=0) - sides.F[rows].sum(dim=0)
    loss = objective.minibatch(live, sides.G, sides.B[rows], rest, sides.S[rows], GAMMA, ETA)
    (gradient,) = torch.autograd.grad(loss, live)
    expected = by_hand(sides.F, sides.G, sides.B, sides.S)[rows] / (len(rows) * N)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=1e-12)


def test_the_objective_stays_finite_where_exp_does_not() -> None:
    F, G = torch.tensor([[20.0], [-20.0]]), torch.tensor([[20.0], [20.0]])  # Theta = 200, -200
    loss = objective.negative_likelihood(F, G, torch.zeros(2, 2))
    assert float(loss) == pytest.approx(400)


def test_learning_b_never_raises_the_objective(sides: SimpleNamespace) -> None:
    random = torch.Generator().manual_seed(1)
    best = objective.total(sides.F, sides.G, sides.B, sides.S, GAMMA, ETA)
    for _ in range(50):
        other = torch.randint(0, 2, (N, C), generator=random).double() * 2 - 1
        assert best <= objective.total(sides.F, sides.G, other, sides.S, GAMMA, ETA)


def test_the_sign_of_zero_is_plus_one() -> None:
    zero = torch.zeros(1, 1)
    assert float(objective.codes(zero, zero)) == 1


def test_rows_of_s_are_those_of_the_whole() -> None:
    pairs = synthetic(20)
    assert pairs.labels is not None
    whole = measures.share_label(pairs.labels, pairs.labels)
    similar = similarities(pairs.links, pairs.labels, torch.device("cpu"))
    at = np.array([3, 17, 4])
    np.testing.assert_array_equal(similar(at).numpy(), whole[at])


def test_without_labels_pairs_of_one_picture_or_one_text_are_similar() -> None:
    links = np.array([[0, 0], [0, 1], [1, 1], [2, 2]])
    similar = similarities(links, None, torch.device("cpu"))
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(similar(np.arange(4)).numpy(), expected)


# the schedule


def plan(**changes: Any) -> training.Schedule:
    return dataclasses.replace(fitting.schedule(Dcmh(**SMALL).config), **changes)


def new_sides(pairs: xmr.Pairs, **options: Any) -> tuple[training.Side, training.Side]:
    """Both sides with new nets and full buffers."""
    torch.manual_seed(0)
    dcmh = Dcmh(**{**SMALL, **options})
    image, text = (fitting._side(dcmh, items, pairs.links[:, i]) for i, items in enumerate((pairs.images, pairs.texts)))
    for side in (image, text):
        side.fill()
    return image, text


def step(pairs: xmr.Pairs, image: training.Side, text: training.Side, rows: NDArray[np.int64]) -> None:
    """One step of the image net, on these pairs."""
    similar = similarities(pairs.links, pairs.labels, torch.device("cpu"))
    alternating = training.Alternating((image, text), similar, plan(), seed=0)
    alternating.batches(np.random.default_rng(0))
    alternating._step((image, text, rows))


def test_a_step_of_one_net_leaves_the_other_buffer_alone() -> None:
    pairs = synthetic(30)
    image, text = new_sides(pairs)
    before, rows = text.buffer.clone(), np.arange(8)
    step(pairs, image, text, rows)
    image.buffer += 1
    torch.testing.assert_close(text.buffer, before, rtol=0, atol=0)


def test_a_step_refreshes_the_rows_of_its_batch_with_what_the_net_said_before_it() -> None:
    pairs = synthetic(30)
    image, text = new_sides(pairs, dropout=0.0)
    said, rows = image.outputs(np.arange(30)), np.array([4, 20, 7])
    image.buffer.zero_()
    step(pairs, image, text, rows)
    torch.testing.assert_close(image.buffer[rows], said[rows], rtol=0, atol=1e-6)
    assert int((image.buffer.abs().sum(dim=1) > 0).sum()) == len(rows)
    assert not torch.allclose(image.outputs(rows), said[rows])


@pytest.mark.parametrize(("n", "sizes"), [(10, [4, 4, 2]), (3, [3])])
def test_a_quick_epoch_sees_each_pair_once(n: int, sizes: list[int]) -> None:
    batches = list(training.drawn(np.random.default_rng(0), n, plan(batch=4)))
    assert [len(batch) for batch in batches] == sizes
    assert sorted(np.concatenate(batches)) == list(range(n))


def test_the_papers_epoch_draws_each_batch_afresh_without_repeats_inside() -> None:
    batches = list(training.drawn(np.random.default_rng(0), 10, plan(batch=4, partition=False)))
    assert [len(set(batch)) for batch in batches] == [4, 4, 4]


def test_the_papers_schedule_is_the_authors() -> None:
    made = fitting.schedule(Dcmh(schedule="paper").config)
    assert (made.epochs, made.batch, made.partition) == (500, 128, False)
    assert made.rates[[0, -1]] == pytest.approx([10**-1.5, 10**-3])
    (group,) = made.optimiser([torch.nn.Parameter(torch.ones(1))]).param_groups
    assert (group["momentum"], group["weight_decay"]) == (0, 5e-4)


# fits


@pytest.fixture(scope="module")
def learnt() -> tuple[Dcmh, Diary]:
    """A fit on 200 pairs, and what it wrote down."""
    with use_run(Diary()) as diary:
        return Dcmh(**SMALL, epochs=20, validation=40).fit(synthetic()), diary


def test_two_hundred_pairs_are_learnt_by_heart() -> None:
    dcmh = Dcmh(**SMALL, epochs=30, validation=0, dropout=0.0).fit(synthetic())
    assert min(mean_ap(dcmh, synthetic())) > 0.99


def test_the_papers_schedule_learns_too() -> None:
    options = {**SMALL, "rate": 1.0}  # the authors' is for thousands of pairs
    dcmh = Dcmh(**options, schedule="paper", epochs=60, batch=32, validation=0, dropout=0.0).fit(synthetic())
    assert min(mean_ap(dcmh, synthetic())) > 0.9


def test_the_log_tells_loss_validation_and_use_of_bits_of_each_epoch(learnt: tuple[Dcmh, Diary]) -> None:
    _, diary = learnt
    assert len(diary.epochs) == 20
    assert set(diary.epochs[0]) == {
        "loss", "map_image_to_text", "map_text_to_image",
        "image_imbalance", "text_imbalance", "image_codes", "text_codes",
    }  # fmt: skip
    assert diary.epochs[-1]["loss"] < diary.epochs[0]["loss"]
    assert diary.epochs[-1]["map_image_to_text"] > 0.9
    assert all(0 <= epoch["text_imbalance"] <= 1 for epoch in diary.epochs)


def test_the_best_epoch_is_kept(learnt: tuple[Dcmh, Diary]) -> None:
    dcmh, diary = learnt
    pairs = synthetic()
    best = max((e["map_image_to_text"] + e["map_text_to_image"]) / 2 for e in diary.epochs)
    _, held_out = split(pairs.links, 40, seed=0)
    kept = xmr.Pairs(
        pairs.images.take(held_out), pairs.texts.take(held_out), pairs.links[: len(held_out)], pairs.label_names
    )
    assert np.mean(mean_ap(dcmh, kept)) == pytest.approx(best)


@pytest.mark.parametrize("schedule", ["quick", "paper"])
def test_a_fit_that_was_killed_goes_on_to_the_same_end(schedule: str) -> None:
    dcmh = Dcmh(**SMALL, schedule=schedule, epochs=10, validation=20)
    pairs = synthetic(100)
    killed = Diary(killed_after=4)
    with pytest.raises(KeyboardInterrupt), use_run(killed):
        dcmh.fit(pairs)
    killed.killed_after = None
    with use_run(killed):
        resumed = dcmh.fit(pairs)
    assert len(killed.epochs) == 10
    assert resumed.fingerprint() == dcmh.fit(pairs).fingerprint()


def test_another_seed_gives_other_codes() -> None:
    first, second = (Dcmh(**SMALL, epochs=2, seed=seed).fit(synthetic(50)) for seed in (0, 1))
    assert first.fingerprint() != second.fingerprint()


def test_without_labels_a_picture_finds_its_sentences() -> None:
    pairs = synthetic(60, topics=12)
    texts = xmr.Items(xmr.TEXT, pairs.texts.data)
    grouped = np.stack([np.arange(60) % 12, np.arange(60)], axis=1)  # twelve pictures, five sentences each
    linked = xmr.Pairs(xmr.Items(xmr.IMAGE, pairs.images.data[:12]), texts, grouped)
    dcmh = Dcmh(**SMALL, epochs=60, validation=0, dropout=0.0).fit(linked)
    image, text = (dcmh.encode(items).vectors >= 0 for items in (linked.images, linked.texts))
    distances = (image[:, None] != text[None]).sum(axis=2)  # (12, 60)
    assert (distances.argmin(axis=1) % 12 == np.arange(12)).mean() > 0.9


def test_pairs_of_one_picture_are_held_out_together() -> None:
    pairs = synthetic(60)
    grouped = xmr.Pairs(
        pairs.images, pairs.texts, np.stack([np.arange(60) // 5, np.arange(60)], axis=1), pairs.label_names
    )
    learn, held_out = split(grouped.links, validation=10, seed=0)
    assert len(held_out) == 10
    assert not set(learn // 5) & set(held_out // 5)
    assert sorted([*learn, *held_out]) == list(range(60))


def test_validation_takes_a_fifth_of_the_pictures_at_most() -> None:
    learn, held_out = split(synthetic(50).links, validation=1000, seed=0)
    assert (len(learn), len(held_out)) == (40, 10)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(xmr.DataError, match="got 9 pairs to learn from, at least 10"):
        Dcmh(**SMALL, validation=0).fit(synthetic(9))


def test_a_loss_that_is_no_number_stops_the_fit() -> None:
    with pytest.raises(xmr.ConfigError, match=r"the loss is \w+ in epoch \d+; a lower rate"):
        Dcmh(**{**SMALL, "rate": 1e20}, epochs=20).fit(synthetic(50))


def test_the_text_encoder_is_fitted_inside_and_kept_in_the_state(pairs: xmr.Pairs) -> None:
    vectors = xmr.Items(xmr.IMAGE, np.tile(np.eye(20, dtype=np.float32)[:4], (5, 1)), labels=np.tile(np.eye(4), (5, 1)))
    texts = xmr.Items(xmr.TEXT, [f"{what} number {i}" for i in range(5) for what in ("red", "green", "blue", "white")])
    links = np.stack([np.arange(20)] * 2, axis=1)
    options = {**SMALL, "text": "bow(min_count=5)", "epochs": 2}
    dcmh = Dcmh(**options).fit(xmr.Pairs(vectors, texts, links, list("rgbw")))
    assert sorted(dcmh.state["text/words"]) == ["blue", "green", "number", "red", "white"]
    assert dcmh.encode(texts).vectors.shape == (20, 16)


def test_the_fingerprint_knows_the_encoders_it_stands_on() -> None:
    plain, other = Dcmh(**SMALL), Dcmh(**{**SMALL, "text": "precomputed(dim=15, metric='l2')"})
    assert plain.weights_digest() != other.weights_digest()


# a picture network that is trained whole


class Small(xmr.Encoder):
    """A picture as its mean colour; its network is one linear layer of the pixels' means."""

    name: ClassVar[str] = "small"
    needs_fit: ClassVar[bool] = False
    forms: ClassVar[Mapping[str, Any]] = {xmr.IMAGE: "vector"}
    feature_dim: ClassVar[int] = 3

    def network(self, pretrained: bool = True) -> Any:
        linear = torch.nn.Linear(3, 3)
        if pretrained:
            torch.nn.init.eye_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), linear)

    def pixels(self, items: xmr.Items) -> NDArray[np.float32]:
        return np.stack([np.asarray(item, np.float32).transpose(2, 0, 1) / 255 for item in items.data])

    def encode(self, items: xmr.Items) -> xmr.Features:
        return xmr.Features.of_vectors(xmr.IMAGE, self.pixels(items).mean(axis=(2, 3)))


@pytest.fixture
def small() -> Iterator[None]:
    """`small` can be named in a recipe."""
    registry.add(Small)
    yield
    registry.remove(Small)


@pytest.mark.usefixtures("small")
def test_a_tuned_network_is_trained_and_kept_in_the_state() -> None:
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.uint8)[np.arange(60) % 3]
    pictures = [(rng.integers(0, 60, (4, 4, 3)) + 150 * label).astype(np.uint8) for label in labels]
    texts = np.repeat(labels, 5, axis=1).astype(np.float32)
    links = np.stack([np.arange(60)] * 2, axis=1)
    items = xmr.Items(xmr.IMAGE, pictures, labels=labels), xmr.Items(xmr.TEXT, texts, labels=labels)
    pairs = xmr.Pairs(*items, links, list("rgb"))
    options = {**SMALL, "image": "small", "tune": True, "epochs": 20, "validation": 0, "dropout": 0.0}
    dcmh = Dcmh(**options).fit(pairs)
    assert not np.allclose(dcmh.state["net/image/backbone.2.weight"], np.eye(3))
    assert min(mean_ap(dcmh, pairs)) > 0.99
    loaded = Dcmh.load(dcmh.options(), dcmh.state, dcmh.version)
    np.testing.assert_array_equal(loaded.encode(items[0]).vectors, dcmh.encode(items[0]).vectors)


def test_an_encoder_without_a_network_cannot_be_tuned() -> None:
    with pytest.raises(xmr.ConfigError, match=r"image='precomputed\(dim=8\)': has no network to train") as failure:
        xmr.Pipeline.parse("dcmh(tune=True, image='precomputed(dim=8)') >> sign >> hamming")
    assert "give another encoder, like lite0, or tune=False" in str(failure.value)


@pytest.mark.parametrize("name", ["lite0", "cnnf"])
def test_networks_that_can_be_tuned_say_so(name: str) -> None:
    assert isinstance(registry.default().find("encoder", name)(), TunableEncoder)


# CNN-F


def test_cnnf_has_the_shapes_of_the_papers_table() -> None:
    network, sizes = nets.CnnF().eval(), []
    for name in nets.CNNF_FILTERS:
        getattr(network, name).register_forward_hook(lambda layer, x, y: sizes.append(tuple(y.shape[1:])))
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 4096)
    assert sizes == [(64, 54, 54), (256, 27, 27), *[(256, 13, 13)] * 3, (4096, 1, 1), (4096, 1, 1)]


def test_cnnf_normalises_as_its_weights_want() -> None:
    x = torch.rand(1, 8, 1, 1, generator=torch.Generator().manual_seed(0)) * 100
    around = x[0, 1:6, 0, 0].square().sum()  # channels 1 to 5 are around channel 3
    expected = x[0, 3, 0, 0] / (2 + 1e-4 * around) ** 0.75
    assert float(nets.CnnF().norm(x)[0, 3, 0, 0]) == pytest.approx(float(expected), rel=1e-5)


FEW = {"conv1": (3, 2, 3, 4), "full7": (1, 1, 4, 6)}  # in place of CNN-F's


def matlab_file(path: Path, mean: NDArray[Any], shapes: Mapping[str, tuple[int, ...]] = FEW) -> Path:
    """A file in the layout of MatConvNet, beta 16, of random numbers."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    layers = np.empty(2 * len(shapes), object)
    for i, (name, shape) in enumerate(shapes.items()):
        weights = np.empty(2, object)
        weights[:] = [rng.standard_normal(shape).astype(np.float32), np.arange(shape[3], dtype=np.float32)]
        layers[2 * i] = {"name": name, "type": "conv", "weights": weights}
        layers[2 * i + 1] = {"name": f"relu{i}", "type": "relu"}
    savemat(path, {"layers": layers, "normalization": {"averageImage": mean.astype(np.float32)}})
    return path


@pytest.fixture
def few_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "CNNF_FILTERS", FEW)


@pytest.mark.usefixtures("few_filters")
def test_matlab_weights_are_read_in_torchs_order_of_axes(tmp_path: Path) -> None:
    mean = np.random.default_rng(1).uniform(0, 255, (224, 224, 3))
    state = nets.read_cnnf(matlab_file(tmp_path / "vgg-f.mat", mean))
    filters = np.random.default_rng(0).standard_normal((3, 2, 3, 4)).astype(np.float32)  # height, width, in, out
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "mean": (3, 224, 224),
        "conv1.weight": (4, 3, 3, 2), "conv1.bias": (4,), "full7.weight": (6, 4, 1, 1), "full7.bias": (6,),
    }  # fmt: skip
    assert float(state["conv1.weight"][3, 1, 2, 0]) == filters[2, 0, 1, 3]
    assert float(state["mean"][2, 10, 20]) == pytest.approx(mean[10, 20, 2])
    assert state["full7.bias"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures("few_filters")
def test_a_mean_of_three_numbers_is_one_for_all_pixels(tmp_path: Path) -> None:
    state = nets.read_cnnf(matlab_file(tmp_path / "vgg-f.mat", np.array([1, 2, 3])))
    assert state["mean"][:, 5, 9].tolist() == [1, 2, 3]


@pytest.mark.usefixtures("few_filters")
def test_a_file_of_another_network_is_refused_by_layer(tmp_path: Path) -> None:
    path = matlab_file(tmp_path / "other.mat", np.ones(3), {"conv1": (5, 5, 3, 4), "full7": (1, 1, 4, 6)})
    with pytest.raises(xmr.DataError, match=r"conv1: expected \(3, 2, 3, 4\), got \(5, 5, 3, 4\)"):
        nets.read_cnnf(path)
    with pytest.raises(xmr.DataError, match="expected 2 convolutions or more, got 1"):
        nets.read_cnnf(matlab_file(tmp_path / "short.mat", np.ones(3), {"conv1": FEW["conv1"]}))


def test_what_is_no_matlab_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vgg-f.mat").write_bytes(b"no weights at all")
    with pytest.raises(xmr.DataError, match="no MATLAB file of weights"):
        nets.read_cnnf(tmp_path / "vgg-f.mat")
    with pytest.raises(xmr.DataError, match=r"no file of weights at 'nowhere\.mat'"):
        Cnnf(weights="nowhere.mat").fingerprint()


def test_cnnf_takes_raw_pixels_and_subtracts_its_mean_itself() -> None:
    pixels = Cnnf().pixels(xmr.Items(xmr.IMAGE, [np.full((5, 9, 3), 200, np.uint8)]))
    assert (pixels.shape, float(pixels.min()), float(pixels.max())) == ((1, 3, 224, 224), 200, 200)


def test_untrained_cnnf_encodes_nothing() -> None:
    with pytest.raises(xmr.ConfigError, match=r"dcmh\(image='cnnf'\)"):
        Cnnf().encode(xmr.Items(xmr.IMAGE, []))


# options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bits", 12), ("schedule", "slow"), ("dropout", 1.0), ("hidden", 0), ("gamma", -1), ("epochs", 0),
        ("rate", 0.0), ("batch", -3), ("validation", -1), ("image", "lite0_grid"), ("text", "lite0"),
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_refused(option: str, value: object) -> None:
    with pytest.raises(xmr.ConfigError, match=f"{option}="):
        Dcmh(**{option: value})

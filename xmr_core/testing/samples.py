"""What the contract suites feed to components: small, made on the spot, the same every time.

Use them in tests of your own: `clustered("cosine")` gives vectors with neighbours worth finding, `pairs()` images
with forty captions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Form
from xmr_core.types import IMAGE, TEXT, Embeddings, FeaturePairs, Features, Items, Metric, Pairs, pack_bits
from xmr_core.vqa import QuestionFeatures

__all__ = ["clustered", "feature_pairs", "features", "pairs", "picture", "question_features", "ready_made"]

SHAPES = ("square", "disc", "cross", "stripes")  # the labels of `pairs`
COLOURS = {"red": (210, 50, 40), "green": (40, 170, 60), "blue": (50, 70, 200), "yellow": (230, 200, 40)}
SIDE = 32  # pixels of an image's side
WORDS = 50  # token ids of `features` lie below


def clustered(metric: Metric = "l2", n: int = 1000, dim: int = 32, clusters: int = 25, seed: int = 0) -> Embeddings:
    """n embeddings in clusters, so that near and far mean something; `dim` counts bits under hamming."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dim))
    values = centres[np.arange(n) % clusters] + 0.5 * rng.standard_normal((n, dim))  # (n, dim)
    if metric == "hamming":
        return Embeddings(pack_bits(values >= 0), metric)
    return Embeddings(values.astype(np.float32), metric)


def picture(shape: str, colour: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(32, 32, 3) uint8: a shape on a dark, noisy ground."""
    down, across = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + rng.integers(-3, 4, (2, 1, 1))  # (32, 32) each
    inside = {
        "square": np.maximum(abs(down), abs(across)) < 9,
        "disc": down**2 + across**2 < 100,
        "cross": np.minimum(abs(down), abs(across)) < 3,
        "stripes": across % 8 < 4,
    }[shape]
    pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
    pixels[inside] = COLOURS[colour]
    return pixels


def pairs(n: int = 40, seed: int = 0) -> Pairs:
    """n captions of 3/4 n images, many to many, labelled by shape: some images have two captions."""
    rng = np.random.default_rng(seed)
    count = max(1, n * 3 // 4)
    topics = [(SHAPES[i % 4], list(COLOURS)[i // 4 % 4]) for i in range(count)]
    told = [topics[i % count] for i in range(n)]
    labels = np.eye(4, dtype=np.uint8)[np.arange(count) % 4]  # (images, 4)
    images = Items(
        IMAGE,
        [picture(shape, colour, rng) for shape, colour in topics],
        keys=[f"{i:03}.png" for i in range(count)],
        labels=labels,
    )
    texts = Items(
        TEXT,
        [f"a {colour} {shape} {('on', 'over')[i % 2]} a dark ground" for i, (shape, colour) in enumerate(told)],
        keys=[f"{i % count:03}.png#{i // count}" for i in range(n)],
        labels=labels[np.arange(n) % count],
    )
    links = np.stack([np.arange(n) % count, np.arange(n)], axis=1)
    return Pairs(images, texts, links, label_names=SHAPES, name="shapes")


def ready_made(n: int = 40, dim: int = 32, name: str | None = None, text_dim: int | None = None) -> Pairs:
    """n images and n texts, one to one, as vectors that were made elsewhere: (n, dim) float32 each.

    With a `name`, images and texts that have such vectors by that name; those of texts may have another width.
    """
    widths = (dim, text_dim or dim)
    vectors: list[Any] = [clustered("cosine", n, own, 8, seed).values for seed, own in enumerate(widths)]
    links = np.stack([np.arange(n)] * 2, axis=1)
    if name is None:
        return Pairs(Items(IMAGE, vectors[0]), Items(TEXT, vectors[1]), links, name="ready-made")
    rng = np.random.default_rng(0)
    images = [picture(SHAPES[row % 4], list(COLOURS)[row // 4 % 4], rng) for row in range(n)]
    texts = [f"caption {row}" for row in range(n)]
    sides = Items(IMAGE, images, vectors={name: vectors[0]}), Items(TEXT, texts, vectors={name: vectors[1]})
    return Pairs(*sides, links, name="ready-made")


def features(form: Form, modality: str, n: int = 40, dim: int = 32, seed: int = 0) -> Features:
    """n items' features in the given form: one vector, 3 to 6 regions, or 3 to 6 token ids."""
    if form == "vector":
        return Features.of_vectors(modality, clustered("cosine", n, dim, 8, seed).values, "cosine")
    rng = np.random.default_rng(seed)
    mask = np.arange(6) < rng.integers(3, 7, (n, 1))  # (n, 6), True first
    if form == "tokens":
        return Features(modality, np.where(mask, rng.integers(1, WORDS, (n, 6)), 0).astype(np.int32), mask)
    regions = clustered("cosine", n * 6, dim, 8, seed).values.reshape(n, 6, dim)
    return Features(modality, np.where(mask[..., None], regions, 0).astype(np.float32), mask, "cosine")


def feature_pairs(images: Form = "vector", texts: Form = "vector", n: int = 40, dim: int = 32) -> FeaturePairs:
    """The features of n images and n texts, one to one, with labels (n, 4)."""
    numbers = np.arange(n)
    labels = np.eye(4, dtype=np.uint8)[numbers % 4]
    links = np.stack([numbers, numbers], axis=1)
    return FeaturePairs(features(images, IMAGE, n, dim, 0), features(texts, TEXT, n, dim, 1), links, labels)


def question_features(images: Form = "regions", texts: Form = "tokens", n: int = 40, dim: int = 32) -> QuestionFeatures:
    """n questions about n / 2 images, answered by three people: which of three, mostly by the image."""
    pictures, numbers = features(images, IMAGE, n // 2, dim, 0), np.arange(n)
    said = [("red", "green", "blue")[i // 2 % 3] for i in range(n)]
    answers = [(own, own, "who knows") if i % 5 == 0 else (own,) * 3 for i, own in enumerate(said)]
    return QuestionFeatures(pictures, features(texts, TEXT, n, dim, 1), numbers // 2 % len(pictures), answers)

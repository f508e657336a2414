"""What `pq` learns: codebooks by k-means, the rotation of OPQ, the centroids of inverted lists. faiss runs the k-means.

Source of OPQ: Ge, He, Ke & Sun, CVPR 2013, section 3.1 (alternating) and 3.2 (the start by eigenvalue allocation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.plugin import current_run
from xmr_pq.config import PQConfig
from xmr_pq.engine import require_faiss, threads

__all__ = ["eigenvalue_allocation", "learn", "learned_rotation"]

SAMPLE = 256  # vectors a centroid to learn from, at most
TURNING = 128  # of them, to learn the rotation from; below 100, k-means in faiss is several times slower
ROUNDS = 20  # of OPQ, at most
GAIN = 1e-3  # of the error; a round that gains less is the last
STEPS = 2  # of k-means in a round
SEEDS = 1 << 31  # that faiss knows
ALONE = 1 << 28  # products in a step of k-means that one thread does alone, in a tenth of a second

Floats = NDArray[np.float32]


def learn(vectors: Floats, config: PQConfig) -> dict[str, NDArray[Any]]:
    """The state of a fit on vectors (n, d): `codebooks`, and as the config wants, `rotation` and `lists`."""
    rng = np.random.default_rng(config.seed)
    ksub = 2**config.bits
    centroids = max(ksub, config.lists or 0)
    sample = _sampled(vectors, SAMPLE * centroids, rng)
    state: dict[str, NDArray[Any]] = {}
    with threads(sample.size * centroids > ALONE):
        if config.rotation == "opq" and len(sample) >= ksub:  # fewer are coded without error, however they are turned
            state["rotation"] = learned_rotation(_sampled(sample, TURNING * ksub, rng), config)
            sample = sample @ state["rotation"].T
        state["codebooks"] = _codebooks(sample, config)
        if config.lists:
            state["lists"] = _centroids(sample, min(config.lists, len(sample)), config.seed)
    return state


def _sampled(vectors: Floats, most: int, rng: np.random.Generator) -> Floats:
    if len(vectors) <= most:
        return vectors
    sample: Floats = vectors[np.sort(rng.choice(len(vectors), most, replace=False))]
    return sample


def _codebooks(vectors: Floats, config: PQConfig) -> Floats:
    """(m, ksub, dsub): the centroids of each part; the vectors themselves where they are fewer."""
    n, d = vectors.shape
    m = config.parts
    if n < 2**config.bits:
        return np.ascontiguousarray(vectors.reshape(n, m, d // m).swapaxes(0, 1))
    return _centroids_of(_trained(_quantizer(d, config), vectors))


def _quantizer(d: int, config: PQConfig, steps: int = 25) -> Any:
    """An untrained quantizer of d dimensions, to be trained by so many steps of k-means."""
    quantizer = require_faiss().ProductQuantizer(d, config.parts, config.bits)
    quantizer.cp.seed, quantizer.cp.niter = config.seed % SEEDS, steps
    quantizer.cp.min_points_per_centroid = 1  # few vectors are no reason to write to stderr
    return quantizer


def _trained(quantizer: Any, vectors: Floats) -> Any:
    quantizer.train(np.ascontiguousarray(vectors))
    return quantizer


def _centroids_of(quantizer: Any) -> Floats:
    flat: Floats = require_faiss().vector_to_array(quantizer.centroids)
    return flat.reshape(quantizer.M, quantizer.ksub, quantizer.dsub)


def _centroids(vectors: Floats, count: int, seed: int) -> Floats:
    """(count, d): the centroids of inverted lists."""
    kmeans = require_faiss().Kmeans(vectors.shape[1], count, seed=seed % SEEDS, min_points_per_centroid=1)
    kmeans.train(np.ascontiguousarray(vectors))
    return np.asarray(kmeans.centroids, np.float32).reshape(count, -1)


def learned_rotation(vectors: Floats, config: PQConfig) -> Floats:
    """(d, d): an orthogonal R for which the parts of `vectors @ R.T` quantize best.

    In turn, codebooks for the rotation (k-means going on from the last) and the rotation for the codebooks (orthogonal
    Procrustes). It begins as the paper's section 3.2 says or with no rotation, whichever errs less: descriptors such as
    SIFT come with good parts.
    """
    d = vectors.shape[1]
    starts = [np.eye(d, dtype=np.float32), eigenvalue_allocation(vectors, config.parts)]
    coded = [_coded(_quantizer(d, config, 2 * STEPS), vectors @ start.T) for start in starts]
    errors = [_error(vectors @ start.T, found) for start, found in zip(starts, coded, strict=True)]
    rotation, last = starts[int(np.argmin(errors))], np.inf
    quantizer, run = _quantizer(d, config, STEPS), current_run()
    for step in run.track(range(ROUNDS), "pq: rotation"):
        turned = vectors @ rotation.T  # (n, d)
        quantized = _coded(quantizer, turned)
        quantizer.train_type = quantizer.Train_hot_start
        error = _error(turned, quantized)
        run.log("pq", step, error=error)
        if last - error < GAIN * last:
            break
        last = error
        U, _, Vt = np.linalg.svd((quantized.T @ vectors).astype(np.float64))
        rotation = (U @ Vt).astype(np.float32)
    return rotation


def eigenvalue_allocation(vectors: Floats, m: int) -> Floats:
    """(d, d): principal axes as rows, dealt to m equal parts so that the products of their variances are alike."""
    variances, axes = np.linalg.eigh(np.cov(vectors.T.astype(np.float64)))
    variances = np.maximum(variances, 1e-9 * variances.max() + 1e-30)
    parts: list[list[int]] = [[] for _ in range(m)]
    products = np.zeros(m)  # as logarithms, above the smallest variance so that each axis adds to its part
    room = len(variances) // m
    for axis in np.argsort(-variances, kind="stable"):
        j = min((j for j in range(m) if len(parts[j]) < room), key=lambda j: (products[j], j))
        parts[j].append(int(axis))
        products[j] += np.log(variances[axis] / variances.min())
    return np.ascontiguousarray(axes[:, np.concatenate(parts)].T, np.float32)


def _coded(quantizer: Any, vectors: Floats) -> Floats:
    """(n, d): what codes of vectors stand for, by a quantizer trained on them."""
    coded: Floats = quantizer.decode(_trained(quantizer, vectors).compute_codes(vectors))
    return coded


def _error(vectors: Floats, coded: Floats) -> float:
    """The mean squared distance of vectors to what their codes stand for."""
    return float(np.square(vectors - coded).sum(axis=1, dtype=np.float64).mean())

"""The spherical lattice, its codes and its index; the catalyzer's loss, training and network; and PCA, the control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import faiss
import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.progress import Run, use_run
from xmr_core.search.exact import nearest
from xmr_core.search.reranking import rerank
from xmr_core.testing import conformance
from xmr_spreading import training
from xmr_spreading.catalyzer import Catalyzer
from xmr_spreading.indexer import Lattice
from xmr_spreading.lattice import SphereLattice, largest_r2, sphere_lattice
from xmr_spreading.network import Network, folded
from xmr_spreading.objective import koleo, nearest_loss, rank_loss
from xmr_spreading.pca import Pca

TestLattice = conformance("indexer", Lattice)
TestCoarseLattice = conformance(
    "indexer", Lattice, config={"dim": 32, "r2": 3, "distance": "symmetric", "cache": False}
)
TestCatalyzer = conformance("fuser", Catalyzer, config={"dim": 8, "hidden": 16, "epochs": 2})
TestPca = conformance("fuser", Pca, config={"dim": 8})

SIZES = {  # counted by theta series
    (2, 1): 4, (2, 5): 8, (2, 25): 12, (3, 9): 30, (4, 4): 24, (8, 2): 112, (8, 5): 2016, (6, 9): 876,
    (24, 3): 16192, (24, 10): 2319457632, (24, 54): 263489617904713600, (24, 74): 8432934609963473760,
    (24, 79): 17319684851070915840, (32, 3): 39680, (32, 8): 2724906944, (32, 36): 15221194949728018112,
    (40, 2): 3120, (40, 7): 2392224640, (40, 24): 12076325113647462720,
}  # fmt: skip
SMALL = [(2, 25), (3, 9), (5, 7), (6, 9), (8, 5), (12, 4)]


def directions(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors (n, d) whose directions are evenly spread."""
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def cosine(x: NDArray[np.float32]) -> xmr.Embeddings:
    return xmr.Embeddings(x, "cosine")


def pictures(x: NDArray[np.float32], metric: Any = None) -> xmr.FeaturePairs:
    """Pairs of pictures alone."""
    texts = xmr.Features("text", np.zeros((0, 1, 0), np.float32))
    return xmr.FeaturePairs(xmr.Features.of_vectors("image", x, metric), texts, np.zeros((0, 2), np.int64))


# the points of a sphere


@pytest.mark.parametrize("pair", SIZES)
def test_the_number_of_points_is_exact(pair: tuple[int, int]) -> None:
    assert SphereLattice(*pair).size == SIZES[pair]


def test_atoms_are_the_sums_of_squares() -> None:
    assert SphereLattice(24, 10).atoms[:, :10].tolist() == [
        [3, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [2, 2, 1, 1, 0, 0, 0, 0, 0, 0],
        [2, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]
    assert len(SphereLattice(24, 79).atoms) == 256


@pytest.mark.parametrize("pair", SMALL)
def test_numbers_and_points_are_one_to_one(pair: tuple[int, int]) -> None:
    lattice = SphereLattice(*pair)
    numbers = np.arange(lattice.size, dtype=np.uint64)
    points = lattice.unrank(numbers)
    assert (np.square(points, dtype=int).sum(axis=1) == lattice.r2).all()
    assert len(np.unique(points, axis=0)) == lattice.size
    assert np.array_equal(lattice.rank(points), numbers)


@pytest.mark.parametrize("pair", SMALL)
def test_the_closest_point_is_that_of_brute_force(pair: tuple[int, int]) -> None:
    lattice, x = SphereLattice(*pair), directions(2000, pair[0])
    every = lattice.unrank(np.arange(lattice.size, dtype=np.uint64))
    assert np.array_equal(lattice.closest(x), every[(x @ every.T.astype(np.float32)).argmax(axis=1)])


@pytest.mark.parametrize("pair", [(24, 79), (24, 10), (32, 36), (40, 24), (16, 200)])
def test_what_is_encoded_is_the_closest_point(pair: tuple[int, int]) -> None:
    lattice = SphereLattice(*pair)
    points = lattice.closest(directions(100_000 if pair == (24, 79) else 5000, pair[0]))
    assert np.array_equal(lattice.unrank(lattice.rank(points)), points)


def test_the_last_number_of_64_bits_is_a_point() -> None:
    lattice = SphereLattice(24, 79)
    ends = np.array([0, 2**63, lattice.size - 1], np.uint64)
    assert np.array_equal(lattice.rank(lattice.unrank(ends)), ends)


def test_faiss_chooses_the_same_points() -> None:
    x = directions(2000, 24)
    codec = faiss.ZnSphereCodec(24, 79)
    codes, points = np.empty(len(x), np.uint64), np.empty_like(x)
    codec.encode_multi(len(x), faiss.swig_ptr(x), faiss.swig_ptr(codes))
    codec.decode_multi(len(x), faiss.swig_ptr(codes), faiss.swig_ptr(points))
    assert np.array_equal(points, SphereLattice(24, 79).closest(x))


@pytest.mark.parametrize(
    ("pair", "mean"),
    {(24, 3): 0.6779, (24, 10): 0.8891, (24, 54): 0.9796, (24, 79): 0.9859, (32, 8): 0.8160, (32, 36): 0.9603,
     (40, 7): 0.7518, (40, 24): 0.9257, (16, 21): 0.9632}.items(),
)  # fmt: skip
def test_even_directions_are_as_near_to_their_points_as_known(pair: tuple[int, int], mean: float) -> None:
    x = directions(10_000, pair[0])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (x * SphereLattice(*pair).closest(x)).sum(axis=1) / pair[1] ** 0.5
    assert cosines.mean() == pytest.approx(mean, rel=0.002)


def test_a_tie_does_not_depend_on_its_batch() -> None:
    x = np.random.default_rng(0).integers(-3, 4, (500, 24)).astype(np.float32)  # full of ties
    lattice = SphereLattice(24, 79)
    assert np.array_equal(lattice.closest(x), np.concatenate([lattice.closest(row) for row in x[:, None]]))


def test_the_length_of_a_vector_is_dropped() -> None:
    x = directions(100, 24)
    lattice = SphereLattice(24, 79)
    for length in (1e-30, 1e-3, 1e30):
        assert np.array_equal(lattice.closest(x * np.float32(length)), lattice.closest(x))


def test_zero_counts_as_positive() -> None:
    assert SphereLattice(4, 4).closest(np.array([[0.0, -0.0, 0.0, -0.0]], np.float32)).min() >= 0
    assert SphereLattice(3, 9).closest(np.array([[-2.0, -1.5, 0.0]], np.float32)).tolist() == [[-2, -2, 1]]


def test_the_largest_radius_is_that_of_the_most_points() -> None:
    assert [largest_r2(d) for d in (24, 32, 40)] == [79, 36, 24]
    assert [largest_r2(24, bits) for bits in (16, 32)] == [3, 10]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 24, "r2": 80}, "2\\*\\*64"),
        ({"dim": 128, "r2": 79}, "2\\*\\*64"),
        ({"dim": 3, "r2": 7}, "no point of 3 integers"),
        ({"dim": 2000, "r2": 1}, "dim=2000"),
        ({"dim": 24, "r2": 2000}, "r2=2000"),
        ({"dim": -1}, "dim=-1"),
        ({"r2": -1}, "r2=-1"),
        ({"distance": "Hamming"}, "distance='Hamming'"),
    ],
)
def test_lattices_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Lattice(**options)


def test_a_number_or_point_of_no_lattice_is_refused() -> None:
    lattice = SphereLattice(8, 5)
    with pytest.raises(xmr.DataError, match="2016 numbers no point"):
        lattice.unrank(np.array([2016], np.uint64))
    with pytest.raises(xmr.DataError, match="squared norm 5"):
        lattice.rank(np.ones((1, 8), np.int8))


# codes and the index


@pytest.mark.parametrize(("pair", "nbytes"), {(24, 79): 8, (24, 10): 4, (24, 3): 2, (32, 36): 8, (40, 2): 2}.items())
def test_a_code_is_its_number_in_as_few_bytes_as_it_needs(pair: tuple[int, int], nbytes: int) -> None:
    indexer, x = Lattice(dim=pair[0], r2=pair[1]), directions(50, pair[0])
    codes = indexer.encode(cosine(x), np.arange(50))
    lattice = SphereLattice(*pair)
    assert codes.layout == xmr.Layout.number(pair[0], lattice.bits, name="lattice")
    numbers = [int.from_bytes(code.tobytes(), "little") for code in codes.values]
    assert codes.values.shape[1] == nbytes and numbers == lattice.rank(lattice.closest(x)).tolist()
    assert np.array_equal(indexer.points(codes), lattice.closest(x))


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("distance", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("r2", [3, 79])  # 3: thousands of items share a code
def test_search_over_many_blocks_is_exact(r2: int, distance: str, cache: bool) -> None:
    indexer = Lattice(r2=r2, distance=distance, cache=cache)
    codes = indexer.encode(cosine(directions(70_000, 24)), np.arange(70_000))
    index, queries = indexer.build(codes), cosine(directions(6, 24, seed=1))
    radius = float(np.partition(indexer.distances(queries, codes), 50, axis=1)[:, 50].mean())
    for k, within in ((1, None), (100, None), (3000, None), (10, radius), (None, radius)):
        hits, want = index.search(queries, k, within), nearest(indexer, queries, codes, k, within)
        assert np.array_equal(hits.ids, want.ids) and np.array_equal(hits.distances, want.distances)


def test_a_distance_is_that_of_unit_vectors() -> None:
    indexer = Lattice(dim=2, r2=25)
    codes = indexer.encode(cosine(np.array([[4, 3], [0, 9]], np.float32)), np.array([5, 6]))  # (4, 3)/5 and (0, 5)/5
    query = np.array([[2, 0]], np.float32)
    assert indexer.distances(cosine(query), codes) == pytest.approx(np.array([[0.2, 1.0]]))
    assert indexer.distances(xmr.Embeddings(query, "l2"), codes) == pytest.approx(np.array([[0.4**0.5, 2**0.5]]))


def test_a_symmetric_distance_rounds_the_query() -> None:
    indexer = Lattice(dim=2, r2=1, distance="symmetric")
    codes = indexer.encode(cosine(np.array([[1, 0], [0, 1]], np.float32)), np.arange(2))
    assert indexer.distances(cosine(np.array([[0.9, 0.8]], np.float32)), codes).tolist() == [[0.0, 1.0]]


def test_zero_vectors_are_found_and_find() -> None:
    indexer = Lattice(dim=4, r2=4)
    codes = indexer.encode(cosine(np.zeros((1, 4), np.float32)), np.array([7]))
    assert indexer.points(codes).tolist() == [[2, 0, 0, 0]]  # of the points as near as any, the first
    for distance in ("asymmetric", "symmetric"):
        hits = Lattice(dim=4, r2=4, distance=distance).build(codes).search(cosine(np.zeros((1, 4), np.float32)), 1)
        assert hits.ids.tolist() == [[7]] and hits.distances.tolist() == [[1.0]]


def test_an_index_without_a_cache_keeps_codes_alone() -> None:
    codes = Lattice().encode(cosine(directions(10, 24)), np.arange(10))
    cached = Lattice().build(codes).points
    assert Lattice(cache=False).build(codes).points is None and cached is not None and cached.nbytes == 10 * 24


@pytest.mark.parametrize("pair", [(24, 79), (24, 10), (40, 24), (5, 7), (3, 9)])
def test_codes_are_decoded_by_joins_alone(pair: tuple[int, int]) -> None:
    x = directions(300, pair[0])
    indexer = Lattice(r2=pair[1]).fit(cosine(x))
    tables, codes = sphere_lattice(*pair).tables(), indexer.encode(cosine(x), np.arange(300))
    numbers = np.array([int.from_bytes(code.tobytes(), "little") for code in codes.values], np.uint64)
    con = duckdb.connect()
    con.register("codes", pa.table({"item_id": codes.ids, "code": numbers}))
    names = ("piece", "left_", "share", "below", "after", "first_")
    con.register("steps", pa.table(dict(zip(names, tables["steps"].T, strict=True))))
    entries = tables["entries"]
    columns = {"length": entries[:, 0], "entry": entries[:, 1], "numbers": list(entries[:, 2:])}
    con.register("entries", pa.table(columns))
    con.execute(
        f"CREATE VIEW left_0 AS SELECT item_id, code, {pair[1]}::UBIGINT AS left_, []::BIGINT[] AS point FROM codes"
    )
    for piece, length in enumerate(tables["lengths"]):
        con.execute(f"""
            CREATE VIEW left_{piece + 1} AS
            SELECT
                c.item_id, (c.code - s.below) % s.after AS code, c.left_ - s.share AS left_,
                c.point || e.numbers[:{length}] AS point
            FROM left_{piece} AS c
            ASOF JOIN (FROM steps WHERE piece = {piece}) AS s ON c.left_ = s.left_ AND c.code >= s.below
            JOIN entries AS e ON e.length = {length} AND e.entry = s.first_ + (c.code - s.below) // s.after
        """)
    points = con.execute(f"SELECT point FROM left_{len(tables['lengths'])} ORDER BY item_id").fetchall()
    assert np.array_equal(np.array([point for (point,) in points]), indexer.points(codes))


@pytest.mark.parametrize("recipe", ["lattice(r2=79)", "identity(metric='l2') >> lattice(r2=10)"])
def test_sql_decodes_compares_and_asks_by_stored_items(tmp_path: Path, recipe: str) -> None:
    x = directions(500, 24)
    with xmr.open(tmp_path / "x.duckdb") as db:
        ids = db.add_embeddings(x, "even", recipe)
        indexer = db.space("even").pipeline.indexer
        assert isinstance(indexer, Lattice)
        points = indexer.points(db.space("even").codes("image"))
        rows = db.sql("SELECT vector FROM xmr.point_even ORDER BY item_id").fetchall()
        assert np.array_equal(np.array([vector for (vector,) in rows]), points)
        found = db.search(vector=x[7], k=9, space="even")
        rows = db.sql("SELECT item_id, distance FROM xmr.topk_even($1, 9)", [x[7].tolist()]).fetchall()
        assert [item for item, _ in rows] == found.ids[0].tolist()
        assert np.allclose([distance for _, distance in rows], found.distances[0], atol=1e-6)
        near = float(found.distances[0, 3])
        rows = db.sql("SELECT item_id FROM xmr.within_even($1, $2)", [x[7].tolist(), near + 1e-6]).fetchall()
        assert len(rows) == 4
        own = db.search(vector=points[7].astype(np.float32), k=6, space="even").ids[0]
        rows = db.sql("SELECT item_id FROM xmr.like_even($1, 5, modality := 'image')", [int(ids[7])]).fetchall()
        assert [item for (item,) in rows] == [item for item in own if item != ids[7]][:5]
        ask = "SELECT item_id FROM xmr.batch_even(5, modality := 'image', items := [$1])"
        assert db.sql(ask, [int(ids[7])]).fetchall() == rows
        (vector,) = db.sql("SELECT xmr.stored_even($1)", [int(ids[7])]).fetchone()
        assert np.array_equal(vector, points[7])
        db.export(tmp_path / "export")
    with xmr.open(tmp_path / "y.duckdb") as other:
        other.restore(tmp_path / "export")
        assert len(other.sql("FROM xmr.point_even").fetchall()) == 500
        other.drop("even")
        assert not other.sql("SELECT 1 FROM duckdb_views() WHERE view_name = 'point_even'").fetchall()


def test_a_symmetric_distance_is_decoded_in_sql_and_not_searched(tmp_path: Path) -> None:
    """SQL would compare the query itself, where the index compares its point: 0.44 for what is at distance 0."""
    x = directions(50, 24)
    with xmr.open(tmp_path / "x.duckdb") as db:
        db.add_embeddings(x, "even", "lattice(r2=10, distance='symmetric')")
        assert db.search(vector=x[7], k=1, space="even").distances.tolist() == [[0.0]]
        assert len(db.sql("FROM xmr.point_even").fetchall()) == 50
        macros = """
            SELECT DISTINCT function_name FROM duckdb_functions()
            WHERE schema_name = 'xmr' AND function_name LIKE '%_even'
            ORDER BY ALL
            """
        assert db.sql(macros).fetchall() == [("collisions_even",), ("counts_even",)]


def test_a_lattice_of_too_many_pieces_stays_unread_in_sql(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "x.duckdb") as db:
        db.add_embeddings(directions(20, 300), "long", "lattice(r2=3)")
        assert not db.sql("SELECT 1 FROM duckdb_views() WHERE view_name = 'point_long'").fetchall()
        assert len(db.sql("FROM xmr.code_long").fetchall()) == 20


def test_codes_of_another_lattice_are_refused() -> None:
    codes = Lattice(r2=10).encode(cosine(directions(3, 24)), np.arange(3))
    with pytest.raises(xmr.DataError, match="expected codes of 64 bits"):
        Lattice(r2=79).build(codes)
    with pytest.raises(xmr.DataError, match="expected 32 dimensions, got 24"):
        Lattice(dim=32, r2=36).encode(cosine(directions(3, 24)), np.arange(3))


def test_reranked_hits_are_in_the_order_of_the_vectors() -> None:
    x, queries = directions(2000, 24), cosine(directions(20, 24, seed=1))
    indexer, ids = Lattice(r2=10), np.arange(2000) * 5
    rough = indexer.build(indexer.encode(cosine(x), ids)).search(queries, 300)
    hits = rerank(rough, queries, xmr.Codes.of_vectors(ids, x), k=1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert np.array_equal(hits.ids[:, 0], ids[(queries.values @ unit.T).argmax(axis=1)])
    assert rough.exact and not hits.exact  # of 300 of 2000
    with pytest.raises(xmr.DataError, match="no vector"):
        rerank(rough, queries, xmr.Codes.of_vectors(ids[:10], x[:10]))


# the loss


def test_the_rank_loss_is_how_much_the_far_one_is_too_near() -> None:
    anchors, near, far = (torch.tensor(rows) for rows in ([[0.0, 0], [0, 0]], [[3.0, 4], [1, 0]], [[0.0, 2], [0, 6]]))
    assert rank_loss(anchors, near, far).item() == (3 + 0) / 2  # 5 - 2, and 1 - 6 is no loss


def test_the_nearest_loss_is_a_share_by_hand() -> None:
    points = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    stored = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, -0.8]])
    shares = [  # each over the other two of what is stored
        np.exp(2 * 0.6) / (np.exp(0) + np.exp(2 * 0.6)),
        np.exp(2 * 0.6) / (np.exp(2 * 0.6) + np.exp(2 * (0.36 - 0.64))),
        np.exp(2 * 1.0) / (np.exp(0) + np.exp(2 * 1.0)),
    ]
    loss = nearest_loss(points, stored, torch.tensor([2, 0, 1]), torch.tensor(2.0))
    assert loss.item() == pytest.approx(-np.log(shares).mean() / 2)


def test_koleo_is_the_log_of_the_gap_to_the_nearest() -> None:
    points = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])  # gaps 2**.5 each, of 3 points
    assert koleo(points).item() == pytest.approx(-np.log(3 * 2**0.5))


@pytest.mark.parametrize(
    ("n", "d", "value"), [(64, 16, -4.09), (64, 24, -4.19), (64, 40, -4.28), (128, 24, -4.84), (256, 24, -5.50)]
)
def test_koleo_of_evenly_spread_points_is_as_known(n: int, d: int, value: float) -> None:
    batches = torch.nn.functional.normalize(torch.from_numpy(directions(100 * n, d)).reshape(100, n, d), dim=2)
    assert np.mean([koleo(batch).item() for batch in batches]) == pytest.approx(value, abs=0.01)


def test_equal_points_leave_koleo_and_its_gradient_finite() -> None:
    points = torch.ones(4, 2, requires_grad=True)
    loss = koleo(points)
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
    assert loss.isfinite() and points.grad is not None and points.grad.isfinite().all()


def test_a_gradient_passes_straight_through_the_lattice() -> None:
    points = torch.from_numpy(directions(5, 8)).requires_grad_()
    rounded = training.straight_through(points, SphereLattice(8, 5))
    assert np.allclose(np.square(rounded.detach().numpy()).sum(axis=1), 1)
    (rounded * 3).sum().backward()  # type: ignore[no-untyped-call]  # torch does not type it
    assert points.grad is not None and (points.grad == 3).all()


# the network and its training


def test_the_layers_in_numpy_are_the_network() -> None:
    generator = torch.Generator().manual_seed(0)
    x = directions(50, 6) * 9 + 4
    network = Network(6, 16, 3, torch.tensor([4.0] * 6), torch.tensor(9.0), generator)
    for _ in range(3):
        network(torch.from_numpy(x))  # the norms learn means and variances
    state = folded(network.eval()) | {"directions": np.array([False])}
    points = Catalyzer(dim=3, hidden=16, r2=9).with_state(state).fuse(xmr.Features.of_vectors("image", x)).values
    assert np.allclose(points, network(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_the_way_back_in_numpy_is_the_network_s() -> None:
    shift, scale = torch.arange(6.0), torch.tensor(9.0)
    network = Network(6, 16, 3, shift, scale, torch.Generator().manual_seed(0), inverse=24)
    points = torch.nn.functional.normalize(torch.from_numpy(directions(50, 3)), dim=1)
    for _ in range(3):
        network.restored(points)
    fitted = Catalyzer(dim=3, hidden=16, inverse=24, r2=9).with_state(
        folded(network.eval()) | {"directions": np.array([False])}
    )
    restored = fitted.restore(cosine(points.numpy() * 5))
    wanted = network.restored(points) * scale + shift
    assert restored.metric == "l2" and np.allclose(restored.values, wanted.detach().numpy(), atol=1e-4)
    with pytest.raises(xmr.DataError, match="expected 3 dimensions, got 4"):
        fitted.restore(cosine(directions(2, 4)))


def test_without_a_way_back_nothing_is_restored() -> None:
    fitted = Catalyzer(**QUICK, inverse=None).fit(pictures(CLOUD))
    with pytest.raises(xmr.ConfigError, match="give inverse=1024"):
        fitted.restore(cosine(directions(2, 8)))


def test_restored_vectors_resemble_those_that_were_stored() -> None:
    fitted = Catalyzer(**{**QUICK, "epochs": 20}, inverse=128).fit(pictures(CLOUD[:-200]))
    x = CLOUD[-200:]
    indexer = Lattice(r2=5)
    codes = indexer.encode(fitted.fuse(xmr.Features.of_vectors("image", x)), np.arange(len(x)))
    errors = fitted.restore(cosine(indexer.decode(codes))).values - x
    assert np.square(errors).sum() < 0.5 * np.square(x - CLOUD[:-200].mean(axis=0)).sum()


def test_a_library_reranks_by_what_it_restores(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "x.duckdb") as db:
        recipe = "catalyzer(dim=8, hidden=64, inverse=64, epochs=10, r2=5) >> lattice(r2=5)"
        ids = db.add_embeddings(CLOUD, "spread", recipe)
        found = db.search(vector=CLOUD[:50], k=5, rerank=100)
        assert db.search(vector=CLOUD[:50], k=5, rerank=10**12).exact  # all there are
        space = db.space("spread")
        restored = space.pipeline.restore(space.codes("image"))
        assert restored.metric == "l2" and restored.values.shape == CLOUD.shape
        gaps = np.linalg.norm(CLOUD[:50, None] - restored.values[np.searchsorted(ids, found.ids)], axis=2)
        assert np.allclose(found.distances, gaps, rtol=1e-5)
        assert (np.diff(found.distances, axis=1) >= 0).all()
        for options, message in {
            (("rerank", 3),): "must be k=10 or more",
            (("rerank", -1),): "a whole number",
            (("rerank", 50), ("within", 0.5)): "goes with k alone",
        }.items():
            with pytest.raises(xmr.DataError, match=message):
                db.search(vector=CLOUD[0], **dict(options))  # type: ignore[arg-type]
        with pytest.raises(xmr.DataError, match="the text, image, item or vector itself"):
            db.search(vector=xmr.Embeddings(directions(1, 8), "cosine"), rerank=50)
        db.add_embeddings(CLOUD, "plain", "pca(dim=8) >> lattice(r2=5)")
        with pytest.raises(xmr.ConfigError, match="pca knows no way back"):
            db.search(vector=CLOUD[0], space="plain", rerank=50)


def test_neighbours_are_exact_and_never_oneself() -> None:
    x = directions(300, 5)
    x[7] = x[200]
    squares = np.square(x[:, None] - x).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    want = np.argsort(squares, axis=1)[:, :10]
    found = training.neighbours(torch.from_numpy(x), torch.from_numpy(x), 10, np.arange(300))
    assert np.array_equal(np.sort(found), np.sort(want))


def manifold(n: int) -> NDArray[np.float32]:
    """Vectors (n, 32) on a curved sheet of six dimensions, crowded in the middle."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((6, 64)) / 2, rng.standard_normal((64, 32))
    values: NDArray[np.float32] = (np.tanh(rng.standard_normal((n, 6)) ** 3 @ first) @ second).astype(np.float32)
    return values


CLOUD = manifold(1500)
QUICK: dict[str, Any] = {"dim": 8, "hidden": 64, "epochs": 3, "r2": 5}


def recall(fuser: xmr.Fuser, x: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """1-recall@10 of the nearest by l2, by way of the fuser and a lattice of 8 dimensions in 2 bytes."""
    points, asked = (fuser.fuse(xmr.Features.of_vectors("image", rows)) for rows in (x, queries))
    indexer = Lattice(dim=8, r2=12)
    ids = indexer.build(indexer.encode(points, np.arange(len(x)))).search(asked, 10).ids
    truth = np.square(queries[:, None] - x).sum(axis=2).argmin(axis=1)
    return float((ids == truth[:, None]).any(axis=1).mean())


def test_the_catalyzer_beats_the_control() -> None:
    learn, x, queries = np.split(manifold(6000), [3000, 5000])
    control = recall(Pca(dim=8).fit(pictures(learn)), x, queries)
    assert recall(Catalyzer(dim=8, hidden=128, epochs=15).fit(pictures(learn)), x, queries) > control + 0.03


def test_lambda_spreads() -> None:
    values = []
    for lambda_ in (0.0, 0.05):
        fitted = Catalyzer(**QUICK, loss="rank", inverse=None, lambda_=lambda_).fit(pictures(CLOUD))
        points = fitted.fuse(xmr.Features.of_vectors("image", CLOUD)).values
        values.append(koleo(torch.from_numpy(points)).item())
    assert values[1] < values[0] - 0.2


def test_lambda_is_chosen_on_the_learning_set(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    monkeypatch.setattr(training, "LAMBDAS", (0.0, 0.02))
    with use_run(log):
        fitted = Catalyzer(**{**QUICK, "epochs": 1, "lambda_": None}).fit(pictures(CLOUD))
    shown = {what: [f["recall"] for f in steps if "recall" in f] for what, steps in log.figures.items()}
    trials = {lambda_: max(shown[f"catalyzer, lambda {lambda_}"]) for lambda_ in (0.0, 0.02)}
    assert fitted.state["lambda"][0] == max(trials, key=lambda lambda_: trials[lambda_])
    assert fitted.state["recall"][0] == max(shown["catalyzer"])


def test_training_through_the_lattice_works() -> None:
    fitted = Catalyzer(**QUICK, through=5).fit(pictures(CLOUD))
    assert not np.array_equal(fitted.state["weights2"], Catalyzer(**QUICK).fit(pictures(CLOUD)).state["weights2"])


def test_the_paper_s_schedule_runs() -> None:
    fitted = Catalyzer(**{**QUICK, "epochs": 1, "schedule": "paper"}).fit(pictures(CLOUD))
    assert np.isfinite(fitted.state["weights0"]).all()


def test_texts_and_pictures_are_learned_together() -> None:
    halves = [xmr.Features.of_vectors(m, rows) for m, rows in zip(("image", "text"), np.split(CLOUD, 2), strict=True)]
    both = Catalyzer(**QUICK).fit(xmr.FeaturePairs(*halves, np.zeros((0, 2), np.int64)))
    assert both.fingerprint() == Catalyzer(**QUICK).fit(pictures(CLOUD)).fingerprint()


def test_under_cosine_lengths_are_dropped() -> None:
    lengths = np.random.default_rng(0).uniform(0.1, 9, (len(CLOUD), 1)).astype(np.float32)
    fitted = Catalyzer(**QUICK).fit(pictures(CLOUD, "cosine"))
    plain, scaled = (fitted.fuse(xmr.Features.of_vectors("image", rows)).values for rows in (CLOUD, CLOUD * lengths))
    assert np.allclose(plain, scaled, atol=1e-4)


def test_a_seed_gives_one_training_and_another_seed_another() -> None:
    prints = [Catalyzer(**QUICK, seed=seed).fit(pictures(CLOUD)).state["bias2"] for seed in (0, 0, 1)]
    assert np.array_equal(prints[0], prints[1]) and not np.array_equal(prints[0], prints[2])


class Log(Run):
    """Keeps the log and the last checkpoint, and may be killed after some epochs."""

    def __init__(self, lives: int = 1000) -> None:
        self.figures: dict[str, list[dict[str, float]]] = {}
        self.kept: dict[str, NDArray[Any]] | None = None
        self.lives = lives

    def log(self, what: str, step: int, **figures: float) -> None:
        self.figures.setdefault(what, []).append(figures)

    def checkpoint(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.kept = {name: array.copy() for name, array in arrays.items()}
        self.lives -= 1
        if not self.lives:
            raise KeyboardInterrupt

    def restore(self) -> dict[str, NDArray[Any]] | None:
        return self.kept


@pytest.mark.parametrize(("lives", "schedule"), [(1, "quick"), (2, "quick"), (4, "quick"), (4, "paper")])
def test_a_killed_training_goes_on_as_if_nothing_had_been(
    lives: int, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LAMBDAS", (0.01,))
    monkeypatch.setitem(training.SCHEDULES, schedule, replace(training.SCHEDULES[schedule], trial=2, batch=256))
    catalyzer = Catalyzer(**{**QUICK, "schedule": schedule, "lambda_": None})  # killed in the trial, after it, later
    log = Log(lives)
    with use_run(log):
        with pytest.raises(KeyboardInterrupt):
            catalyzer.fit(pictures(CLOUD))
        resumed = catalyzer.fit(pictures(CLOUD))
    assert resumed.fingerprint() == catalyzer.fit(pictures(CLOUD)).fingerprint()


def test_copies_among_the_vectors_do_no_harm() -> None:
    fitted = Catalyzer(**QUICK).fit(pictures(np.repeat(CLOUD[:100], 15, axis=0)))
    assert all(np.isfinite(array).all() for array in fitted.state.values())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (pictures(np.ones((200, 4), np.float32)), "all 200 vectors are equal"),
        (pictures(CLOUD[:40]), "too few to have 50 neighbours"),
        (pictures(CLOUD[:0]), "no vectors to learn from"),
        (xmr.FeaturePairs(
            xmr.Features.of_vectors("image", CLOUD), xmr.Features.of_vectors("text", CLOUD[:, :4]),
            np.zeros((0, 2), np.int64),
        ), "pictures have 32 dimensions and texts 4"),
        (xmr.FeaturePairs(
            xmr.Features("image", np.full((80, 1, 4), np.nan, np.float32)),
            xmr.Features("text", np.zeros((0, 1, 0), np.float32)), np.zeros((0, 2), np.int64),
        ), "NaN"),
    ],
)  # fmt: skip
def test_learning_sets_that_teach_nothing_are_refused(pairs: xmr.FeaturePairs, message: str) -> None:
    with pytest.raises(xmr.DataError, match=message):
        Catalyzer(**QUICK).fit(pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "slow"}, "must be one of quick, paper"),
        ({"metric": "ip"}, "must be one of cosine, l2"),
        ({"lambda_": -1.0}, "lambda_=-1.0"),
        ({"dim": 1}, "dim=1"),
        ({"r2": 80}, "2\\*\\*64"),
        ({"through": 80}, "2\\*\\*64"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Catalyzer(**options)


# the control


def test_pca_keeps_the_widest_directions() -> None:
    x = directions(500, 6) * np.array([1, 9, 1, 1, 5, 1], np.float32) + 3
    fitted = Pca(dim=2, normalise=False).fit(pictures(x))
    values = fitted.fuse(xmr.Features.of_vectors("image", x)).values
    assert fitted.metric == "l2" and np.abs(fitted.state["axes"]).argmax(axis=0).tolist() == [1, 4]
    centred = x - x.mean(axis=0)
    assert np.square(values).sum() == pytest.approx(np.square(np.linalg.svd(centred)[1][:2]).sum(), rel=1e-4)


def test_whitened_directions_spread_alike() -> None:
    x = directions(500, 6) * np.array([1, 9, 1, 1, 5, 1], np.float32)
    values = Pca(dim=6, whiten=True, normalise=False).fit(pictures(x)).fuse(xmr.Features.of_vectors("image", x)).values
    assert np.allclose(np.cov(values.T, bias=True), np.eye(6), atol=1e-3)


def test_normalised_components_are_on_the_sphere() -> None:
    fitted = Pca(dim=4).fit(pictures(CLOUD))
    assert fitted.metric == "cosine"
    assert np.allclose(np.linalg.norm(fitted.fuse(xmr.Features.of_vectors("image", CLOUD)).values, axis=1), 1)


def test_too_many_components_are_refused() -> None:
    with pytest.raises(xmr.DataError, match="1500 vectors of 32 dimensions"):
        Pca(dim=33).fit(pictures(CLOUD))

"""The benchmark runs every case, checks its answers, and writes what it found; what it measures is not tested here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyhash
from pyhash.bench import CASES, Bench, Row, Sizes, joins, peers, plots, run, save
from pyhash.bench.report import markdown


@pytest.fixture
def real(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "codes.npz"
    np.savez(path, b=peers.uniform(rng, 3000, 64), q=peers.uniform(rng, 600, 64))
    return path


@pytest.mark.parametrize("case", CASES)
def test_every_case_gives_figures_or_says_why_not(case: str, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # training is dear
    monkeypatch.setattr("pyhash.bench.clustered.faiss_ivf", lambda codes, *_: peers.faiss_flat(codes))
    measured = Bench(Sizes.quick(), real)
    rows = list(run(measured, case))
    assert rows or measured.skipped
    for row in rows:
        assert row.value > 0, row
        assert np.isfinite(row.value), row


def test_a_wrong_answer_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyhash.bench.calls.packed_numpy", lambda words, query: np.arange(10))
    with pytest.raises(AssertionError, match="packed NumPy: the answers differ"):
        list(run(Bench(Sizes.quick()), "fallback"))


@pytest.mark.parametrize("case", ["join_uniform", "join_clustered", "join_large", "join_two", "hard_joins"])
def test_a_join_that_loses_pairs_stops_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pyhash.Index.pairs

    def without_the_first(index: pyhash.Index, radius: int, *args: pyhash.Index, **options: Any) -> tuple[Any, ...]:
        return tuple(column[1:] for column in whole(index, radius, *args, **options))

    monkeypatch.setattr(pyhash.Index, "pairs", without_the_first)
    with pytest.raises(AssertionError, match="the answers differ"):
        list(run(Bench(Sizes.quick()), case))


def test_ranges_are_read_as_pairs() -> None:
    offsets, distances, ids = np.array([0, 3, 5]), np.array([0, 1, 2]), np.array([0, 4, 1])
    distances, ids = np.append(distances, [0, 2]), np.append(ids, [1, 0])
    every = [[0, 0, 0, 1, 1], [0, 1, 4, 0, 1], [0, 2, 1, 2, 0]]
    assert joins._pairs(offsets, distances, ids).tolist() == every
    assert joins._pairs(offsets, distances, ids, of_one_set=True).tolist() == [[0, 0], [1, 4], [2, 1]]


def test_hard_sets_are_what_they_are_called() -> None:
    sets = joins._hard_sets(Bench(Sizes.quick()), 64)
    bits = {name: np.unpackbits(codes, axis=1) for name, (codes, _) in sets.items()}
    assert len(np.unique(bits["all equal"], axis=0)) == 1
    assert np.bitwise_count(sets["one cluster"][0] ^ sets["one cluster"][0][0]).sum(axis=1).max() < 32
    assert bits["16 live bits"].any(axis=0).sum() == 16
    assert (np.diff(bits["one run of ones each"].astype(int), axis=1, prepend=0) == 1).sum(axis=1).max() == 1
    assert len(np.unique(bits["few distinct codes"], axis=0)) <= Sizes.quick().hard_join / 30


def test_codes_of_another_length_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "codes.npz", b=np.zeros((10, 4), np.uint8), q=np.zeros((10, 4), np.uint8))
    with pytest.raises(ValueError, match="--real must hold codes of 64 bits, got 32"):
        list(run(Bench(Sizes.quick(), tmp_path / "codes.npz"), "real"))


def test_peers_by_hand_rank_as_the_index_does() -> None:
    rng = np.random.default_rng(1)
    codes, query = rng.integers(0, 3, (500, 8), dtype=np.uint8), rng.integers(0, 3, 8, dtype=np.uint8)  # many ties
    expected = np.argsort(np.bitwise_count(codes ^ query).sum(axis=1), kind="stable")[: peers.K]
    assert np.array_equal(peers.packed_numpy(codes.view(np.uint64), query.view(np.uint64)), expected)
    assert np.array_equal(peers.textbook(np.unpackbits(codes, axis=1), np.unpackbits(query)), expected)


def test_the_table_says_which_goals_were_reached(tmp_path: Path) -> None:
    rows = [Row("a", 64, "x", 2.0, 1.0), Row("b", 64, "seconds", 2.0, 1.0, at_most=True), Row("c", 0, "GB/s", 3.0)]
    table = markdown(rows, ["d: not installed"])
    assert "| a | 64 | x | 2 | >= 1 | reached |" in table
    assert "| b | 64 | seconds | 2 | <= 1 | **missed** |" in table
    assert "| c |  | GB/s | 3 |  |  |" in table
    assert "Not run: d: not installed" in table
    paths = save(rows, [], tmp_path / "out")
    assert [path.name for path in paths][:2] == ["benchmarks.md", "benchmarks.json"]
    stored = json.loads(paths[1].read_text())
    assert [row["case"] for row in stored["rows"]] == ["a", "b", "c"]
    assert all(path.stat().st_size for path in paths)
    shown = [path.name for path in paths if f"]({path.name})" in paths[0].read_text()]
    assert shown == [path.name for path in paths if path.suffix == ".png"]


@pytest.mark.parametrize(
    ("value", "written"), [(0.5, "0.5"), (1, "1"), (1000, "1,000"), (500_000, "500,000"), (10_000_000, "10 million")]
)
def test_amounts_are_written_as_people_do(value: float, written: str) -> None:
    assert plots.amount(value) == written


@pytest.mark.parametrize(
    ("micro", "written"), [(0.5, "0.5 us"), (5, "5 us"), (1e3, "1 ms"), (2e4, "20 ms"), (1e6, "1 s"), (1e9, "1,000 s")]
)
def test_times_are_written_in_their_unit(micro: float, written: str) -> None:
    assert plots.duration(micro) == written


def test_axes_have_numbers_and_no_powers_of_ten(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sizes = [1000, 100_000, 10_000_000]
    rows = [Row(f"one query, {n:,} codes", 64, "microseconds a query, pyhash", n / 100) for n in sizes]
    rows += [
        Row("pairs, 9 uniform codes, radius 4", 64, "x flat pass", 60.0, 50.0),
        Row("all equal", 64, "pairs, x flat pass", 0.9),
    ]
    assert [path.name for path in plots.plot(rows, tmp_path)] == [
        "benchmarks.svg", "benchmarks.png", "joins.svg", "joins.png",
    ]  # fmt: skip
    searches, joined = ((tmp_path / name).read_text() for name in ("benchmarks.svg", "joins.svg"))
    for text in ("1,000", "10 million", "10 us", "100 ms", "One query a call, clustered 64-bit codes"):
        assert f"<!-- {text} -->" in searches
    for text in ("0.5", "50", "all equal", "9 uniform codes, radius 4", "goal"):
        assert f"<!-- {text} -->" in joined
    assert "10^" not in searches + joined
    assert "Two threads" not in joined  # its case was not run


def test_flipped_codes_differ_by_about_that_share() -> None:
    rng = np.random.default_rng(2)
    codes = peers.uniform(rng, 2000, 64)
    share = np.bitwise_count(codes ^ peers.flipped(rng, codes, 0.05)).sum() / (2000 * 64)
    assert 0.045 < share < 0.055


def test_the_probes_measure_kernels_of_the_core(kernel: str) -> None:
    probes = pytest.importorskip("pyhash.bench._probes")
    words = np.arange(1000, dtype=np.uint64)
    assert probes.read_words(words) == np.bitwise_xor.reduce(words)
    active = pyhash.backend.active()
    if kernel == "numba":
        with pytest.raises(TypeError):
            probes.scan_cached(active, 1, 100)
    else:
        assert probes.scan_cached(active, 2, 10_000) >= 10_000
        with pytest.raises(ValueError, match="n_words must be 1 to 1024"):
            probes.scan_cached(active, 0, 1)

"""The benchmark runs every case, checks its answers, and writes what it found; what it measures is not tested here."""

import json
from pathlib import Path

import numpy as np
import pytest

import pyhash
from pyhash.bench import CASES, Bench, Row, Sizes, peers, run, save
from pyhash.bench.report import markdown


@pytest.fixture
def real(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "codes.npz"
    np.savez(path, b=peers.uniform(rng, 3000, 64), q=peers.uniform(rng, 600, 64))
    return path


@pytest.mark.parametrize("case", CASES)
def test_every_case_gives_figures_or_says_why_not(case: str, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyhash.bench.cases.faiss_ivf", lambda codes, *_: peers.faiss_flat(codes))  # training is dear
    measured = Bench(Sizes.quick(), real)
    rows = list(run(measured, case))
    assert rows or measured.skipped
    for row in rows:
        assert row.value > 0, row
        assert np.isfinite(row.value), row


def test_a_wrong_answer_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyhash.bench.cases.packed_numpy", lambda words, query: np.arange(10))
    with pytest.raises(AssertionError, match="packed NumPy: the answers differ"):
        list(run(Bench(Sizes.quick()), "fallback"))


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

"""Distances between two small sets of codes, on every kernel, and what is no code."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from stored import assert_same

import pyhash
from pyhash import backend
from pyhash.codes import to_words

WIDTHS = [*range(1, 10), 16, 125]  # words


@pytest.mark.parametrize("n_words", WIDTHS)
def test_distances(kernel, n_words):
    rng = np.random.default_rng(15)
    for m, n in [(0, 3), (3, 0), (1, 1), (5, 513), (200, 3), (65, 64)]:
        a = rng.integers(0, 256, (m, 8 * n_words), dtype=np.uint8)
        b = rng.integers(0, 256, (n, 8 * n_words), dtype=np.uint8)
        expected = oracle.hamming(a, b).astype(np.int32)
        for threads in (0, 1, 3):
            assert_same([backend.active().hamming(to_words(a), to_words(b), threads)], [expected], (m, n, threads))


def test_more_distances_than_memory_are_an_error_before_they_are_measured(kernel, monkeypatch):
    def measured(*_):
        raise AssertionError("there is no room for that")

    monkeypatch.setattr(type(backend.active()), "hamming", measured, raising=False)
    codes = np.zeros((6000, 1), np.uint8)
    monkeypatch.setattr("pyhash.support.machine.available_memory", lambda: 4 * 6000 * 6000 + 8 * 6000 - 1)
    with pytest.raises(MemoryError, match="6000 x 6000 distances"):
        pyhash.hamming(codes, codes)
    monkeypatch.undo()
    monkeypatch.setattr("pyhash.support.machine.available_memory", lambda: 4 * 6000 * 6000 + 8 * 6000)
    assert not pyhash.hamming(codes, codes).any()


def test_hamming_takes_away_dimensions(kernel):
    rng = np.random.default_rng(16)
    for n_bytes in (1, 8, 13):
        a, b = (rng.integers(0, 256, (n, n_bytes), dtype=np.uint8) for n in (4, 6))
        expected = oracle.hamming(a, b)
        for left, right, cut in [
            (a, b, expected),
            (a[2], b, expected[2]),
            (a, b[1], expected[:, 1]),
            (a[::-1], b[::2], expected[::-1, ::2]),
            (a[:0], b, expected[:0]),
        ]:
            distances = pyhash.hamming(left, right)
            assert distances.dtype == np.int32
            np.testing.assert_array_equal(distances, cut)
        assert pyhash.hamming(a[1], b[5], threads=2) == expected[1, 5]


@pytest.mark.parametrize(
    ("a", "b", "threads", "error", "message"),
    [
        (np.zeros(2, np.uint8), np.zeros(3, np.uint8), None, ValueError, "a and b must have the same .* got 2 and 3"),
        (
            np.zeros(2, np.int8),
            np.zeros(2, np.uint8),
            None,
            TypeError,
            "a must be packed codes of dtype uint8, got int8",
        ),
        (np.zeros(2, np.uint8), np.zeros((1, 1, 2), np.uint8), None, ValueError, "b must be 1-D or 2-D, got 3-D"),
        (np.zeros((2, 0), np.uint8), np.zeros((2, 0), np.uint8), None, ValueError, "a must have 1 to 8192 bytes"),
        (np.zeros(2, np.uint8), np.zeros(2, np.uint8), 0, ValueError, "threads must be at least 1, got 0"),
    ],
)
def test_hamming_bad_input(a, b, threads, error, message):
    with pytest.raises(error, match=message):
        pyhash.hamming(a, b, threads)

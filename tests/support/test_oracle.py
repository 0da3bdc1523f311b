"""The reference itself, on cases small enough to work out by hand."""

import numpy as np
import oracle

CODES = np.array([[0b00000000, 0xFF], [0b00000001, 0xFF], [0b11110000, 0xFE], [0b00000000, 0xFF]], dtype=np.uint8)
IDS = np.array([7, 3, 5, 1])
QUERY = np.array([[0b00000000, 0xFF]], dtype=np.uint8)  # distances 0, 1, 5, 0


def test_pack_first_column_is_the_highest_bit():
    features = np.array([[1.0, -1, 0, 0.5, -0.5, -1, -1, -1, 2], [0, 0, 0, 0, 0, 0, 0, 3, 0]])
    assert oracle.pack(features).tolist() == [[0b10010000, 0b10000000], [0b00000001, 0]]


def test_pack_is_strict_and_takes_a_threshold_a_column():
    assert oracle.pack(np.array([[1.0, 1, 1]]), np.array([1.0, 0.5, 2])).tolist() == [[0b01000000]]
    assert oracle.pack(np.array([[np.inf, -np.inf]]), np.array([np.inf, -np.inf])).tolist() == [[0]]


def test_unpack():
    assert oracle.unpack(np.array([[0b10010000, 0b01000000]], dtype=np.uint8), 10).tolist() == [
        [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    ]


def test_hamming():
    assert oracle.hamming(QUERY, CODES).tolist() == [[0, 1, 5, 0]]
    assert oracle.hamming(CODES[1:3], CODES[:2]).tolist() == [[1, 0], [5, 6]]


def test_hamming_of_levels():
    assert oracle.hamming(QUERY, CODES, [(0, 1, 1)]).tolist() == [[0, 1, 4, 0]]
    assert oracle.hamming(QUERY, CODES, [(1, 2, 1)]).tolist() == [[0, 0, 1, 0]]
    assert oracle.hamming(QUERY, CODES, [(0, 1, 10), (1, 2, 3)]).tolist() == [[0, 10, 43, 0]]


def test_topk_breaks_ties_by_id_and_pads():
    distances, ids = oracle.topk(CODES, IDS, QUERY, 5)
    assert distances.tolist() == [[0, 0, 1, 5, 2**31 - 1]]
    assert ids.tolist() == [[1, 7, 3, 5, -1]]
    assert (distances.dtype, ids.dtype) == (np.int32, np.int64)


def test_topk_of_what_is_allowed_at_one_level():
    distances, ids = oracle.topk(CODES, IDS, QUERY, 2, [(1, 2, 1)], np.array([False, True, True, False]))
    assert (distances.tolist(), ids.tolist()) == ([[0, 1]], [[3, 5]])


def test_within_includes_the_radius():
    queries = np.concatenate([QUERY, ~QUERY, QUERY])
    offsets, distances, ids = oracle.within(CODES, IDS, queries, 1)
    assert offsets.tolist() == [0, 3, 3, 6]
    assert distances.tolist() == [0, 0, 1, 0, 0, 1]
    assert ids.tolist() == [1, 7, 3, 1, 7, 3]


def test_pairs():
    i, j, distances = oracle.pairs(CODES, IDS, 5)
    assert list(zip(i.tolist(), j.tolist(), distances.tolist(), strict=True)) == [
        (1, 3, 1),
        (1, 5, 5),
        (1, 7, 0),
        (3, 7, 1),
        (5, 7, 5),
    ]
    assert [len(part) for part in oracle.pairs(CODES[:1], IDS[:1], 5)] == [0, 0, 0]

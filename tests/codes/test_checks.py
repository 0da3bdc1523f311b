"""What is taken for codes and integers, and codes as words."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import layouts

import pyhash
from pyhash.codes import Levels, check_codes, check_int, from_words, pack, to_words, unpack
from pyhash.codes.checks import check_bits


def test_check_int():
    assert check_int(3, "k") == 3
    for value in (np.int64(3), np.uint8(3), np.array(3)):
        assert type(check_int(value, "k", 3, 3)) is int
    for value in (2.0, "2", None, True, np.True_, np.float64(2), np.array([1, 2]), np.array(2.0)):
        with pytest.raises(TypeError, match="k must be an integer, got "):
            check_int(value, "k")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        check_int(0, "k", 1)
    with pytest.raises(ValueError, match="k must be at most 5, got 6"):
        check_int(np.int8(6), "k", 1, 5)
    assert check_bits(65536) == 65536


@pytest.mark.parametrize("bits", [1, 8, 13, 64, 100, 8000])
def test_check_codes_returns_the_same_codes(bits):
    rng = np.random.default_rng(4)
    codes = oracle.pack(rng.integers(0, 2, (4, bits)))
    assert check_codes(codes, bits, "codes") is codes
    assert check_codes(codes[0], bits, "codes").shape == codes[0].shape
    assert check_codes(codes[:0], bits, "codes").shape == codes[:0].shape
    for name, laid_out in layouts(codes):
        checked = check_codes(laid_out, bits, "codes")
        assert checked.flags.c_contiguous
        np.testing.assert_array_equal(checked, laid_out, err_msg=name)
        np.testing.assert_array_equal(check_codes(laid_out[1], bits, "codes"), laid_out[1], err_msg=name)


@pytest.mark.parametrize(
    ("codes", "bits", "error", "message"),
    [
        (np.zeros((2, 8), np.int8), 64, TypeError, "queries must be packed codes of dtype uint8, got int8"),
        (np.zeros((2, 8)), 64, TypeError, "queries must be packed codes of dtype uint8, got float64"),
        ([[1, 2]], 16, TypeError, "queries must be packed codes of dtype uint8, got int64"),
        (np.zeros((2, 7), np.uint8), 64, ValueError, "queries must have 8 bytes a code for 64 bits, got 7"),
        (np.zeros(9, np.uint8), 64, ValueError, "queries must have 8 bytes a code for 64 bits, got 9"),
        (np.zeros((2, 0), np.uint8), 64, ValueError, "queries must have 1 to 8192 bytes a code, got 0"),
        (np.zeros((1, 1, 8), np.uint8), 64, ValueError, "queries must be 1-D or 2-D, got 3-D"),
        (np.uint8(0), 8, ValueError, "queries must be 1-D or 2-D, got 0-D"),
        (
            np.array([[0, 32], [0, 31]], np.uint8),
            11,
            ValueError,
            "zeros in the 5 pad bits .* the last byte of row 1",
        ),
        (
            np.array([0, 1], np.uint8),
            15,
            ValueError,
            "zeros in the 1 pad bits .* the last byte has",
        ),
    ],
)
def test_check_codes_bad_input(codes, bits, error, message):
    with pytest.raises(error, match=message):
        check_codes(codes, bits, "queries")


@pytest.mark.parametrize("n_bytes", [1, 2, 7, 8, 9, 16, 17, 1000])
def test_words_hold_the_bytes_in_memory_order(n_bytes):
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 256, (5, n_bytes), dtype=np.uint8)
    words = to_words(codes)
    n_words = (n_bytes + 7) // 8
    assert (words.dtype, words.shape, words.flags.aligned) == (np.uint64, (5, n_words), True)
    assert words.tobytes() == np.pad(codes, ((0, 0), (0, 8 * n_words - n_bytes))).tobytes()
    np.testing.assert_array_equal(from_words(words, n_bytes), codes)
    assert to_words(codes[:0]).shape == (0, n_words)
    assert np.shares_memory(words, codes) == (n_bytes % 8 == 0)
    codes.flags.writeable = False
    assert to_words(codes).tobytes() == words.tobytes()


def test_words_of_unaligned_codes_are_aligned():
    codes = np.arange(33, dtype=np.uint8)[1:].reshape(2, 16)
    words = to_words(codes)
    assert words.flags.aligned
    assert words.tobytes() == codes.tobytes()


def test_public_names():
    assert (pyhash.Levels, pyhash.pack, pyhash.unpack, pyhash.hamming) == (Levels, pack, unpack, pyhash.backend.hamming)

"""Levels, packing, unpacking and the validators of `pyhash.codes`, against the reference in `oracle`."""

from __future__ import annotations

import copy
import json
import pickle
import threading

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pyhash
from pyhash.codes import Levels, check_codes, check_int, from_words, pack, to_words, unpack
from pyhash.codes import packing as codes_module
from pyhash.codes.checks import check_bits

FLOATS = [np.float16, np.float32, np.float64]
DTYPES = [*FLOATS, np.int8, np.uint8, np.bool_]
WIDTHS = [*range(1, 70), 95, 96, 97, 127, 128, 129, 1000]


@pytest.fixture(params=["avx2", "baseline", "numpy"])
def path(request, monkeypatch):
    """Each way that rows are packed."""
    if request.param == "numpy":
        monkeypatch.setattr(codes_module, "_pack", None)
        yield request.param
        return
    module = codes_module._pack
    if module is None:
        pytest.skip("pyhash.codes._pack is not compiled")
    if module.use_avx2(request.param == "avx2") != (request.param == "avx2"):
        pytest.skip("this CPU or compiler has no AVX2")
    yield request.param
    module.use_avx2(True)


def some_features(rng, shape, dtype):
    values = rng.integers(-3, 4, shape)  # zeros, and ties with whole thresholds
    if np.dtype(dtype).kind == "f":
        return (values + rng.choice([0.0, 0.25], shape)).astype(dtype)
    return (values if dtype != np.uint8 else values + 3).astype(dtype)


# pack


@pytest.mark.parametrize("dtype", DTYPES)
def test_pack_every_width(path, dtype):
    rng = np.random.default_rng(0)
    for bits in WIDTHS:
        features = some_features(rng, (3, bits), dtype)
        for threshold in (0.0, -0.5, rng.choice([-1.0, 0.0, 0.25, 1.0], bits)):
            codes = pack(features, threshold)
            assert (codes.dtype, codes.shape) == (np.uint8, (3, (bits + 7) // 8))
            np.testing.assert_array_equal(codes, oracle.pack(features, threshold), err_msg=f"{bits} bits")


def layouts(features):
    """The same numbers in memory of every kind."""
    n, bits = features.shape
    yield "fortran", np.asfortranarray(features)
    yield "reversed", np.ascontiguousarray(features[::-1, ::-1])[::-1, ::-1]
    wide = np.zeros((2 * n, 3 * bits), dtype=features.dtype)
    wide[::2, ::3] = features
    yield "strided", wide[::2, ::3]
    padded = np.zeros((n, bits + 5), dtype=features.dtype)
    padded[:, 2:-3] = features
    yield "slice", padded[:, 2:-3]
    fixed = features.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    raw = np.zeros(features.nbytes + 1, dtype=np.uint8)
    shifted = raw[1:].view(features.dtype).reshape(features.shape)
    shifted[:] = features
    yield "unaligned", shifted
    yield "swapped", features.astype(features.dtype.newbyteorder())
    yield "broadcast", np.broadcast_to(features[0], features.shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pack_every_layout(path, dtype):
    rng = np.random.default_rng(1)
    for bits in (1, 7, 16, 31, 64, 77):
        features = some_features(rng, (5, bits), dtype)
        for name, laid_out in layouts(features):
            expected = oracle.pack(features if name != "broadcast" else laid_out)
            np.testing.assert_array_equal(pack(laid_out), expected, err_msg=f"{name}, {bits} bits")


@pytest.mark.parametrize("threshold", [0.0, -0.0, 0.1, -0.1, 1e-9, -1e-9, 65504, 65505.5, 1e6, -1e6, np.inf, -np.inf])
def test_pack_every_float16(path, threshold):
    features = np.arange(65536, dtype=np.uint16).view(np.float16)
    features = features[~np.isnan(features)].reshape(-1, 70)
    np.testing.assert_array_equal(pack(features, threshold), np.packbits(features.astype(float) > threshold, axis=1))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_pack_every_8_bit_integer(path, dtype):
    features = np.arange(256, dtype=np.uint8).view(dtype).reshape(4, 64)
    for threshold in (-np.inf, -1e9, -129, -128.5, -128, -0.5, 0, 0.5, 126.5, 127, 128, 254.9, 255, 256, 1e9, np.inf):
        np.testing.assert_array_equal(pack(features, threshold), oracle.pack(features, threshold), str(threshold))


@pytest.mark.parametrize("dtype", FLOATS)
def test_pack_compares_exactly(path, dtype):
    value = dtype(0.1)
    just_below, just_above = np.nextafter(float(value), -1), np.nextafter(float(value), 1)
    features = np.full((1, 40), value)
    assert pack(features, just_below).tolist() == [[255] * 5]
    assert pack(features, float(value)).tolist() == [[0] * 5]
    assert pack(features, just_above).tolist() == [[0] * 5]
    tiny = np.full((1, 40), np.finfo(dtype).smallest_subnormal)
    assert pack(tiny, 0.0).tolist() == [[255] * 5]
    assert pack(-tiny, -0.0).tolist() == [[0] * 5]
    assert pack(-tiny * dtype(0), 0.0).tolist() == [[0] * 5]
    assert pack(-tiny * dtype(0), -1e-300).tolist() == [[255] * 5]
    most = np.full((1, 40), np.finfo(dtype).max)
    assert pack(most, np.inf).tolist() == [[0] * 5]
    assert pack(np.full((1, 40), dtype(np.inf)), np.finfo(dtype).max).tolist() == [[255] * 5]
    assert pack(np.full((1, 40), dtype(np.inf)), np.inf).tolist() == [[0] * 5]
    assert pack(np.full((1, 40), dtype(-np.inf)), -np.inf).tolist() == [[0] * 5]


@settings(max_examples=60, deadline=None)
@given(
    features=st.sampled_from(FLOATS).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
            elements={"allow_nan": False, "allow_infinity": True},
        )
    ),
    data=st.data(),
)
def test_pack_any_floats(features, data):
    number = st.floats(allow_nan=False) | st.sampled_from(features.ravel().tolist())
    threshold = data.draw(number | st.lists(number, min_size=features.shape[1], max_size=features.shape[1]))
    expected = oracle.pack(features, np.array(threshold))
    np.testing.assert_array_equal(pack(features, threshold), expected)
    compiled, codes_module._pack = codes_module._pack, None
    try:
        np.testing.assert_array_equal(pack(features, threshold), expected)
    finally:
        codes_module._pack = compiled


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_pack_finds_nan_anywhere(path, dtype, nan):
    for bits in (1, 8, 15, 16, 17, 31, 32, 33, 64, 75):
        for column in range(bits):
            features = np.full((4, bits), 1, dtype=dtype)
            features[2, column] = nan
            for given_features in (features, np.asfortranarray(features)):
                with pytest.raises(
                    ValueError, match=f"features must not contain NaN, got one in row 2, column {column}$"
                ):
                    pack(given_features)
    with pytest.raises(ValueError, match=r"features must not contain NaN, got one in column 1$"):
        pack(np.array([0, nan], dtype=dtype))


def test_pack_takes_infinities_for_numbers(path):
    for dtype in FLOATS:
        assert pack(np.array([np.inf, -np.inf] * 20, dtype=dtype)).tolist() == [0b10101010] * 5


def test_pack_shapes(path):
    assert pack(np.array([1.0, -1, 1])).tolist() == [0b10100000]
    assert pack(np.empty((0, 12))).shape == (0, 2)
    assert pack([[True, False], [False, True]]).tolist() == [[128], [64]]
    assert pack(np.empty((0, 12)), np.zeros(12)).shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32])
def test_pack_small_integers(path, dtype):
    info = np.iinfo(dtype)
    features = np.array([[info.min, 0, 1, info.max - 1, info.max]], dtype=dtype)
    for threshold in (0, 0.5, info.max - 1, info.max - 0.5, -0.5):
        np.testing.assert_array_equal(pack(features, threshold), oracle.pack(features, threshold))


@pytest.mark.parametrize(
    ("features", "threshold", "error", "message"),
    [
        (np.zeros((2, 0)), 0, ValueError, "features must have 1 to 65536 columns, got 0"),
        (np.zeros((1, 65537), np.int8), 0, ValueError, "features must have 1 to 65536 columns, got 65537"),
        (np.zeros((1, 2, 3)), 0, ValueError, "features must be 1-D or 2-D, got 3-D"),
        (1.0, 0, ValueError, "features must be 1-D or 2-D, got 0-D"),
        (np.zeros(3, np.int64), 0, TypeError, "features must be float16, .* at most 32 bits, got int64"),
        (np.zeros(3, complex), 0, TypeError, "features must be float16, .* at most 32 bits, got complex128"),
        (["a", "b"], 0, TypeError, "features must be float16, .* at most 32 bits, got "),
        (
            np.zeros(3),
            np.zeros(2),
            ValueError,
            r"threshold must be one number or .*, \(3,\), got shape \(2,\)",
        ),
        (np.zeros(3), np.zeros((1, 3)), ValueError, r"threshold must be .*, got shape \(1, 3\)"),
        (np.zeros(3), np.nan, ValueError, "threshold must not be NaN$"),
        (np.zeros(3), [0, 1, np.nan], ValueError, "threshold must not be NaN, got one in column 2"),
        (np.zeros(3), "0", TypeError, "threshold must be a number or an array of numbers"),
        (np.zeros(3), None, TypeError, "threshold must be a number or an array of numbers .*, got object"),
    ],
)
def test_pack_bad_input(path, features, threshold, error, message):
    with pytest.raises(error, match=message):
        pack(features, threshold)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="here a longdouble is a float64")
def test_pack_refuses_extended_precision(path):
    with pytest.raises(TypeError, match=r"features must be float16, .* at most 32 bits, got "):
        pack(np.zeros(3, np.longdouble))
    with pytest.raises(TypeError, match="threshold must be a number or an array of numbers"):
        pack(np.zeros(3), np.longdouble(0))


def test_pack_in_threads(path):
    rng = np.random.default_rng(2)
    features = rng.standard_normal((2000, 100), dtype=np.float32)
    expected = np.packbits(features > 0, axis=1)
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(pack(features), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# unpack


def test_unpack_every_width(path):
    rng = np.random.default_rng(3)
    for bits in WIDTHS:
        wanted = rng.integers(0, 2, (3, bits), dtype=np.uint8)
        codes = oracle.pack(wanted)
        unpacked = unpack(codes, bits)
        assert unpacked.dtype == np.uint8
        np.testing.assert_array_equal(unpacked, oracle.unpack(codes, bits))
        np.testing.assert_array_equal(unpacked, wanted)
        np.testing.assert_array_equal(pack(unpacked), codes)
        np.testing.assert_array_equal(unpack(codes[1], bits), wanted[1])
        np.testing.assert_array_equal(unpack(codes[::-1], bits), wanted[::-1])
        assert unpack(codes[:0], bits).shape == (0, bits)


def test_unpack_bad_input(path):
    with pytest.raises(ValueError, match="bits must be at least 1, got 0"):
        unpack(np.zeros(1, np.uint8), 0)
    with pytest.raises(ValueError, match="codes must have 2 bytes a code for 9 bits, got 1"):
        unpack(np.zeros(1, np.uint8), 9)
    with pytest.raises(ValueError, match="codes must have zeros in the 7 pad bits"):
        unpack(np.array([0, 1], np.uint8), 9)


# Levels


def test_levels_read_as_a_mapping():
    levels = Levels({"coarse": 16, "fine": 48})
    assert dict(levels) == {"coarse": 16, "fine": 48}
    assert list(levels) == ["coarse", "fine"]
    assert (levels["fine"], len(levels), "fine" in levels, "medium" in levels) == (48, 2, True, False)
    assert (levels.bits, levels.n_bytes) == (64, 8)
    assert (levels.byte_range("coarse"), levels.byte_range("fine")) == (slice(0, 2), slice(2, 8))
    assert (levels.bit_range("coarse"), levels.bit_range("fine")) == (slice(0, 16), slice(16, 64))
    assert repr(levels) == "Levels({'coarse': 16, 'fine': 48})"
    with pytest.raises(KeyError):
        levels.byte_range("medium")
    with pytest.raises(TypeError):
        levels["fine"] = 8


def test_levels_compare_by_names_bits_and_order():
    levels = Levels({"a": 8, "b": 16})
    assert levels == Levels({"a": 8, "b": 16}) == {"a": 8, "b": 16}
    assert hash(levels) == hash(Levels({"a": 8, "b": 16}))
    assert levels != Levels({"b": 16, "a": 8})
    assert levels != Levels({"a": 8, "b": 8})
    assert levels != Levels({"a": 8, "c": 16})
    assert levels != 24
    assert Levels(levels) == levels


def test_levels_round_trips():
    levels = Levels({"coarse": 16, "fine": 48})
    assert Levels(json.loads(json.dumps(dict(levels)))) == levels
    assert pickle.loads(pickle.dumps(levels)) == levels
    assert copy.deepcopy(levels) == levels


def test_a_single_level_has_any_bits():
    assert dict(Levels.single(13)) == {"code": 13}
    assert Levels.single(13) == Levels({"code": 13})
    assert (Levels.single(13).n_bytes, Levels.single(65536).n_bytes) == (2, 8192)
    assert Levels.single(np.int64(9)).bits == 9


@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        ({}, ValueError, "levels must name at least one level, got none"),
        (64, TypeError, "levels must be a mapping of name to bits, got int"),
        ([("a", 8)], TypeError, "levels must be a mapping of name to bits, got list"),
        ({"": 8}, ValueError, "levels must have names that are not empty"),
        ({1: 8}, TypeError, "levels must have names that are str, got 1"),
        ({"a": 0}, ValueError, r"levels\['a'\] must be at least 1, got 0"),
        ({"a": -8}, ValueError, r"levels\['a'\] must be at least 1, got -8"),
        ({"a": 8.0}, TypeError, r"levels\['a'\] must be an integer, got 8.0"),
        ({"a": True}, TypeError, r"levels\['a'\] must be an integer, got True"),
        ({"a": 8, "b": 9}, ValueError, r"levels\['b'\] must be a whole number of bytes .*, got 9"),
        ({"a": 65537}, ValueError, "levels must have at most 65536 bits together, got 65537"),
        ({"a": 65536, "b": 8}, ValueError, "levels must have at most 65536 bits together, got 65544"),
    ],
)
def test_levels_bad_input(levels, error, message):
    with pytest.raises(error, match=message):
        Levels(levels)


@pytest.mark.parametrize(("bits", "error"), [(0, ValueError), (65537, ValueError), (8.0, TypeError), (None, TypeError)])
def test_single_bad_bits(bits, error):
    with pytest.raises(error, match="bits must be "):
        Levels.single(bits)


# Validators


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

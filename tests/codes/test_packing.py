"""Packing and unpacking, in every way that rows are packed, against the reference in `oracle`."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layouts import layouts

import pyhash
from pyhash.codes import pack, packing, unpack

FLOATS = [np.float16, np.float32, np.float64]
DTYPES = [*FLOATS, np.int8, np.uint8, np.bool_]
WIDTHS = [*range(1, 70), 95, 96, 97, 127, 128, 129, 1000]
PATHS = ["avx2", "scalar", "numpy"]


def paths_here() -> Iterator[str]:
    """The ways that rows can be packed here."""
    if packing._pack is not None:
        if packing._pack.use("auto") == "avx2":
            yield "avx2"
        yield "scalar"
    yield "numpy"


@pytest.fixture(params=paths_here())
def path(request, monkeypatch):
    """Each way that rows are packed."""
    compiled = packing._pack
    if request.param == "numpy":
        monkeypatch.setattr(packing, "_pack", None)
        yield request.param
    else:
        assert compiled.use(request.param) == request.param
        yield request.param
        compiled.use("auto")


@pytest.mark.parametrize("name", PATHS)
def test_what_cannot_run_here_is_said(name):
    if name not in paths_here():
        pytest.skip("pyhash.codes._pack is not compiled, or this CPU has no AVX2")


def test_the_kernel_that_is_chosen_packs_too():
    if packing._pack is None:
        pytest.skip("pyhash.codes._pack is not compiled")
    best = packing._pack.use("auto")
    with pyhash.use("scalar") if "scalar" in pyhash.kernels() else pyhash.use("auto"):
        assert packing._pack.kernel() == ("scalar" if "scalar" in pyhash.kernels() else best)
    assert packing._pack.kernel() == best


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
    compiled, packing._pack = packing._pack, None
    try:
        np.testing.assert_array_equal(pack(features, threshold), expected)
    finally:
        packing._pack = compiled


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

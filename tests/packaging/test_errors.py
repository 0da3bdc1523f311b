"""Bad input: an error says which argument, what it must be and what it was, on every kernel alike; nothing changes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import random_codes

import pyhash
from pyhash import Index
from pyhash.errors import MissingIdError

CURE = "; of numbers from 0 to 255 np.array(..., np.uint8) makes codes"
PACK = "; these look unpacked, so pyhash.pack them first"
CODES = random_codes(np.random.default_rng(0), 40, 64)
ODD = random_codes(np.random.default_rng(0), 40, 12)
BAD_PAD = ODD.copy()
BAD_PAD[5, 1] |= 1
IDS = np.arange(10, 50)
LEVELS = "'coarse', 'fine'"
HUGE = 2**63
RAGGED = (
    "setting an array element with a sequence. The requested array has an inhomogeneous shape after 1 dimensions. "
    "The detected shape was (2,) + inhomogeneous part."
)


def add_to(index: Index) -> Callable[..., Any]:
    return index.add


# What is called with what, and the error's type and whole text.
Case = tuple[str, Callable[[Index], Any], type[Exception], str]
ARRAYS: list[Case] = []


def bad_arrays(name: str, call: Callable[[Index, Any], Any]) -> list[Case]:
    """Everything that is not codes of 64 bits, given as the argument of this name."""
    bad: list[tuple[str, Any, type[Exception], str]] = [
        ("int8", CODES.view(np.int8), TypeError, "{} must be packed codes of dtype uint8, got int8"),
        ("int64", CODES.astype(np.int64), TypeError, f"{{}} must be packed codes of dtype uint8, got int64{CURE}"),
        ("float32", CODES.astype(np.float32), TypeError, "{} must be packed codes of dtype uint8, got float32"),
        ("list", [[1] * 8], TypeError, f"{{}} must be packed codes of dtype uint8, got int64{CURE}"),
        ("int64, large", [[256] * 8], TypeError, "{} must be packed codes of dtype uint8, got int64"),
        ("bool", np.ones((2, 64), bool), TypeError, f"{{}} must be packed codes of dtype uint8, got bool{PACK}"),
        (
            "unpacked",
            np.ones((2, 64), np.uint8),
            ValueError,
            f"{{}} must have 8 bytes a code for 64 bits, got 64{PACK}",
        ),
        ("ragged", [[1], [2, 3]], ValueError, "{} must be an array: " + RAGGED),
        ("None", None, TypeError, "{} must be packed codes of dtype uint8, got object"),
        ("text", "code", TypeError, "{} must be packed codes of dtype uint8, got <U4"),
        ("narrow", CODES[:, :7], ValueError, "{} must have 8 bytes a code for 64 bits, got 7"),
        ("wide", np.zeros((2, 9), np.uint8), ValueError, "{} must have 8 bytes a code for 64 bits, got 9"),
        ("ones", np.ones((2, 64), np.uint8), ValueError, f"{{}} must have 8 bytes a code for 64 bits, got 64{PACK}"),
        ("no bytes", CODES[:, :0], ValueError, "{} must have 1 to 8192 bytes a code, got 0"),
        ("narrow, 1-D", CODES[0, :7], ValueError, "{} must have 8 bytes a code for 64 bits, got 7"),
        ("0-D", CODES[0, 0], ValueError, "{} must be 1-D or 2-D, got 0-D"),
        ("3-D", CODES[None], ValueError, "{} must be 1-D or 2-D, got 3-D"),
    ]
    return [
        (f"{name}: {label}", lambda index, value=value: call(index, value), error, text.format(name))
        for label, value, error, text in bad
    ]


ARRAYS += bad_arrays("codes", lambda index, codes: index.add(codes))
ARRAYS += bad_arrays("codes", lambda index, codes: index.add(codes, np.arange(100, 140)))
ARRAYS += bad_arrays("codes", lambda index, codes: index.update(IDS, codes))
ARRAYS += bad_arrays("queries", lambda index, queries: index.search(queries, 3))
ARRAYS += bad_arrays("queries", lambda index, queries: index.range_search(queries, 3))


def bad_integers(name: str, call: Callable[[Index, Any], Any], least: int) -> list[Case]:
    return [
        *(
            (f"{name}={value!r}", lambda index, value=value: call(index, value), ValueError, text)
            for value, text in [
                (least - 1, f"{name} must be at least {least}, got {least - 1}"),
                (-(2**70), f"{name} must be at least {least}, got {-(2**70)}"),
                (np.int64(-5), f"{name} must be at least {least}, got -5"),
            ]
        ),
        *(
            (f"{name}={value!r}", lambda index, value=value: call(index, value), TypeError, text)
            for value, text in [
                (2.0, f"{name} must be an integer, got 2.0"),
                ("2", f"{name} must be an integer, got '2'"),
                (True, f"{name} must be an integer, got True"),
                ([2], f"{name} must be an integer, got [2]"),
            ]
        ),
    ]


q = CODES[:3]
SEARCHES: list[Case] = [
    *bad_integers("k", lambda index, k: index.search(q, k), 1),
    ("k=None", lambda index: index.search(q, None), TypeError, "k must be an integer, got None"),
    *bad_integers("radius", lambda index, radius: index.range_search(q, radius), 0),
    *bad_integers("radius", lambda index, radius: index.pairs(radius), 0),
    *bad_integers("threads", lambda index, threads: index.search(q, 3, threads=threads), 1),
    *bad_integers("threads", lambda index, threads: index.range_search(q, 3, threads=threads), 1),
    *bad_integers("threads", lambda index, threads: index.pairs(3, threads=threads), 1),
    *bad_integers("threads", lambda index, threads: index.optimize(threads=threads), 1),
    *bad_integers("weights['fine']", lambda index, w: index.search(q, 3, weights={"coarse": 1, "fine": w}), 0),
    *bad_integers("cascade's number of candidates", lambda index, n: index.search(q, 3, cascade=("coarse", n)), 1),
]
for search in (
    lambda index, **options: index.search(q, 3, **options),
    lambda index, **options: index.range_search(q, 3, **options),
):
    for label, options, error, text in [
        ("level", {"level": "medium"}, ValueError, f"level must name a level of this index ({LEVELS}), got 'medium'"),
        ("level", {"level": ""}, ValueError, f"level must name a level of this index ({LEVELS}), got ''"),
        ("level", {"level": 1}, ValueError, f"level must name a level of this index ({LEVELS}), got 1"),
        ("level", {"level": ["fine"]}, ValueError, f"level must name a level of this index ({LEVELS}), got ['fine']"),
        (
            "weights",
            {"weights": {"fin": 1}},
            ValueError,
            f"weights must name a level of this index ({LEVELS}), got 'fin'",
        ),
        ("weights", {"weights": {1: 1}}, ValueError, f"weights must name a level of this index ({LEVELS}), got 1"),
        ("weights", {"weights": [3, 1]}, TypeError, "weights must be a mapping of level to integer, got list"),
        ("weights", {"weights": {}}, ValueError, "weights must have one that is not 0, got {}"),
        ("weights", {"weights": {"fine": 0}}, ValueError, "weights must have one that is not 0, got {'fine': 0}"),
        (
            "weights",
            {"weights": {"fine": 2**31 // 48, "coarse": 2}},
            ValueError,
            f"weights must keep distances below 2**31 - 1, got a largest distance of {2**31 // 48 * 48 + 32}",
        ),
        (
            "both",
            {"weights": {"fine": 1}, "level": "fine"},
            ValueError,
            "level and weights must not both be given",
        ),
        (
            "where",
            {"where": np.ones(39, dtype=bool)},
            ValueError,
            "where, as a mask, must have one entry a code: 40, got 39",
        ),
        (
            "where",
            {"where": np.ones(41, dtype=bool)},
            ValueError,
            "where, as a mask, must have one entry a code: 40, got 41",
        ),
        ("where", {"where": np.ones((1, 40), dtype=bool)}, ValueError, "where must be 1-D, got 2-D"),
        ("where", {"where": 10}, ValueError, "where must be 1-D, got 0-D"),
        ("where", {"where": [10.0]}, TypeError, "where must be integers, got dtype float64"),
        ("where", {"where": ["10"]}, TypeError, "where must be integers, got dtype <U2"),
        ("where", {"where": [HUGE]}, ValueError, f"where must be at most {2**63 - 1}, got {HUGE}"),
    ]:
        SEARCHES.append(
            (f"{label}={options}", lambda index, s=search, o=options: s(index, **o), error, text)  # type: ignore[misc]
        )
SEARCHES += [
    (
        f"cascade={cascade}",
        lambda index, cascade=cascade: index.search(q, 3, cascade=cascade),  # type: ignore[misc]
        error,
        text,
    )
    for cascade, error, text in [
        (("medium", 5), ValueError, f"cascade must name a level of this index ({LEVELS}), got 'medium'"),
        ((["fine"], 5), ValueError, f"cascade must name a level of this index ({LEVELS}), got ['fine']"),
        ("fine", TypeError, "cascade must be a pair (level, number of candidates), got 'fine'"),
        (("fine",), TypeError, "cascade must be a pair (level, number of candidates), got ('fine',)"),
        (("fine", 5, 6), TypeError, "cascade must be a pair (level, number of candidates), got ('fine', 5, 6)"),
        (5, TypeError, "cascade must be a pair (level, number of candidates), got 5"),
    ]
]

CHANGES: list[Case] = [
    (
        "ids taken",
        lambda i: i.add(CODES[:2], [100, 12]),
        ValueError,
        "id 12 is already in the index; use update() to replace its code",
    ),
    (
        "one id taken",
        lambda i: i.add(CODES[0], 12),
        ValueError,
        "id 12 is already in the index; use update() to replace its code",
    ),
    ("ids twice", lambda i: i.add(CODES[:3], [7, 5, 7]), ValueError, "ids must be unique, got 7 more than once"),
    ("too few ids", lambda i: i.add(CODES[:3], [1, 2]), ValueError, "ids must have one entry a code: 3, got 2"),
    ("too many ids", lambda i: i.add(CODES[0], [1, 2]), ValueError, "ids must have one entry a code: 1, got 2"),
    (
        "id -1",
        lambda i: i.add(CODES[:2], [5, -1]),
        ValueError,
        "ids must not contain -1, which marks padding in answers",
    ),
    ("float ids", lambda i: i.add(CODES[:2], [1.0, 2.0]), TypeError, "ids must be integers, got dtype float64"),
    ("bool ids", lambda i: i.add(CODES[:2], [True, False]), TypeError, "ids must be integers, got dtype bool"),
    ("text ids", lambda i: i.add(CODES[:2], ["a", "b"]), TypeError, "ids must be integers, got dtype <U1"),
    ("None ids", lambda i: i.add(CODES[:2], [None, 1]), TypeError, "ids must be integers, got dtype object"),
    ("2-D ids", lambda i: i.add(CODES[:2], [[1, 2]]), ValueError, "ids must be 1-D, got 2-D"),
    ("huge ids", lambda i: i.add(CODES[:1], [HUGE]), ValueError, f"ids must be at most {2**63 - 1}, got {HUGE}"),
    ("huger ids", lambda i: i.add(CODES[:2], [3, 2**70]), ValueError, f"ids must be at most {2**63 - 1}, got {2**70}"),
    ("low ids", lambda i: i.remove([11, -(2**70)]), ValueError, f"ids must be at least {-(2**63)}, got {-(2**70)}"),
    ("ragged ids", lambda i: i.add(CODES[:2], [[1], [2, 3]]), ValueError, f"ids must be an array: {RAGGED}"),
    ("remove unknown", lambda i: i.remove([11, 9, 8]), MissingIdError, "ids must be in the index, but 8, 9 are not"),
    ("remove unknown one", lambda i: i.remove(50), MissingIdError, "ids must be in the index, but 50 is not"),
    ("remove -1", lambda i: i.remove([-1]), MissingIdError, "ids must be in the index, but -1 is not"),
    ("remove float", lambda i: i.remove([11.0]), TypeError, "ids must be integers, got dtype float64"),
    ("remove mask", lambda i: i.remove(np.ones(40, bool)), TypeError, "ids must be integers, got dtype bool"),
    ("codes of unknown", lambda i: i.codes([12, 99]), MissingIdError, "ids must be in the index, but 99 is not"),
    ("codes of 2-D", lambda i: i.codes([[12]]), ValueError, "ids must be 1-D, got 2-D"),
    ("codes of float", lambda i: i.codes(12.0), TypeError, "ids must be integers, got dtype float64"),
    (
        "update unknown",
        lambda i: i.update([12, 99, 13], CODES[:3]),
        MissingIdError,
        "ids must be in the index, but 99 is not",
    ),
    (
        "update twice",
        lambda i: i.update([12, 13, 12], CODES[:3]),
        ValueError,
        "ids must be unique, got 12 more than once",
    ),
    ("update too few", lambda i: i.update([12, 13], CODES[:1]), ValueError, "codes must have one row an id: 2, got 1"),
    ("update too many", lambda i: i.update(12, CODES[:2]), ValueError, "codes must have one row an id: 1, got 2"),
    ("update float ids", lambda i: i.update([1.5], CODES[:1]), TypeError, "ids must be integers, got dtype float64"),
]

CASES = ARRAYS + SEARCHES + CHANGES


def raises(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error
    assert caught.value.args[0] == text


@pytest.mark.parametrize("structure", ["flat", "ring"])
def test_bad_input_raises_the_same_error_and_changes_nothing(
    kernel: str, structure: str, subtests: pytest.Subtests
) -> None:
    index = Index(levels={"coarse": 16, "fine": 48}, structure=structure)
    index.add(CODES, IDS)
    index.search(q, 3)
    before = bytes(index)
    for label, call, error, text in CASES:
        with subtests.test(label):
            raises(lambda call=call: call(index), error, text)  # type: ignore[misc]
            assert bytes(index) == before
    assert index.add(CODES[:1]).tolist() == [50]  # nor were ids used up


@pytest.mark.parametrize("empty", [True, False])
def test_pad_bits_must_be_zero(kernel: str, empty: bool) -> None:
    index = Index(12)
    if not empty:
        index.add(ODD)
    before = bytes(index)
    text = "{} must have zeros in the 4 pad bits after the 12 of a code, but the last byte of row 5 has not"
    raises(lambda: index.add(BAD_PAD), ValueError, text.format("codes"))
    raises(lambda: index.update(np.arange(40), BAD_PAD), ValueError, text.format("codes"))
    raises(lambda: index.search(BAD_PAD), ValueError, text.format("queries"))
    raises(lambda: index.range_search(BAD_PAD, 3), ValueError, text.format("queries"))
    raises(lambda: index.search(BAD_PAD[5]), ValueError, text.format("queries").replace(" of row 5", ""))
    assert bytes(index) == before


def test_a_k_beyond_all_memory(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are as long as k asks for; one that cannot be made says so, and not in the words of the binding."""
    index = Index(64)
    index.add(CODES)
    for k in (2**50, 2**62, 2**64, 10**30):
        with pytest.raises(ValueError, match=r"^k must be at most 2147483647, got "):
            index.search(q, k)
    text = "k must be smaller: 2147483647 answers to each of 3 queries need 77.3 GB, 68.7 GB are available"
    with monkeypatch.context() as patched:
        patched.setattr(pyhash.support.machine, "available_memory", lambda: 2**36)
        raises(lambda: index.search(q, 2**31 - 1), MemoryError, text)
    assert len(index.search(q, 3)[0]) == 3


def test_a_cascade_with_more_candidates_than_memory(kernel: str) -> None:
    index = Index(levels={"coarse": 16, "fine": 48})
    index.add(CODES)
    expected = index.search(q, 3)
    for n_candidates in (10**12, 2**62, 2**64, 10**30):
        for found, right in zip(index.search(q, 3, cascade=("coarse", n_candidates)), expected, strict=True):
            np.testing.assert_array_equal(found, right)


def test_mapped_index_refuses_every_change(kernel: str, tmp_path: Path) -> None:
    index = Index(64)
    index.add(CODES)
    index.save(tmp_path / "index")
    before = (tmp_path / "index").read_bytes()
    mapped = Index.open(tmp_path / "index", mmap=True)
    assert mapped.readonly
    text = "the index is mapped from a file and read-only; open it with mmap=False to change it"
    for change in (
        lambda: mapped.add(CODES),
        lambda: mapped.add(CODES[:0]),
        lambda: mapped.add(CODES, np.arange(100, 140)),
        lambda: mapped.update(3, CODES[0]),
        lambda: mapped.remove(3),
        lambda: mapped.remove([]),
        lambda: mapped.optimize(),
    ):
        raises(change, ValueError, text)
    assert len(mapped) == 40
    assert (tmp_path / "index").read_bytes() == bytes(mapped) == before


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Index(), ValueError, "exactly one of bits and levels must be given, got bits=None, levels=None"),
        (
            lambda: Index(64, levels={"a": 64}),
            ValueError,
            "exactly one of bits and levels must be given, got bits=64, levels={'a': 64}",
        ),
        (lambda: Index(0), ValueError, "bits must be at least 1, got 0"),
        (lambda: Index(-8), ValueError, "bits must be at least 1, got -8"),
        (lambda: Index(65537), ValueError, "bits must be at most 65536, got 65537"),
        (lambda: Index(64.0), TypeError, "bits must be an integer, got 64.0"),
        (lambda: Index("64"), TypeError, "bits must be an integer, got '64'"),
        (lambda: Index(True), TypeError, "bits must be an integer, got True"),
        (lambda: Index(levels={}), ValueError, "levels must name at least one level, got none"),
        (lambda: Index(levels=["a"]), TypeError, "levels must be a mapping of name to bits, got list"),
        (lambda: Index(levels={"a": 0}), ValueError, "levels['a'] must be at least 1, got 0"),
        (lambda: Index(levels={"a": 8.0}), TypeError, "levels['a'] must be an integer, got 8.0"),
        (lambda: Index(levels={1: 8}), TypeError, "levels must have names that are str, got 1"),
        (
            lambda: Index(levels={"a": 8, "b": 12}),
            ValueError,
            "levels['b'] must be a whole number of bytes (a multiple of 8 bits), got 12",
        ),
        (
            lambda: Index(levels={"a": 65536, "b": 8}),
            ValueError,
            "levels must have at most 65536 bits together, got 65544",
        ),
        (lambda: Index(8, structure="tree"), ValueError, "structure must be one of 'auto', 'flat', 'ring', got 'tree'"),
        (lambda: Index(8, structure=None), ValueError, "structure must be one of 'auto', 'flat', 'ring', got None"),
        (
            lambda: Index(8, structure=["flat"]),
            ValueError,
            "structure must be one of 'auto', 'flat', 'ring', got ['flat']",
        ),
    ],
)
def test_bad_index(make: Callable[[], Any], error: type[Exception], text: str) -> None:
    raises(make, error, text)


def test_features_and_codes(kernel: str) -> None:
    """What surrounds the index: packing, unpacking and distances."""
    features = np.zeros((3, 20), dtype=np.float32)
    features[1, 4] = np.nan
    raises(lambda: pyhash.pack(features), ValueError, "features must not contain NaN, got one in row 1, column 4")
    raises(lambda: pyhash.pack(features[1]), ValueError, "features must not contain NaN, got one in column 4")
    raises(lambda: pyhash.pack(features[None]), ValueError, "features must be 1-D or 2-D, got 3-D")
    raises(lambda: pyhash.unpack(CODES, 65), ValueError, "codes must have 9 bytes a code for 65 bits, got 8")
    raises(
        lambda: pyhash.hamming(CODES, CODES[:, :3]),
        ValueError,
        "a and b must have the same number of bytes a code, got 8 and 3",
    )
    raises(
        lambda: pyhash.hamming(CODES.view(np.int8), CODES), TypeError, "a must be packed codes of dtype uint8, got int8"
    )
    raises(lambda: pyhash.hamming(CODES, CODES, threads=0), ValueError, "threads must be at least 1, got 0")


def test_unknown_kernel(kernel: str) -> None:
    with pytest.raises(ValueError, match=r"^kernel must be one of 'auto', .*got 'sse9'$") as caught:
        pyhash.use("sse9")
    assert all(repr(name) in str(caught.value) for name in pyhash.kernels())
    with pytest.raises(ValueError, match="kernel must be one of"):
        pyhash.use("")
    assert pyhash.kernel() == kernel


@pytest.mark.parametrize("opening", ["open", "mmap", "from_bytes", "pickle"])
def test_what_is_not_an_index(opening: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pyhash"

    def read(content: bytes) -> Any:
        path.write_bytes(content)
        if opening == "open":
            return Index.open(path)
        if opening == "mmap":
            return Index.open(path, mmap=True)
        return Index.from_bytes(content)

    source = re.escape(str(path)) if opening in ("open", "mmap") else "data"
    if opening == "pickle":
        whole = pickle.dumps(Index(64))
        damaged = whole.replace(b"PYHASHIX", b"PYHASHIY")
        assert damaged != whole
        with pytest.raises(pyhash.CorruptIndexError, match=r"data: not a pyhash index: it begins with b'PYHASHIY'"):
            pickle.loads(damaged)
        return
    with pytest.raises(pyhash.CorruptIndexError, match=source):
        read(b"")
    with pytest.raises(pyhash.CorruptIndexError, match=rf"{source}: cut short: 5 bytes"):
        read(b"PYHAS")
    with pytest.raises(pyhash.CorruptIndexError, match=rf"{source}: not a pyhash index: it begins with b'hello'"):
        read(b"hello")
    with pytest.raises(pyhash.CorruptIndexError, match=rf"{source}: not a pyhash index: it begins with b'\\x89PNG"):
        read(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert issubclass(pyhash.CorruptIndexError, ValueError)
    with pytest.raises(FileNotFoundError):
        Index.open(tmp_path / "nothing here", mmap=opening == "mmap")
    with pytest.raises(IsADirectoryError):
        Index.open(tmp_path, mmap=opening == "mmap")


def test_missing_ids_say_which() -> None:
    index = Index(64)
    index.add(np.zeros((3, 8), np.uint8))
    with pytest.raises(pyhash.errors.MissingIdError) as caught:
        index.codes([7, 1, 9])
    assert caught.value.ids == [7, 9]
    assert str(caught.value) == "ids must be in the index, but 7, 9 are not"
    assert isinstance(caught.value, KeyError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.ids, str(again)) == ([7, 9], str(caught.value))


def test_every_error_has_one_root() -> None:
    names = [name for name in pyhash.errors.__all__ if name != "PyhashError"]
    assert all(issubclass(getattr(pyhash.errors, name), pyhash.PyhashError) for name in names)
    for name, base in (("ImageError", ValueError), ("CorruptIndexError", ValueError), ("EncoderError", ValueError)):
        assert issubclass(getattr(pyhash, name), base)
    report = pyhash.errors.QuantizationError("worse", {"loss": 1})
    again = pickle.loads(pickle.dumps(report))
    assert (str(again), again.report) == ("worse", {"loss": 1})

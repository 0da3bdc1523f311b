"""Levels: named ranges of bits."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

from pyhash.codes import Levels


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

"""What an encoder's file says about itself: written and read again, of other versions, and damaged."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("PIL")
from pyhash.codes import Levels
from pyhash.errors import EncoderError
from pyhash.images import CROPS, RESIZES
from pyhash.networks import Metadata, Preparation, TapNote

WHOLE = Metadata(
    schema=1,
    name="mine",
    levels=Levels({"coarse": 8, "fine": 16}),
    size=(6, 12),
    resize="bicubic",
    crop="center",
    taps=(TapNote("stage1", 8, "gap"), TapNote("fc", 64, "none")),
    training="head lsh fitted on 3 images of photos",
    quantized="int8",
)
SIDES = st.integers(1, 4096)
METADATA = st.builds(
    Metadata,
    schema=st.just(1),
    name=st.text(),
    levels=st.none() | st.integers(1, 512).map(Levels.single) | st.just(Levels({"coarse": 8, "fine": 16})),
    made_of=st.dictionaries(st.text(), st.text()),
    spread=st.lists(st.integers(0, 9999).map(lambda value: value / 100), max_size=4).map(tuple),
    size=st.none() | SIDES | st.tuples(SIDES, SIDES).filter(lambda size: size[0] != size[1]),
    resize=st.none() | st.sampled_from(RESIZES),
    crop=st.none() | st.sampled_from(CROPS),
    crop_fraction=st.none() | st.floats(0.01, 1),
    fill=st.none() | st.tuples(*[st.integers(0, 255)] * 3),
    taps=st.lists(st.builds(TapNote, st.text(), st.none() | st.integers(1), st.none() | st.text())).map(tuple),
    training=st.text(),
    quantized=st.none() | st.sampled_from(["weights", "int8"]),
    others=st.dictionaries(st.text(min_size=1).map("x-{}".format), st.text()),
)


@given(METADATA)
def test_what_is_written_is_read(metadata: Metadata) -> None:
    assert Metadata.parse(metadata.properties()) == metadata


def test_the_entries_are_those_of_the_files_there_are() -> None:
    assert WHOLE.properties() == {
        "pyhash.schema": "1",
        "pyhash.name": "mine",
        "pyhash.training": "head lsh fitted on 3 images of photos",
        "pyhash.levels": '{"coarse": 8, "fine": 16}',
        "pyhash.size": "[6, 12]",
        "pyhash.resize": "bicubic",
        "pyhash.crop": "center",
        "pyhash.quantized": "int8",
        "pyhash.taps": '["stage1", "fc"]',
        "pyhash.dims": "[8, 64]",
        "pyhash.pooling": '["gap", "none"]',
    }


def test_entries_of_others_are_left_alone_and_unknown_ones_are_kept() -> None:
    read = Metadata.parse({**WHOLE.properties(), "author": "someone", "pyhash.colour": "yes"})
    assert read == dataclasses.replace(WHOLE, others={"colour": "yes"})
    assert read.properties()["pyhash.colour"] == "yes"
    assert Metadata.parse({"author": "someone"}) == Metadata()


@pytest.mark.parametrize("schema", ["3", "17"])
def test_a_newer_schema_is_refused_by_name_whatever_else_it_says(schema: str) -> None:
    with pytest.raises(EncoderError, match=f"has pyhash.schema {schema}, and .* reads up to 2: upgrade pyhash"):
        Metadata.parse({"pyhash.schema": schema, "pyhash.levels": "something new"})


@pytest.mark.parametrize("schema", ["", "0", "-1", "1.0", "one", "²"])
def test_a_senseless_schema(schema: str) -> None:
    with pytest.raises(EncoderError, match=r"expected metadata pyhash\.schema to be a number from 1 to 2, found"):
        Metadata.parse({"pyhash.schema": schema})


KEYS = st.sampled_from(
    ["schema", "levels", "size", "resize", "crop", "fraction", "fill", "taps", "dims", "pooling", "name"]
)


@given(st.dictionaries(KEYS.map("pyhash.{}".format), st.text() | st.sampled_from(["1", "[1]", "{}", '["a"]', "null"])))
def test_anything_is_read_or_an_encoder_error(properties: dict[str, str]) -> None:
    try:
        read = Metadata.parse(properties)
    except EncoderError:
        return
    assert Metadata.parse(read.properties()) == read


@pytest.mark.parametrize("taps", ["", "stage1", "3", '{"a": 1}'])
def test_taps_that_cannot_be_read_refuse_no_encoder(taps: str) -> None:
    assert Metadata.parse({"pyhash.taps": taps, "pyhash.dims": "[3]"}).taps == ()


@pytest.mark.parametrize(
    ("preprocess", "schema"),
    [
        ({"crop": "center", "resize": "lanczos"}, 1),
        ({"crop": "letterbox"}, 2),
        ({"crop": "center", "crop_fraction": 1}, 2),
        ({"crop": "letterbox", "fill": 114}, 2),
    ],
    ids=str,
)
def test_a_file_names_the_oldest_schema_that_prepares_as_it_says(preprocess: dict[str, Any], schema: int) -> None:
    wanted = Preparation.parse({"preset": "raw", "size": (6, 12), **preprocess})
    told = Metadata.of(wanted)
    assert told.needed_schema == schema
    assert Metadata.parse(told.properties()).preparation == wanted


@pytest.mark.parametrize(
    ("entry", "text"), [("fraction", "0"), ("fraction", "2"), ("fraction", "[1]"), ("fill", "256"), ("fill", "[1, 2]")]
)
def test_a_crop_that_cannot_be_read(entry: str, text: str) -> None:
    with pytest.raises(EncoderError, match=r"^(crop_fraction|fill) must be"):
        Metadata.parse({f"pyhash.{entry}": text})


@pytest.mark.parametrize("text", ["{}", "3", "[-1]", "[NaN]", "[Infinity]", '["a"]', "[true]", "["])
def test_a_spread_that_cannot_be_read(text: str) -> None:
    with pytest.raises(EncoderError, match=r"pyhash\.spread|cannot be read"):
        Metadata.parse({"pyhash.schema": "1", "pyhash.spread": text})


@pytest.mark.parametrize("text", ["[]", "3", "{", "null"])
def test_what_levels_are_made_of_may_be_unknown(text: str) -> None:
    assert Metadata.parse({"pyhash.of": text}).made_of == {}


def test_taps_without_lengths() -> None:
    read = Metadata.parse({"pyhash.taps": '["fused"]', "pyhash.pooling": '["gap", "gem"]'})
    assert read.taps == (TapNote("fused"),)


def test_a_preparation_needs_size_resize_and_crop() -> None:
    preparation = WHOLE.preparation
    assert (preparation.shape, preparation.resize, preparation.crop) == ((6, 12), "bicubic", "center")
    assert preparation.plain  # the network does the rest
    with pytest.raises(EncoderError, match=r"its metadata lacks pyhash\.size, pyhash\.crop$"):
        _ = Metadata(resize="bicubic").preparation

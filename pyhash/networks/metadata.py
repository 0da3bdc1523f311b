"""What an encoder's file says about itself: the one list of its keys, read and written here.

They are entries ``pyhash.KEY`` of the model's ``metadata_props``, all of them text:

========= ==================================================================================
schema    version of this list, the oldest that does; a reader refuses a newer one
name      what the encoder is called
levels    JSON object: bits of each level, from coarse to fine
of        JSON object: what the bits of each level are made of, ``own`` (the image's embedding), ``neighbourhood``
          (to be compared with codes of embeddings averaged over nearest images) or ``labels``
spread    JSON list: the variance of each number of the embedding, of images in general
size      JSON: side in pixels, or [height, width]
resize    how images are resized, as `pyhash.images.load` takes it
crop      what is resized of them, as `pyhash.images.load` takes it
fraction  JSON: how much of that is kept, as its ``crop_fraction``; schema 2, as the next
fill      JSON: what is put beside an image, as its ``fill``
taps      JSON list: the tensors of the network that are read
dims      JSON list: the length of the vector of each tap
components JSON list: how many numbers of the embedding come from each tap; absent where it mixes them
pooling   JSON list: how each tap becomes a vector
training  what it was fitted on
quantized ``weights`` or ``int8``, where the network is not all float
========= ==================================================================================

A network that gives features but has no head yet has no schema, name, levels and training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..codes import Levels
from ..errors import EncoderError
from ..images import CROPS, RESIZES, Crop, Resize, as_shape, check_fill, check_fraction
from .preparation import Preparation

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["MODEL_MARKS", "SCHEMA", "Metadata", "TapNote", "metadata_of", "set_metadata"]

SCHEMA = 2
"""The newest that this version reads."""

_PREFIX = "pyhash."
_Kind = TypeVar("_Kind", list[Any], dict[str, Any])
MODEL_MARKS = [_PREFIX.encode()]
"""How a model file of our own making is known: its metadata lie at its end."""


@dataclass(frozen=True)
class TapNote:
    """A tensor of the network that is read.

    Attributes
    ----------
    name : str
    dim : int or None
        Length of the vector that is made of it; None where the file does not say.
    pooling : str or None
        How; one of `pyhash.networks.POOLINGS`.
    components : int or None
        How many numbers of the embedding come from it, taps in order; None where the embedding mixes taps.
    """

    name: str
    dim: int | None = None
    pooling: str | None = None
    components: int | None = None


@dataclass(frozen=True)
class Metadata:
    """What a file says about itself; None or empty where it does not say.

    Attributes
    ----------
    schema : int or None
    name : str
    levels : Levels or None
    made_of : mapping of str to str
        For each level ``"own"``, ``"neighbourhood"`` or ``"labels"``, as `pyhash.heads.CollectionHead` says.
    spread : tuple of float
        As `pyhash.heads.adapt` takes it as ``general``.
    size : int, (int, int) or None
    resize, crop : str or None
    crop_fraction : float or None
    fill : (int, int, int) or None
    taps : tuple of TapNote
    training : str
    quantized : str or None
    others : mapping of str to str
        Entries that this version does not know, without their prefix; they are kept when the file is made over.
    """

    schema: int | None = None
    name: str = ""
    levels: Levels | None = None
    made_of: Mapping[str, str] = field(default_factory=dict)
    spread: tuple[float, ...] = ()
    size: int | tuple[int, int] | None = None
    resize: Resize | None = None
    crop: Crop | None = None
    crop_fraction: float | None = None
    fill: tuple[int, int, int] | None = None
    taps: tuple[TapNote, ...] = ()
    training: str = ""
    quantized: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, properties: Mapping[str, str]) -> Metadata:
        """Read what is ours of a model's ``metadata_props``.

        Raises
        ------
        EncoderError
            When the schema is newer than this version of pyhash reads, or an entry cannot be read.
        """
        given = {key.removeprefix(_PREFIX): text for key, text in properties.items() if key.startswith(_PREFIX)}
        schema = _schema(given.pop("schema", None))  # first: of a newer one nothing else is known
        made_of = {str(level): str(made) for level, made in _read(given.pop("of", None), dict).items()}
        taps = _lists(
            given.pop("taps", None), given.pop("dims", None), given.pop("pooling", None), given.pop("components", None)
        )
        try:
            levels = Levels(json.loads(given.pop("levels"))) if "levels" in given else None
            size = _size(json.loads(given.pop("size"))) if "size" in given else None
            fraction = check_fraction(json.loads(given.pop("fraction", "null")))
            fill = check_fill(json.loads(given.pop("fill"))) if "fill" in given else None
            spread = _variances(json.loads(given.pop("spread"))) if "spread" in given else ()
        except json.JSONDecodeError as error:
            raise EncoderError(f"its metadata cannot be read: {error}") from error
        except (TypeError, ValueError) as error:
            raise EncoderError(str(error)) from error
        return cls(
            schema=schema,
            name=given.pop("name", ""),
            levels=levels,
            made_of=made_of,
            spread=spread,
            size=size,
            resize=cast(Resize | None, _one_of("resize", given.pop("resize", None), RESIZES)),
            crop=cast(Crop | None, _one_of("crop", given.pop("crop", None), CROPS)),
            crop_fraction=fraction,
            fill=fill,
            taps=taps,
            training=given.pop("training", ""),
            quantized=given.pop("quantized", None),
            others=given,
        )

    @classmethod
    def of(cls, preparation: Preparation) -> Metadata:
        """Return what a file says of how images are loaded for it; the rest of a preparation is part of its network."""
        fill = preparation.fill if any(preparation.fill) else None
        return cls(
            size=preparation.size,
            resize=preparation.resize,
            crop=preparation.crop,
            crop_fraction=preparation.crop_fraction,
            fill=fill,
        )

    def properties(self) -> dict[str, str]:
        """Return the entries to write."""
        entries: dict[str, str | None] = dict(self.others)
        if self.schema is not None:
            entries["schema"] = str(self.schema)
        for key, text in (("name", self.name), ("training", self.training)):
            if text or self.schema is not None:
                entries[key] = text
        if self.levels is not None:
            entries["levels"] = json.dumps(dict(self.levels))
        if self.made_of:
            entries["of"] = json.dumps(dict(self.made_of))
        if self.spread:
            entries["spread"] = json.dumps([float(f"{value:.4g}") for value in self.spread])
        if self.size is not None:
            entries["size"] = json.dumps(self.size)
        for key, value in (("fraction", self.crop_fraction), ("fill", self.fill)):
            if value is not None:
                entries[key] = json.dumps(value)
        entries |= {"resize": self.resize, "crop": self.crop, "quantized": self.quantized}
        if self.taps:
            entries["taps"] = json.dumps([tap.name for tap in self.taps])
            entries["dims"] = json.dumps([tap.dim for tap in self.taps])
            entries["pooling"] = json.dumps([tap.pooling for tap in self.taps])
            if any(tap.components is not None for tap in self.taps):
                entries["components"] = json.dumps([tap.components for tap in self.taps])
        return {_PREFIX + key: text for key, text in entries.items() if text is not None}

    @property
    def needed_schema(self) -> int:
        """The oldest schema whose readers prepare images as this says."""
        return 2 if self.crop == "letterbox" or self.crop_fraction is not None or self.fill is not None else 1

    @property
    def preparation(self) -> Preparation:
        """How images are loaded for the network, which does all the rest inside.

        Raises
        ------
        EncoderError
            When the file does not say.
        """
        lacking = [f"{_PREFIX}{key}" for key in ("size", "resize", "crop") if getattr(self, key) is None]
        if lacking or self.size is None or self.resize is None or self.crop is None:
            raise EncoderError(f"its metadata lacks {', '.join(lacking)}")
        return Preparation(self.size, self.resize, self.crop, self.crop_fraction, self.fill or (0, 0, 0), scale=1.0)


def metadata_of(model: ModelProto) -> Metadata:
    """Return our metadata of a model in memory; EncoderError as `Metadata.parse`."""
    return Metadata.parse({entry.key: entry.value for entry in model.metadata_props})


def set_metadata(model: ModelProto, metadata: Metadata) -> None:
    """Write our metadata; what the exporter noted goes, since it can name files of the machine it ran on."""
    del model.metadata_props[:]
    for key, text in metadata.properties().items():
        model.metadata_props.add(key=key, value=text)


def _schema(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or text == "0":
        raise EncoderError(f"expected metadata pyhash.schema to be a number from 1 to {SCHEMA}, found {text!r}")
    if int(text) > SCHEMA:
        raise EncoderError(
            f"its metadata has pyhash.schema {text}, and this version of pyhash reads up to {SCHEMA}: upgrade pyhash"
        )
    return int(text)


def _size(value: Any) -> int | tuple[int, int]:
    shape = as_shape(tuple(value) if isinstance(value, list) else value)
    return shape[0] if shape[0] == shape[1] else shape


def _one_of(key: str, text: str | None, options: tuple[str, ...]) -> str | None:
    if text is not None and text not in options:
        raise EncoderError(f"{key} must be one of {', '.join(options)}, got {text!r}")
    return text


def _lists(taps: str | None, dims: str | None, pooling: str | None, components: str | None) -> tuple[TapNote, ...]:
    """Return what is known of the taps, which nothing depends on in an encoder: no file is refused for them."""
    names = _read(taps, list)
    columns = [_read(text, list) for text in (dims, pooling, components)]
    lengths, kinds, shares = (values if len(values) == len(names) else [None] * len(names) for values in columns)
    return tuple(
        TapNote(str(name), _int(dim), kind if isinstance(kind, str) else None, _int(share))
        for name, dim, kind, share in zip(names, lengths, kinds, shares, strict=True)
    )


def _int(value: Any) -> int | None:
    return value if type(value) is int else None


def _variances(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(type(one) in (int, float) and 0 <= one < math.inf for one in value):
        raise ValueError(f"expected metadata pyhash.spread to be a list of variances, found {value!r:.80}")
    return tuple(map(float, value))


def _read(text: str | None, kind: type[_Kind]) -> _Kind:
    """Return a JSON list or object; an empty one where it is none."""
    try:
        value = json.loads(text) if text is not None else None
    except ValueError:
        value = None
    return value if isinstance(value, kind) else kind()

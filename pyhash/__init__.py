"""Deep hashing for image retrieval: images to short binary codes, and exact Hamming search on a CPU.

Three things, each of use alone:

- `Index`: codes in, distances and ids out, exactly (`HammingNeighbors`: the same with scikit-learn's habits);
- `Encoder`: images in, codes out, by the built-in model or any ONNX network;
- `Gallery`: a folder of images that can be searched.

And functions: `pack` and `unpack` make codes of features and bits of codes, `hamming` measures two small sets,
`neighbourhoods` averages embeddings with their nearest, `rescore` and `rescore_codes` put candidates in order, `build`
makes an encoder of a network and a folder of images, `evaluate` judges codes by labels and `evaluate_folder` an encoder
by folders of labelled images; `duplicates` finds copies among files; `kernels`, `kernel` and `use` tell and choose what
searches run on. All errors are `PyhashError`; the packages hold the rest, such as `pyhash.heads`.

Names are imported when first used, so that ``import pyhash`` costs little more than NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        backend,
        codes,
        copies,
        encoder,
        errors,
        evaluation,
        gallery,
        heads,
        images,
        index,
        labels,
        networks,
        ranking,
    )
    from .backend import hamming, kernel, kernels, use
    from .codes import Levels, pack, unpack
    from .copies import duplicates
    from .encoder import Encoder, build, evaluate_folder
    from .errors import CorruptIndexError, EncoderError, GalleryError, GalleryMismatchError, ImageError, PyhashError
    from .evaluation import evaluate
    from .gallery import Gallery
    from .index import HammingNeighbors, Index
    from .ranking import neighbourhoods, rescore, rescore_codes

__version__ = "0.1.0"

_HOME = {
    "CorruptIndexError": "errors",
    "Encoder": "encoder",
    "EncoderError": "errors",
    "Gallery": "gallery",
    "GalleryError": "errors",
    "GalleryMismatchError": "errors",
    "HammingNeighbors": "index",
    "ImageError": "errors",
    "Index": "index",
    "Levels": "codes",
    "PyhashError": "errors",
    "build": "encoder",
    "duplicates": "copies",
    "evaluate": "evaluation",
    "evaluate_folder": "encoder",
    "hamming": "backend",
    "kernel": "backend",
    "kernels": "backend",
    "neighbourhoods": "ranking",
    "pack": "codes",
    "rescore": "ranking",
    "rescore_codes": "ranking",
    "unpack": "codes",
    "use": "backend",
}
_PACKAGES = frozenset(
    [
        "backend",
        "codes",
        "copies",
        "encoder",
        "errors",
        "evaluation",
        "gallery",
        "heads",
        "images",
        "index",
        "labels",
        "networks",
        "ranking",
        "serve",
    ]
)
__all__ = [
    "CorruptIndexError",
    "Encoder",
    "EncoderError",
    "Gallery",
    "GalleryError",
    "GalleryMismatchError",
    "HammingNeighbors",
    "ImageError",
    "Index",
    "Levels",
    "PyhashError",
    "backend",
    "build",
    "codes",
    "copies",
    "duplicates",
    "encoder",
    "errors",
    "evaluate",
    "evaluate_folder",
    "evaluation",
    "gallery",
    "hamming",
    "heads",
    "images",
    "index",
    "kernel",
    "kernels",
    "labels",
    "neighbourhoods",
    "networks",
    "pack",
    "ranking",
    "rescore",
    "rescore_codes",
    "unpack",
    "use",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

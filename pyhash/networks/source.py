"""Where a model comes from: a file, bytes, the package itself, or the hub; for one that is built on, memory too."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EncoderError
from .digest import whole
from .hub import fetch, is_hub
from .preparation import Preparation

__all__ = ["SMALL", "Backbone", "ModelSource", "backbone_of", "is_named", "source_of"]

SMALL = "small"
"""How the smaller of the built-in models is named; the other one is the default."""


class ModelSource(NamedTuple):
    """A model that can be opened.

    Attributes
    ----------
    data : str or bytes
        Path of the file, or its bytes.
    name : str
        What to call it, unless it says so itself.
    again : str or None
        How it is named to open it again, from any folder; None for bytes.
    revision : str
        Which one of the hub's; empty for others.
    preprocess : mapping or None
        How it wants its images, where that lies beside it.
    """

    data: str | bytes
    name: str
    again: str | None = None
    revision: str = ""
    preprocess: Mapping[str, Any] | None = None


def is_named(model: object) -> bool:
    """Whether this is no path but the name of a model: the small built-in one, or one of the hub."""
    return model == SMALL or is_hub(model)


def source_of(model: str | os.PathLike[str] | bytes | None, preprocess: Any = None) -> ModelSource:
    """Find a model.

    Parameters
    ----------
    model : path, bytes, str or None
        An ONNX model, the name of one of the hub, as `fetch` takes it, or a built-in one: None, or ``"small"`` (a file
        of that name is ``"./small"``).
    preprocess
        What a caller says of how it wants its images: where that is all, nobody else is asked.

    Raises
    ------
    EncoderError
        When the hub does not have it, it cannot be fetched, or nobody says how it wants its images but for details.
    FileNotFoundError
        When there is no such file.
    """
    if model is None or model == SMALL:
        name = model or "default"
        file = importlib.resources.files("pyhash.models") / f"{name}.onnx"
        # From the file where there is one, as nearly always: its bytes then are not kept in memory.
        return ModelSource(os.fspath(file) if isinstance(file, Path) else file.read_bytes(), name, model)
    if isinstance(model, bytes):
        return ModelSource(model, "model")
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model must be a path, bytes or None, got {type(model).__name__}")
    if is_hub(model):
        ask = preprocess is None or (isinstance(preprocess, Mapping) and "preset" not in preprocess)
        found = fetch(str(model), ask=ask)
        if ask and preprocess and found.preprocess is None and not {"scale", "mean", "std"} & preprocess.keys():
            raise EncoderError(
                f"{model}: its repository does not say how images are prepared, so preprocess must name what it is "
                f"based on, a preset or a JSON file (--preprocess), got {', '.join(preprocess)} alone"
            )
        return ModelSource(found.path, found.title, found.reference, found.revision, found.preprocess)
    path = Path(model).absolute()
    if not path.is_file():
        raise FileNotFoundError(
            f"no such model: {os.fspath(model)}; give the path of an ONNX file, hf://owner/repo for one of the hub, "
            "'small' for the smaller built-in model, or none for the built-in model"
        )
    return ModelSource(whole(os.fspath(path)), path.stem, os.fspath(path))


class Backbone(NamedTuple):
    """A network that something is to be built on.

    Attributes
    ----------
    model : path, bytes or onnx.ModelProto
    preparation : Preparation or None
        How it wants its images, as the caller or the hub says; None where neither does.
    name : str
        What to call it; empty where nothing tells.
    """

    model: Any
    preparation: Preparation | None
    name: str


def backbone_of(model: Any, preprocess: str | Mapping[str, Any] | Preparation | None = None) -> Backbone:
    """Find a network to build on.

    Parameters
    ----------
    model : path, bytes, str or onnx.ModelProto
        A network, or the name of one of the hub, as `fetch` takes it.
    preprocess
        What a caller says of how it wants its images; what the hub says is used unless given, or where this is based
        on nothing.

    Raises
    ------
    EncoderError
        When the hub does not have it, or it cannot be fetched.
    """
    name, beside = "", None
    if is_hub(model):
        found = source_of(model, preprocess)
        model, name, beside = found.data, found.name, found.preprocess
    elif isinstance(model, (str, os.PathLike)):
        name = Path(model).stem
    said = preprocess is not None or beside is not None
    return Backbone(model, Preparation.parse(preprocess, beside) if said else None, name)

"""ONNX networks: reading, cutting, joining and running them."""

from __future__ import annotations

from . import int8
from .graph import POOLINGS, Tap, add_features, add_head, choose_taps, feature_blocks, select_levels, taps
from .model import PRESETS, Model, onnxruntime
from .surgery import (
    FLOATS,
    Emitter,
    attribute_of,
    check,
    check_target,
    describe,
    lift,
    metadata_of,
    opset,
    read_model,
    refill,
    run,
    save,
    session,
)

__all__ = [
    "FLOATS",
    "POOLINGS",
    "PRESETS",
    "Emitter",
    "Model",
    "Tap",
    "add_features",
    "add_head",
    "attribute_of",
    "check",
    "check_target",
    "choose_taps",
    "describe",
    "feature_blocks",
    "int8",
    "lift",
    "metadata_of",
    "onnxruntime",
    "opset",
    "read_model",
    "refill",
    "run",
    "save",
    "select_levels",
    "session",
    "taps",
]


def __dir__() -> list[str]:
    return __all__

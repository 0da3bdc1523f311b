"""ONNX networks: reading, cutting, joining and running them."""

from __future__ import annotations

from . import int8
from .features import FEATURES, IMAGES, POOLINGS, add_features, feature_blocks, fixed_batch
from .joining import join_features
from .levels import EMBEDDING, LOGITS, Affine, add_head, give_embedding, replace_head, select_levels
from .metadata import SCHEMA, Metadata, TapNote, metadata_of
from .model import Model
from .network import Tap
from .onnx_file import check_target, save, serialized
from .preparation import PRESETS, ChannelOrder, Layout, Preparation
from .session import Session, onnxruntime
from .stages import choose_taps, taps

__all__ = [
    "EMBEDDING",
    "FEATURES",
    "IMAGES",
    "LOGITS",
    "POOLINGS",
    "PRESETS",
    "SCHEMA",
    "Affine",
    "ChannelOrder",
    "Layout",
    "Metadata",
    "Model",
    "Preparation",
    "Session",
    "Tap",
    "TapNote",
    "add_features",
    "add_head",
    "check_target",
    "choose_taps",
    "feature_blocks",
    "fixed_batch",
    "give_embedding",
    "int8",
    "join_features",
    "metadata_of",
    "onnxruntime",
    "replace_head",
    "save",
    "select_levels",
    "serialized",
    "taps",
]


def __dir__() -> list[str]:
    return __all__

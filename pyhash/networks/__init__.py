"""ONNX networks: reading, cutting, joining and running them."""

from __future__ import annotations

from . import int8
from .features import FEATURES, IMAGES, POOLINGS, add_features, feature_blocks, fixed_batch
from .hub import is_hub
from .joining import join_features
from .levels import EMBEDDING, LOGITS, Affine, add_head, give_embedding, replace_head, select_levels
from .metadata import SCHEMA, Metadata, TapNote, metadata_of
from .model import Model
from .network import Tap
from .onnx_file import check_target, save, serialized
from .preparation import PRESETS, ChannelOrder, Layout, Preparation
from .session import PROVIDERS, Providers, Session, onnxruntime
from .source import Backbone, ModelSource, backbone_of, is_named, source_of
from .stages import choose_taps, taps
from .weights import as_source

__all__ = [
    "EMBEDDING",
    "FEATURES",
    "IMAGES",
    "LOGITS",
    "POOLINGS",
    "PRESETS",
    "PROVIDERS",
    "SCHEMA",
    "Affine",
    "Backbone",
    "ChannelOrder",
    "Layout",
    "Metadata",
    "Model",
    "ModelSource",
    "Preparation",
    "Providers",
    "Session",
    "Tap",
    "TapNote",
    "add_features",
    "add_head",
    "as_source",
    "backbone_of",
    "check_target",
    "choose_taps",
    "feature_blocks",
    "fixed_batch",
    "give_embedding",
    "int8",
    "is_hub",
    "is_named",
    "join_features",
    "metadata_of",
    "onnxruntime",
    "replace_head",
    "save",
    "select_levels",
    "serialized",
    "source_of",
    "taps",
]


def __dir__() -> list[str]:
    return __all__

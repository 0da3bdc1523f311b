"""A network of one convolution, with metadata or without, and pictures for it."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")
from onnx import TensorProto, helper, numpy_helper

METADATA = {
    "pyhash.schema": "1",
    "pyhash.levels": '{"coarse": 8, "fine": 16}',
    "pyhash.size": "8",
    "pyhash.resize": "bilinear",
    "pyhash.crop": "squash",
    "pyhash.name": "tiny",
    "pyhash.training": "none",
}


UINT8, FLOAT16, FLOAT, DOUBLE = TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE


def build(
    shape=("n", 8, 8, 3),
    dtype=UINT8,
    metadata=METADATA,
    bits=24,
    declared=None,
    nan=False,
    nchw=None,
    outputs=("logits",),
    scale=1.0,
    with_cls=True,
):
    """A network of one convolution; another output, ``means``, is the mean of each channel of its input."""
    rng = np.random.default_rng(0)
    if nchw is None:
        nchw = len(shape) == 4 and shape[1] == 3
    weights = {
        "w": scale * rng.normal(size=(6, 3, 3, 3)) / 100,
        "v": rng.normal(size=(6, bits)),
        "b": rng.normal(size=bits) / 4,
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=FLOAT),
        helper.make_node(
            "Identity" if nchw else "Transpose", ["values"], ["x"], **({} if nchw else {"perm": [0, 3, 1, 2]})
        ),
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Conv", ["x", "w"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["map"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v", "b"], ["sums"]),
        helper.make_node("Log" if nan else "Identity", ["sums"], ["logits"]),
        helper.make_node("ArgMax", ["sums"], ["class"], axis=1),
    ]
    numbers = {}
    if {"image_embeds", "pooler_output", "last_hidden_state"} & set(outputs):
        numbers = {"second": [1], "rows": [0, 6, -1]}
        nodes += [
            helper.make_node("Reshape", ["map", "rows"], ["flat_map"]),
            helper.make_node("Transpose", ["flat_map"], ["patches"], perm=[0, 2, 1]),
            helper.make_node("ReduceMax", ["patches"], ["cls"], axes=[1], keepdims=1),
            helper.make_node("Concat", ["cls", "patches"] if with_cls else ["patches"], ["last_hidden_state"], axis=1),
            helper.make_node("Squeeze", ["cls", "second"], ["pooler_output"]),
            helper.make_node("Neg", ["pooler_output"], ["image_embeds"]),
        ]
    declarations = {
        "last_hidden_state": (FLOAT, ("n", "tokens", 6)),
        "pooler_output": (FLOAT, ("n", 6)),
        "image_embeds": (FLOAT, ("n", 6)),
        "logits": (FLOAT, declared or ("n", bits)),
        "means": (FLOAT, ("n", 3, 1, 1)),
        "map": (FLOAT, ("n", 6, "h", "w")),
        "class": (TensorProto.INT64, ("n", 1)),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", dtype, shape)],
        [helper.make_tensor_value_info(name, *declarations[name]) for name in outputs],
        [
            *(numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()),
            *(numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def plain(shape=("n", 3, 8, 8), dtype=FLOAT, **options):
    """A model without metadata."""
    return build(shape, dtype, None, **options)


def pictures(n, side=20, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8))


COLOUR = np.full((9, 7, 3), (10, 100, 200), np.uint8)

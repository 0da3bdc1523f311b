r"""Train, export and check a small hash model: the one that ships with pyhash, or one for CIFAR-10.

    python examples/train_hash_model.py --data DIR --out tiny.onnx --epochs 23 --threads 2
    python examples/train_hash_model.py --data DIR --out pyhash/models/default.onnx --minutes 20 --threads 2 \
        --start ~/.cache/pyhash-train/tiny.pt --sets tiny-imagenet cifar10 clothing
    python examples/train_hash_model.py --data DIR --out default-128.onnx --bits 128
    python examples/train_hash_model.py --data DIR --out cifar-48.onnx --sets cifar10 --bits 48

The first two, one after the other, make a model like the built-in one. ``DIR`` holds ``tiny-imagenet``, ``cifar10`` and
``clothing``, each ``SPLIT/CLASS/pictures``. Needs PyTorch (CPU is enough, a GPU is used when present), onnxscript, and
``pip install pyhash-retrieval[encoder,graph]``. What the model is worth: ``measure_hash_model.py``.

A code has two levels. At each level every class has a binary target, far from those of the others, and the network
learns to turn a picture into a vector whose cosine to its own class's target is the largest (central similarity: Yuan
et al., CVPR 2020; cosine with margin and orthogonal targets: Hoe et al., NeurIPS 2021). The signs of that vector are
the bits, and it is the signs that the loss sees. At the fine level, targets of related classes are nearer to one
another than to the rest.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
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
from pyhash.heads import Head
from pyhash.quantize import QuantizationError, assess, quantize

TRAINABLE = ("tiny-imagenet", "cifar10", "clothing")
REPEATS = {"clothing": 4}  # how often an epoch shows a picture of a small set
STARTED = 0.6  # of the schedule is over where a training starts from the network of another
WIDTHS = (32, 64, 128, 256)  # channels of the stem and of the three stages
BLOCKS = (1, 1, 1)  # residual blocks of each stage
FUSED = 256  # length of the vector that the heads read
TOLERANCE = 0.01  # of mean average precision, that int8 may cost
MEAN, SCALE = 2.0, 64.0  # the network sees pixel / SCALE - MEAN


@dataclass(frozen=True)
class Plan:
    """What is to be trained: data sets, the levels of a code, and the side of the pictures."""

    sets: tuple[str, ...]
    levels: dict[str, int]
    size: int

    @classmethod
    def of(cls, sets: list[str], bits: int) -> Plan:
        """CIFAR-10 alone has one level and its own 32 pixels; otherwise a quarter of the bits is coarse."""
        if sets == ["cifar10"]:
            return cls(("cifar10",), {"code": bits}, 32)
        return cls(tuple(name for name in TRAINABLE if name in sets), {"coarse": bits // 4, "fine": bits * 3 // 4}, 64)

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


def linear_norm(features_in: int, features_out: int, learned: bool = True) -> Normed:
    """Make a linear layer with batch norm; not ``learned``, it only centres (bits in balance) and scales."""
    norm = nn.BatchNorm1d(features_out).requires_grad_(learned)
    return Normed(nn.Linear(features_in, features_out, bias=False), norm)


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
    """Stem, three stages, each pooled; the pooled vectors joined and fused; one linear map a level to its bits."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.stem = conv_norm(3, WIDTHS[0], stride=plan.size // 32)
        pairs = zip(itertools.pairwise(WIDTHS), BLOCKS, strict=True)
        self.stages = nn.ModuleList(Stage(*channels, blocks) for channels, blocks in pairs)
        self.fusion = linear_norm(sum(WIDTHS[1:]), FUSED)
        heads = {level: linear_norm(FUSED, bits, learned=False) for level, bits in plan.levels.items()}
        self.heads = nn.ModuleDict(heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 3, h, w) normalised pictures to the fused (n, FUSED) vectors that the heads read."""
        x = F.relu(self.stem(x))
        pooled = []
        for stage in self.stages:
            x = stage(x)
            pooled.append(x.mean((2, 3)))
        return F.relu(self.fusion(torch.cat(pooled, 1)))

    def logits(self, images: Tensor) -> Tensor:
        """Map (n, h, w, 3) uint8 to (n, bits)."""
        fused = self(images.permute(0, 3, 1, 2).float() / SCALE - MEAN)
        return torch.cat([head(fused) for head in self.heads.values()], 1)


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


def level_loss(logits: Tensor, level: Level, labels: Tensor, scale: float = 8.0, margin: float = 0.1) -> Tensor:
    """Cross entropy over the cosines of codes to all targets, and of each bit to that of the right one.

    The cosines are those of the signs, which pass gradients on as tanh does: a network that is not yet sure of a
    picture hides much in the size of its logits, which a code does not keep. The right target must win by ``margin``.
    """
    smooth = logits.tanh()
    codes = smooth + (logits.sign() - smooth).detach()
    cosines = F.normalize(codes, dim=1) @ F.normalize(level.targets, dim=1).T
    cosines = cosines - margin * F.one_hot(labels, len(level.targets))
    bits = F.binary_cross_entropy_with_logits(logits, (level.targets[labels] + 1) / 2)
    return F.cross_entropy(scale * cosines, level.soft[labels]) + 5 * bits


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


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Crop, stretch, rotate, mirror and recolour (n, 3, h, w) pictures, each in its own way."""
    n = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape).uniform_(low, high, generator=generator)

    zoom, stretch, angle = uniform(0.7, 1.05), uniform(-0.1, 0.1).exp(), uniform(-0.1, 0.1)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    width, height = (zoom * stretch).clamp(max=1.1), (zoom / stretch).clamp(max=1.1)
    room = torch.stack([1 - width, 1 - height], 1).abs()
    shift = uniform(-1, 1, 2) * room
    rows = [mirror * width * angle.cos(), -height * angle.sin(), shift[:, 0]]
    rows += [mirror * width * angle.sin(), height * angle.cos(), shift[:, 1]]
    affine = torch.stack(rows, 1).view(n, 2, 3).to(pixels.device)
    grid = F.affine_grid(affine, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    gain = uniform(0.7, 1.3, 1, 1, 1) * uniform(0.9, 1.1, 3, 1, 1)
    return pixels * gain.to(pixels.device) + uniform(-25, 25, 1, 1, 1).to(pixels.device)


def picture_size(progress: float, full: int) -> int:
    """Grow the pictures: most of the learning is cheap at half the size."""
    return full // 2 if progress < 0.5 else full * 3 // 4 if progress < 0.87 else full


def learning_rate(progress: float, peak: float) -> float:
    """One cycle: up over the first tenth, then down a cosine to nothing."""
    return peak * min(progress / 0.1, 0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - 0.1) / 0.9))


def head_share(progress: float) -> float:
    """Return how much of the codes' gradient reaches the network: none before half of the training, all from 0.9 on.

    The classifier alone teaches an untrained network about twice as fast as both together.
    """
    return min(max((progress - 0.5) / 0.4, 0.0), 1.0)


class Level:
    """Classes of one level, a target for each, and the answer wanted for each."""

    def __init__(self, plan: Plan, name: str, splits: list[Split], seed: int, device: torch.device) -> None:
        bits = plan.levels[name]
        self.names, first, labels = np.unique(plan.classes(splits, name), return_index=True, return_inverse=True)
        self.labels = torch.from_numpy(labels)
        groups = np.arange(len(self.names))
        targets = hash_targets(len(groups), bits, seed)
        if name == "fine":
            groups = np.unique(plan.classes(splits, "mid")[first], return_inverse=True)[1]
            targets = nested_targets(groups, bits, seed)
        self.targets, self.soft = targets.to(device), soft_labels(groups).to(device)
        apart = ((bits - targets @ targets.T) / 2).fill_diagonal_(bits)
        print(f"{name}: {len(groups)} classes, {bits} bits, targets at least {int(apart.min())} apart")


class Training:
    """What a checkpoint holds: the network, its running average, a helping classifier, the optimizer, progress."""

    def __init__(
        self, plan: Plan, classes: int, epoch_steps: int, args: argparse.Namespace, device: torch.device
    ) -> None:
        self.net, self.average = HashNet(plan).to(device), HashNet(plan).to(device)
        self.average.load_state_dict(self.net.state_dict())
        self.classifier = nn.Linear(FUSED, classes).to(device)  # helps the features along; not exported
        learned = [p for p in (*self.net.parameters(), *self.classifier.parameters()) if p.requires_grad]
        matrices = {"params": [p for p in learned if p.ndim > 1], "weight_decay": 0.05}
        vectors = {"params": [p for p in learned if p.ndim == 1], "weight_decay": 0.0}
        self.parameters = [*matrices["params"], *vectors["params"]]
        self.optimizer = torch.optim.AdamW([matrices, vectors], lr=args.lr, fused=True)
        self.parts = {name: getattr(self, name) for name in ("net", "average", "classifier", "optimizer")}
        self.step, self.progress, self.seconds = 0, 0.0, 0.0
        self.before, self.begun = "from scratch", 0.0  # trainings before this one; its progress when it began
        self.sets, self.epoch_steps = plan.sets, epoch_steps

    def __str__(self) -> str:
        epochs, minutes = self.step / self.epoch_steps, self.seconds / 60
        return f"{self.before}; {epochs:.1f} epochs, {minutes:.0f} minutes on {', '.join(self.sets)}"

    def start(self, path: Path) -> None:
        """Begin with the network of another training, which may have had other classes."""
        state = torch.load(path, map_location="cpu")
        try:
            self.net.load_state_dict(state["average"])
        except RuntimeError as error:
            raise SystemExit(
                f"--start must be a checkpoint of a training to the same levels and bits: {error}"
            ) from error
        self.average.load_state_dict(state["average"])
        self.before, self.begun, self.progress = state["training"], STARTED, STARTED

    def progress_by_steps(self, epochs: float) -> float:
        """Return how much of the schedule is over, if it is to last so many epochs."""
        return self.begun + (1 - self.begun) * self.step / (epochs * self.epoch_steps)

    def save(self, path: Path) -> None:
        """Write everything beside ``path`` and rename, so that a kill never leaves half a file."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"step": self.step, "progress": self.progress, "seconds": self.seconds}
        state |= {"before": self.before, "begun": self.begun, "training": str(self)}
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        """Take up the training where ``path`` left it."""
        state = torch.load(path, map_location="cpu")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.step, self.progress, self.seconds = state["step"], state["progress"], state["seconds"]
        self.before, self.begun = state["before"], state["begun"]


def train(args: argparse.Namespace, plan: Plan) -> tuple[HashNet, str]:
    """Train from scratch or from the checkpoint; return the averaged network on the CPU, and how it was trained."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    splits = [
        split for split in plan.split(args.data, 0, args.cache) for _ in range(REPEATS.get(split.name.split()[0], 1))
    ]
    images = np.concatenate([split.images for split in splits])
    levels = {name: Level(plan, name, splits, args.seed, device) for name in plan.levels}
    finest = list(levels.values())[-1]
    held_out = plan.split(args.data, 1, args.cache)[0].spread(2000)
    epoch_steps = len(images) // args.batch
    state = Training(plan, len(finest.names), epoch_steps, args, device)
    if args.resume and args.checkpoint.exists():
        state.load(args.checkpoint)
        if args.minutes is None:  # more epochs than it was made with: it goes on
            state.progress = state.progress_by_steps(args.epochs)
        print(f"resumed at step {state.step}, after {state.seconds / 60:.1f} minutes")
    elif args.start:
        state.start(args.start)
        print(f"starts with a network trained {state.before}")
    net, parts = state.net, args.threads if device.type == "cpu" else 1
    half = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()  # elsewhere it is emulated, ten times slower
    pool = ThreadPoolExecutor(args.threads, initializer=torch.set_num_threads, initargs=(1,))

    def learn(rows: Tensor, seed: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of one part of a batch, and its share in the gradient of every parameter."""
        pixels = small[rows].to(device).permute(0, 3, 1, 2).float()
        pixels = augment(pixels, torch.Generator().manual_seed(seed))
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            fused = net(pixels / SCALE - MEAN).float()
        loss = F.cross_entropy(state.classifier(fused), finest.soft[finest.labels[rows].to(device)])
        share = head_share(state.progress)
        fused = share * fused + (1 - share) * fused.detach()
        for name, level in levels.items():
            loss = loss + level_loss(net.heads[name](fused), level, level.labels[rows].to(device))
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
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(state.progress, args.lr)
        seeds = itertools.count(args.seed + state.step * parts)
        losses, gradients = zip(*pool.map(learn, rows.chunk(parts), seeds), strict=True)
        for parameter, shares in zip(state.parameters, zip(*gradients, strict=True), strict=True):
            parameter.grad = sum(shares[1:], start=shares[0])
            assert parameter.grad.stride() == parameter.stride()  # fused AdamW takes it for granted
        loss = torch.stack(losses).mean().item()
        state.optimizer.step()
        state.step += 1
        update_average(state.average, net, min(0.998, state.step / (state.step + 10)))
        before, now = now, time.monotonic()
        spent = min(now - before, 5.0)  # a longer gap was a pause
        state.seconds += spent
        if args.minutes is None:
            state.progress = state.progress_by_steps(args.epochs)
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
            print(f"held out, nearest target: {accuracy(state.average, held_out, plan, levels, size)}", flush=True)
    state.save(args.checkpoint)
    pool.shutdown()
    print(f"held out, nearest target: {accuracy(state.average, held_out, plan, levels, plan.size)}")
    return state.average.cpu(), str(state)


@torch.no_grad()
def accuracy(net: HashNet, split: Split, plan: Plan, levels: dict[str, Level], size: int) -> str:
    """Return, for each level, how often a picture's code is nearest to its class's target, at a size."""
    net.eval()
    device = next(net.parameters()).device
    parts = shrink(split.images, size).split(250)
    codes = torch.cat([net.logits(part.to(device)) for part in parts]).sign()
    found = []
    for (name, level), part in zip(levels.items(), codes.split(list(plan.levels.values()), 1), strict=True):
        nearest = level.names[(part @ level.targets.T).argmax(1).cpu().numpy()]
        found.append(f"{name} {(nearest == plan.classes([split], name)).mean():.3f}")
    net.train()
    return ", ".join(found)


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
        for parameter in (*net.stem.parameters(), *net.stages.parameters(), *net.fusion.parameters()):
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


def export(net: HashNet, plan: Plan, out: Path, training: str, calibration: Pixels, held_out: Split) -> HashNet:
    """Fold ``net``, write it to ``out`` as an encoder, in int8 arithmetic if that passes; return it folded."""
    net = fold(net)
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
    maps = [head[0] for head in net.heads.values()]
    weight = np.concatenate([each.weight.detach().numpy() for each in maps]).T
    bias = np.concatenate([each.bias.detach().numpy() for each in maps])
    levels = pyhash.Levels(plan.levels)
    head = Head("central-similarity", weight, bias, levels, np.full(levels.bits, 0.5, np.float32), True)
    finish = partial(graph.add_head, head=head, levels=plan.levels, name=f"pyhash-{out.stem}", training=training)
    out.parent.mkdir(parents=True, exist_ok=True)
    graph.save(finish(store_bytes(in_int8(network, head, calibration, held_out))), out)
    return net


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


def check_export(net: HashNet, out: Path, images: Pixels) -> None:
    """Compare the file with the folded network on real pictures; raise if their answers differ."""
    with torch.no_grad():
        expected = net.logits(torch.from_numpy(images)).numpy()
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
    add("--checkpoint", type=Path, help="training state, written every two minutes (default: in the cache)")
    add("--resume", action="store_true", help="go on from the checkpoint; one that is done is only exported")
    add("--start", type=Path, help="checkpoint of another training, to begin with its network")
    add("--epochs", type=float, default=30, help="length of the training")
    add("--minutes", type=float, help="length as time instead, pauses included (then no two runs are quite the same)")
    add("--batch", type=int, default=256, help="pictures a step")
    add("--lr", type=float, default=3e-3, help="peak learning rate")
    add("--seed", type=int, default=0, help="of weights, order, augmentation and targets")
    add("--threads", type=int, default=1, help="CPU threads for training; more than one may differ in rounding")
    args = parser.parse_args(argv)
    step = 8 if args.sets == ["cifar10"] else 32  # a level is whole bytes
    if args.bits < step or args.bits % step:
        parser.error(f"--bits must be a multiple of {step} for these --sets, got {args.bits}")
    torch.set_num_threads(1)  # the parts of a batch are spread over threads instead
    args.checkpoint = args.checkpoint or args.cache / f"{args.out.stem}.pt"
    plan = Plan.of(args.sets, args.bits)
    net, training = train(args, plan)
    calibration = np.concatenate([split.spread(200).images for split in plan.split(args.data, 0, args.cache)])
    held_out = plan.split(args.data, 1, args.cache)[0].spread(2000)
    net = export(net, plan, args.out, training, calibration, held_out)
    check_export(net, args.out, held_out.images)


if __name__ == "__main__":
    main()

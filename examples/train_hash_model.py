"""Train, export and measure the small hash model that ships with pyhash.

    python examples/train_hash_model.py --data DIR --out pyhash/models/default.onnx --minutes 45
    python examples/train_hash_model.py --data DIR --out pyhash/models/default.onnx --evaluate

``DIR`` holds ``tiny-imagenet``, ``cifar10`` and ``clothing``, each ``SPLIT/CLASS/pictures``; a set that is
not there is left out. Needs PyTorch (CPU is enough, a GPU is used when present), Pillow, onnx, onnxscript
and onnxruntime.

A code has two levels. At each level every class has a binary target, far from all the others, and the network
learns to turn a picture into a vector whose cosine to its own class's target is the largest (central
similarity: Yuan et al., CVPR 2020; cosine with margin and orthogonal targets: Hoe et al., NeurIPS 2021).
The signs of that vector are the bits.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import logging
import math
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

LEVELS = {"coarse": 16, "fine": 48}
SIZE = 64  # side of the network's input, in pixels
WIDTHS = (32, 64, 128, 192)  # channels of the stem and of the three stages
TAPS = ["stage1", "stage2", "stage3"]  # every stage's output is pooled; the head sees them all

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """One data set: its two splits, and how often an epoch shows each training picture."""

    name: str
    train: str
    held_out: str
    share: float


SOURCES = (
    Source("tiny-imagenet", "train", "val", 1.0),
    Source("cifar10", "train", "test", 0.5),
    Source("clothing", "train", "validation", 8.0),
)

# CIFAR-10's coarse groups are Tiny ImageNet's, so that no bit comes to mean "of that data set".
GROUPS = {
    "cifar10": {
        **dict.fromkeys(("cat", "deer", "dog", "horse"), "mammal"),
        **dict.fromkeys(("bird", "frog"), "other_vertebrate"),
        **dict.fromkeys(("airplane", "automobile", "ship", "truck"), "vehicle"),
    },
    "clothing": {
        **dict.fromkeys(("t-shirt", "longsleeve", "shirt", "outwear"), "tops"),
        **dict.fromkeys(("pants", "shorts", "skirt"), "bottoms"),
        **{name: name for name in ("dress", "shoes", "hat")},
    },
}


@dataclass(frozen=True)
class Split:
    """Pictures of one split, decoded to (n, SIZE, SIZE, 3) uint8, with the class and coarse group of each."""

    files: list[Path]
    images: Images
    fine: npt.NDArray[np.str_]
    coarse: npt.NDArray[np.str_]


def load_picture(file: Path, size: int = SIZE) -> Images:
    """Decode one picture as the encoder does: upright, RGB, both sides squashed to ``size``, bilinear."""
    with Image.open(file) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        return np.asarray(upright.resize((size, size), Image.Resampling.BILINEAR))


def load_split(data: Path, source: Source, split: str, cache: Path) -> Split:
    """Decode a split once, keep the pixels in ``cache``, and name each picture's class and group."""
    files = sorted(file for file in (data / source.name / split).glob("*/*") if file.is_file())
    stored = cache / f"{source.name}-{split}-{SIZE}.npy"
    images: Images | None = np.load(stored) if stored.exists() else None
    if images is None or len(images) != len(files):
        images = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
        for row, file in enumerate(files):
            images[row] = load_picture(file)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(stored, images)
    groups = GROUPS.get(source.name)
    if groups is None:
        with (data / source.name / "classes.csv").open(newline="") as table:
            groups = {row["wnid"]: row["coarse"] for row in csv.DictReader(table)}
    names = [file.parent.name for file in files]
    fine = np.array([f"{source.name}/{name}" for name in names])
    return Split(files, images, fine, np.array([groups[name] for name in names]))


def present(data: Path, names: list[str]) -> list[Source]:
    """Return the sources that are there, in a fixed order."""
    found = [source for source in SOURCES if source.name in names and (data / source.name).is_dir()]
    if not found:
        raise SystemExit(f"--data must hold one of {', '.join(names)}; {data} holds none")
    return found


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


class Stage(nn.Module):
    """Halve the resolution, then one residual block."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.down = conv_norm(channels_in, channels_out, stride=2)
        self.first = conv_norm(channels_out, channels_out)
        self.second = conv_norm(channels_out, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / 2, w / 2)."""
        x = F.relu(self.down(x))
        return F.relu(x + self.second(F.relu(self.first(x))))


class HashNet(nn.Module):
    """Stem, three stages, each pooled; the pooled vectors joined; one linear map a level to its bits."""

    def __init__(self, levels: dict[str, int] = LEVELS, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.stem = conv_norm(3, widths[0], stride=2)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in itertools.pairwise(widths))
        self.fusion = linear_norm(sum(widths[1:]), 256)
        heads = {level: linear_norm(256, bits, learned=False) for level, bits in levels.items()}
        self.heads = nn.ModuleDict(heads)

    def features(self, pixels: Tensor) -> Tensor:
        """Map (n, 3, h, w) floats in 0..255 to the fused (n, 256) vector that the heads read."""
        x = F.relu(self.stem(pixels / 64.0 - 2.0))
        pooled = []
        for stage in self.stages:
            x = stage(x)
            pooled.append(x.mean((2, 3)))
        return F.relu(self.fusion(torch.cat(pooled, 1)))

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, h, w, 3) uint8 to (n, bits) logits: the exported graph."""
        features = self.features(images.permute(0, 3, 1, 2).float())
        return torch.cat([head(features) for head in self.heads.values()], 1)


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


def level_loss(logits: Tensor, targets: Tensor, labels: Tensor, scale: float, margin: float) -> Tensor:
    """Cross entropy over the cosines to all targets; the right one must win by ``margin``."""
    cosines = F.normalize(logits, dim=1) @ F.normalize(targets, dim=1).T
    cosines = cosines - margin * F.one_hot(labels, len(targets))
    return F.cross_entropy(scale * cosines, labels, label_smoothing=0.1)


def shrink(images: Images, size: int) -> Tensor:
    """Resize (n, SIZE, SIZE, 3) uint8 to ``size``, with antialiasing, as one uint8 tensor."""
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

    zoom, stretch, angle = uniform(0.6, 1.05), uniform(-0.15, 0.15).exp(), uniform(-0.2, 0.2)
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


def epoch_order(counts: list[int], shares: list[float], seed: int) -> npt.NDArray[np.int64]:
    """Return one epoch: rows of all sources joined, each source's pictures ``share`` times, shuffled."""
    rng = np.random.default_rng(seed)
    parts, first = [], 0
    for count, share in zip(counts, shares, strict=True):
        passes = [rng.permutation(count) for _ in range(math.ceil(share))]
        parts.append(first + np.concatenate(passes)[: int(count * share)])
        first += count
    return rng.permutation(np.concatenate(parts))


def picture_size(progress: float) -> int:
    """Grow the pictures: most of the learning is cheap at half the size."""
    return SIZE // 2 if progress < 0.45 else SIZE * 3 // 4 if progress < 0.75 else SIZE


def learning_rate(progress: float, peak: float) -> float:
    """One cycle: up over the first tenth, then down a cosine to nothing."""
    return peak * min(progress / 0.1, 0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - 0.1) / 0.9))


def train(args: argparse.Namespace) -> HashNet:
    """Train from scratch or from the checkpoint, and return the averaged network on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    sources = present(args.data, args.sets)
    splits = [load_split(args.data, source, source.train, args.cache) for source in sources]
    images = np.concatenate([split.images for split in splits])
    labels, targets = {}, {}
    for level, bits in LEVELS.items():
        names = np.concatenate([getattr(split, level) for split in splits])
        classes, index = np.unique(names, return_inverse=True)
        labels[level] = torch.from_numpy(index)
        targets[level] = hash_targets(len(classes), bits, args.seed).to(device)
        print(f"{level}: {len(classes)} classes, {bits} bits")
    counts, shares = [len(split.files) for split in splits], [source.share for source in sources]

    net, average = HashNet().to(device), HashNet().to(device)
    classifier = nn.Linear(256, len(targets["fine"])).to(device)  # helps the features along; not exported
    average.load_state_dict(net.state_dict())
    parts = {"net": net, "classifier": classifier, "average": average}
    weights = [*net.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=args.lr, weight_decay=0.05)
    epoch_steps = len(epoch_order(counts, shares, 0)) // args.batch
    step, seconds, size, shown = 0, 0.0, 0, 0.0
    if args.resume and args.checkpoint.exists():
        state = torch.load(args.checkpoint, map_location=device)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        print(f"resumed at step {step}, after {seconds / 60:.1f} minutes")

    started, saved, epoch = time.monotonic() - seconds, seconds, -1
    while True:
        seconds = time.monotonic() - started
        progress = step / (args.epochs * epoch_steps)
        if args.minutes is not None:
            progress = seconds / max(1.0, 60 * args.minutes)
        if progress >= 1:
            break
        if size != picture_size(progress):
            size = picture_size(progress)
            small = shrink(images, size)
        position = step % epoch_steps
        if epoch != step // epoch_steps:
            epoch = step // epoch_steps
            order = epoch_order(counts, shares, args.seed + epoch)
        rows = torch.from_numpy(order[position * args.batch : (position + 1) * args.batch])
        pixels = small[rows].to(device).permute(0, 3, 1, 2).float()
        pixels = augment(pixels, torch.Generator().manual_seed(args.seed + step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, args.lr)
        with torch.autocast(device.type, torch.bfloat16):
            features = net.features(pixels).float()
        loss = F.cross_entropy(classifier(features), labels["fine"][rows].to(device), label_smoothing=0.1)
        for level, head in net.heads.items():
            answer = labels[level][rows].to(device)
            loss = loss + level_loss(head(features), targets[level], answer, scale=12.0, margin=0.1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1
        update_average(average, net, min(0.998, step / (step + 10)))
        shown = loss.item() if shown == 0 else 0.98 * shown + 0.02 * loss.item()
        if step % 50 == 0:
            line = f"epoch {step / epoch_steps:6.2f}  {size} px  loss {shown:.3f}  {progress:6.1%}"
            print(f"{line}  after {seconds / 60:.1f} min", flush=True)
        if seconds - saved > 120:
            saved = seconds
            save_checkpoint(args.checkpoint, parts, optimizer, step, seconds)
    save_checkpoint(args.checkpoint, parts, optimizer, step, seconds)
    average.cpu()
    return average


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the exponential moving average of weights and batch statistics."""
    for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def save_checkpoint(
    path: Path, parts: dict[str, nn.Module], optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    """Write the whole state beside ``path`` and rename, so that a kill never leaves half a file."""
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def fold(net: HashNet) -> HashNet:
    """Merge every batch norm into the layer before it, and round weights to float16, as the file has them."""
    net.eval()
    for module in list(net.modules()):
        if isinstance(module, Normed):
            module.fold()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half().float())
    return net


def store_half(model: onnx.ModelProto) -> None:
    """Store large weights as float16, cast back when the model is loaded: half the file, the same answers."""
    for index, weights in enumerate(model.graph.initializer):
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size >= 1024:
            name = weights.name
            half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half")
            model.graph.initializer[index].CopyFrom(half)
            node = onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT)
            model.graph.node.insert(0, node)


def export(net: HashNet, out: Path, training: str, name: str) -> HashNet:
    """Fold ``net``, write it to ``out`` as the encoder file that pyhash reads, and return it folded."""
    net = fold(net)
    example = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by PyTorch's own code
        program = torch.onnx.export(
            net,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]  # the exporter notes source lines of this machine there
    store_half(model)
    del model.metadata_props[:]
    metadata = {
        "schema": "1",
        "name": name,
        "levels": json.dumps(LEVELS),
        "size": str(SIZE),
        "resize": "bilinear",
        "crop": "squash",
        "taps": json.dumps(TAPS),
        "training": training,
    }
    onnx.helper.set_model_props(model, {f"pyhash.{key}": value for key, value in metadata.items()})
    model.producer_name, model.doc_string = "pyhash examples/train_hash_model.py", ""
    onnx.checker.check_model(model, full_check=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(model.SerializeToString())
    return net


def session(model: Path) -> onnxruntime.InferenceSession:
    """Open the model on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_logits(model: onnxruntime.InferenceSession, images: Images) -> npt.NDArray[np.float32]:
    """Return the exported model's logits, (n, bits)."""
    parts = [model.run(["logits"], {"images": images[i : i + 64]})[0] for i in range(0, len(images), 64)]
    return np.concatenate(parts)


def check_export(net: HashNet, out: Path, images: Images) -> None:
    """Compare the file with the folded network on real pictures; raise if their answers differ."""
    with torch.no_grad():
        expected = net(torch.from_numpy(images)).numpy()
    found = run_logits(session(out), images)
    worst, same = float(np.abs(found - expected).max()), float(((found > 0) == (expected > 0)).mean())
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB; against PyTorch on {len(images)} pictures: ", end="")
    print(f"largest difference {worst:.1e}, equal bits {same:.4%}")
    if worst > 1e-3 * max(1.0, float(np.abs(expected).max())) or same < 0.9999:
        raise SystemExit("the exported model does not agree with the trained one")


def hash_order(queries: Images, database: Images, k: int) -> npt.NDArray[np.int64]:
    """Return each query's ``k`` nearest packed codes, ties to the smaller row, as ``pyhash.Index`` does."""
    nearest = np.empty((len(queries), k), np.int64)
    for row, query in enumerate(queries):
        distances = np.bitwise_count(database ^ query).sum(1, dtype=np.int64)
        nearest[row] = np.argsort(distances * len(database) + np.arange(len(database)))[:k]
    return nearest


def vector_order(queries: Images, database: Images, k: int, kind: str) -> npt.NDArray[np.int64]:
    """Return each query's ``k`` nearest pictures by a classic baseline.

    ``pixels``: L2 between 32x32 RGB thumbnails. ``histogram``: L1 between 8x8x8 RGB histograms.
    """

    def describe(images: Images) -> npt.NDArray[np.float32]:
        if kind == "pixels":
            return shrink(images, 32).flatten(1).float().numpy()
        cell = np.array([64, 8, 1])
        counts = [np.bincount((image // 32).reshape(-1, 3) @ cell, minlength=512) for image in images]
        return np.array(counts, np.float32)

    asked, stored = describe(queries), describe(database)
    nearest = np.empty((len(asked), k), np.int64)
    norms = np.square(stored).sum(1)
    for row, query in enumerate(asked):
        distances = norms - 2 * stored @ query if kind == "pixels" else np.abs(stored - query).sum(1)
        nearest[row] = np.argsort(distances, kind="stable")[:k]
    return nearest


def spread(split: Split, limit: int) -> Split:
    """Keep at most ``limit`` pictures, evenly over the (class-ordered) split; 0 keeps all."""
    n = len(split.files)
    rows = np.linspace(0, n - 1, min(n, limit or n)).round().astype(int)
    return Split([split.files[row] for row in rows], split.images[rows], split.fine[rows], split.coarse[rows])


def evaluate(args: argparse.Namespace, k: int = 5) -> None:
    """Print one table: the share of the first ``k`` neighbours that have the query's class, and its group."""
    model = session(args.out)
    levels: dict[str, int] = json.loads(model.get_modelmeta().custom_metadata_map["pyhash.levels"])
    ends = list(itertools.accumulate(levels.values(), initial=0))
    print(f"Precision of the first {k}; queries held out of training, database = training pictures.\n")
    print("| set | queries / database | ranked by | same class | same group |\n|---|---|---|---|---|")
    for source in present(args.data, args.sets):
        queries = spread(load_split(args.data, source, source.held_out, args.cache), args.queries)
        database = spread(load_split(args.data, source, source.train, args.cache), args.database)
        asked, stored = (run_logits(model, split.images) > 0 for split in (queries, database))
        orders = {}
        for level, start, stop in (("all", 0, ends[-1]), *zip(levels, ends, ends[1:], strict=False)):
            a, b = (np.packbits(bits[:, start:stop], axis=1) for bits in (asked, stored))
            orders[f"our code, {level} {stop - start} bits"] = hash_order(a, b, k)
        orders["raw pixels 32x32, L2"] = vector_order(queries.images, database.images, k, "pixels")
        orders["colour histogram 8x8x8, L1"] = vector_order(queries.images, database.images, k, "histogram")
        names = [(queries.fine, database.fine), (queries.coarse, database.coarse)]
        rows = {by: [(b[order] == a[:, None]).mean() for a, b in names] for by, order in orders.items()}
        rows["chance"] = [np.mean([(b == name).mean() for name in a]) for a, b in names]
        for by, (same, group) in rows.items():
            sizes = f"{len(queries.files):,} / {len(database.files):,}"
            print(f"| {source.name} | {sizes} | {by} | {same:.3f} | {group:.3f} |", flush=True)
    files = queries.files[:: len(queries.files) // 200 + 1]
    print(f"\nmedian milliseconds a picture, one thread, {source.name}: ", end="")
    print("decode and resize {:.2f}, network {:.2f}".format(*latency(model, files)))


def latency(model: onnxruntime.InferenceSession, files: list[Path]) -> tuple[float, float]:
    """Return the median times, in milliseconds, to decode one picture and to run the network on it."""
    times = []
    for file in files:
        start = time.perf_counter()
        picture = load_picture(file)[None]
        decoded = time.perf_counter()
        model.run(["logits"], {"images": picture})
        times.append((decoded - start, time.perf_counter() - decoded))
    decode, network = 1e3 * np.median(times, axis=0)
    return float(decode), float(network)


def main(argv: list[str] | None = None) -> None:
    """Read the command line; train, export and check; then measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [source.name for source in SOURCES]
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder that holds the data sets")
    add("--out", type=Path, required=True, help="the ONNX file to write (or to evaluate)")
    add("--sets", nargs="+", choices=names, default=names, help="data sets to use")
    add("--cache", type=Path, default=Path.home() / ".cache" / "pyhash-train", help="keeps decoded pictures")
    add("--checkpoint", type=Path, help="training state, written every two minutes (default: in the cache)")
    add("--resume", action="store_true", help="go on from the checkpoint; with --minutes 0 only export it")
    add("--epochs", type=float, default=20, help="length of the training")
    add("--minutes", type=float, help="length as time instead (then no two runs are quite the same)")
    add("--batch", type=int, default=128, help="pictures a step")
    add("--lr", type=float, default=3e-3, help="peak learning rate")
    add("--seed", type=int, default=0, help="of weights, order, augmentation and targets")
    add("--threads", type=int, default=1, help="CPU threads for training")
    add("--evaluate", action="store_true", help="only measure the model at --out")
    add("--queries", type=int, default=1000, help="measure at most this many queries a set (0: all)")
    add("--database", type=int, default=10_000, help="against at most this many pictures (0: all)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    args.checkpoint = args.checkpoint or args.cache / f"{args.out.stem}.pt"
    if not args.evaluate:
        net = train(args)
        sources = present(args.data, args.sets)
        training = "from scratch on the training splits of " + ", ".join(source.name for source in sources)
        net = export(net, args.out, training, f"pyhash-{args.out.stem}")
        held_out = load_split(args.data, sources[-1], sources[-1].held_out, args.cache)
        check_export(net, args.out, held_out.images)
    evaluate(args)


if __name__ == "__main__":
    main()

"""Those that `bench_duplicates` compares: pyhash, and its peers where they are installed."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import pyhash
from pyhash.copies import Duplicates

WITHIN = 10  # bits: what imagededup's hashes take when nothing is said
HASHES = ("PHash", "DHash", "WHash", "AHash")

Pairs = set[tuple[int, int]]


class Finder(Protocol):
    """One that finds copies among files."""

    title: str

    def pairs(self, files: Sequence[Path], **options: bool) -> Pairs:
        """Return the pairs that it takes for copies, as places in `files`, the lower first."""
        ...


class Dedupe:
    """A gallery's duplicates, as `pyhash dedupe` finds them. Photographs stay in it while their copies change."""

    title = "pyhash"

    def __init__(self, folder: Path, encoder: pyhash.Encoder) -> None:
        self._folder = folder
        self._encoder = encoder
        self._held: dict[int, Path] = {}

    def pairs(self, files: Sequence[Path], **options: bool) -> Pairs:
        if self._held.get(0) != files[0]:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            self._held = {}
        wanted = dict(enumerate(files))
        for place, file in self._held.items():
            if wanted.get(place) != file:
                self._path(place, file).unlink()
        for place, file in wanted.items():
            if self._held.get(place) != file:
                shutil.copyfile(file, self._path(place, file))
        self._held = wanted
        with pyhash.Gallery(self._folder, self._encoder) as gallery:
            changes = gallery.update(prune=True)
            if changes.failed:
                raise SystemExit(f"{changes.failed[0].path}: {changes.failed[0].reason}")
            return grouped(gallery.duplicates(**options), lambda path: int(Path(path).stem))

    def _path(self, place: int, file: Path) -> Path:
        return self._folder / f"{place:05}{file.suffix}"


class Files:
    """pyhash.duplicates: without a gallery fewer pairs are looked at."""

    title = "pyhash.duplicates"

    def pairs(self, files: Sequence[Path], **options: bool) -> Pairs:
        places = {str(file): place for place, file in enumerate(files)}
        return grouped(pyhash.duplicates(files, **options), lambda path: places[path])


def grouped(found: Duplicates, place: Callable[[str], int]) -> Pairs:
    """Return all pairs of a group's members, each by its place."""
    if found.uncompared:
        raise SystemExit(f"{found.uncompared[0].path}: {found.uncompared[0].reason}")
    groups = (sorted(place(copy.path) for copy in group.images) for group in found.groups)
    return {pair for group in groups for pair in combinations(group, 2)}


class PlainHash:
    """The classic perceptual hash: the lowest 8 x 8 of a grey 32 x 32 image's DCT against their median."""

    title = "pHash"

    def __init__(self) -> None:
        self._known: dict[Path, NDArray[np.uint8]] = {}

    def pairs(self, files: Sequence[Path], **_: bool) -> Pairs:
        for file in files:
            if file not in self._known:
                self._known[file] = p_hash(file)
        codes = np.stack([self._known[file] for file in files])
        first, second = np.nonzero(np.triu(pyhash.hamming(codes, codes) <= WITHIN, 1))
        return set(zip(first.tolist(), second.tolist(), strict=True))


def p_hash(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    cosines = np.cos(np.pi / 32 * np.arange(8)[:, None] * (np.arange(32) + 0.5))
    low = (cosines @ grey @ cosines.T).ravel()
    return np.packbits(low > np.median(low[1:]))


class Imagededup:
    """A method of imagededup, with what it takes when nothing is said."""

    def __init__(self, title: str, method: Any) -> None:
        self.title = f"imagededup {title}"
        self._method = method
        self._known: dict[Path, Any] = {}

    def pairs(self, files: Sequence[Path], **_: bool) -> Pairs:
        for file in files:
            if file not in self._known:
                self._known[file] = self._method.encode_image(image_file=file)
        codes = {str(place): self._known[file] for place, file in enumerate(files)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of options that were not given
            answer = self._method.find_duplicates(encoding_map=codes, num_dist_workers=0)
        both = ((int(one), int(other)) for one, others in answer.items() for other in others)
        return {(min(pair), max(pair)) for pair in both if pair[0] != pair[1]}


def imagededup_hashes() -> ModuleType:
    """Import imagededup's hashes without its network: they need no torch, though the package imports it for all."""
    for module, name in (("imagededup.utils.models", "CustomModel"), ("imagededup.methods.cnn", "CNN")):
        empty = ModuleType(module)
        setattr(empty, name, None)
        sys.modules.setdefault(module, empty)
    return import_module("imagededup.methods.hashing")


def finders(folder: Path) -> tuple[list[Finder], list[str]]:
    """Return all that can run here, pyhash first, and what cannot, with the reason; a folder may be made."""
    found: list[Finder] = [Dedupe(folder, pyhash.Encoder()), Files()]
    skipped: list[str] = []

    def attempt(name: str, make: Callable[[], Any]) -> Any:
        try:
            # torch tells of a download on standard output, which the table goes to
            with contextlib.redirect_stdout(sys.stderr):
                return make()
        except Exception as error:  # whatever a peer raises, the others can be compared
            skipped.append(f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
            return None

    logging.disable(logging.INFO)  # imagededup tells of every search
    network = attempt("imagededup CNN", lambda: import_module("imagededup.methods").CNN(verbose=False))
    hashing = attempt("imagededup's hashes", imagededup_hashes)
    if hashing is not None:
        found += [Imagededup(name, getattr(hashing, name)(verbose=False)) for name in HASHES]
    if network is not None:
        found.append(Imagededup("CNN", network))
    return [*found, PlainHash()], skipped

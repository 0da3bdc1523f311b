"""The head of a collection: fitted on the embeddings of the images that it is to tell apart.

An image is known by its embedding x, as the encoder projects it. Three things are made of it:

own
    ``unit(x - mean)``, with the mean of the collection: *the same picture*.
neighbourhood
    The own embedding averaged with those of the nearest images (`pyhash.neighbourhoods`): *the same kind*. It is made
    elsewhere, and given here.
labels
    Where classes are known, the probability of each of them.

A bit of a level is the sign of an affine map of x, or of a linear map of the neighbourhood, which needs no threshold:
then the same map of x gives codes that can be compared with it, where there is no collection to ask.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..codes import Levels, LevelsLike, as_levels, pack
from ..errors import CorruptHeadError
from ..labels import Labels, as_labels
from . import numerics
from .fitting import SUPERVISED, UNSUPERVISED, Kind, fit
from .head import Head, as_features
from .posterior import Posterior, fit_posterior
from .unsupervised import lsh, pca_itq, pca_random

__all__ = ["LEVELS", "CollectionHead", "Made", "adapt"]

Made = Literal["own", "neighbourhood", "labels"]
"""What the bits of a level are made of."""

LEVELS = Levels({"coarse": 64, "fine": 192})
"""What a code is made of unless it is said."""

_ROWS = 10_000  # that an unsupervised level is fitted on: more do not change it visibly
_ITERATIONS = 20  # of iterative quantization; 50 find the same images
_GENERAL_WEIGHT = 10  # images that the mean of images in general counts as
_OWN_SHARE = 0.1  # of the own embedding in the similarity of a level made of labels

_MARK = b"pyhash collection head\x01"  # the last byte is the version
_DIGEST = hashlib.sha256().digest_size

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CollectionHead:
    """What turns the embeddings of a collection into codes, and into vectors whose products are similarities.

    Attributes
    ----------
    mean : float32 array, shape (dim,)
        What is taken off an embedding.
    weight : float32 array, shape (dim, bits)
    bias : float32 array, shape (bits,)
        ``bit = (x - mean) @ weight + bias > 0``; 0 where a level is not made of labels.
    rates : float32 array, shape (bits,)
        Share of the images whose bit is one.
    levels : Levels
    made_of : dict of str to str
        ``"own"``, ``"neighbourhood"`` or ``"labels"``, for each level.
    kinds : dict of str to str
        The kind of head that each level has, as `fit` knows them.
    fitted_on : int
        Images.
    posteriors : dict of str to Posterior
        For each level made of labels.
    """

    mean: Floats
    weight: Floats
    bias: Floats
    rates: Floats
    levels: Levels
    made_of: dict[str, Made]
    kinds: dict[str, str]
    fitted_on: int
    posteriors: dict[str, Posterior] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = ", ".join(f"{level} {bits} of {self.made_of[level]}" for level, bits in self.levels.items())
        return f"<CollectionHead: {self.dim} -> {parts}; fitted on {self.fitted_on:,} images>"

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return len(self.mean)

    @property
    def supervised(self) -> bool:
        """Whether a level is made of labels."""
        return "labels" in self.made_of.values()

    def own(self, embeddings: NDArray[Any]) -> Floats:
        """Return the own embeddings, float32 (n, dim), of length 1: centred on the collection.

        Parameters
        ----------
        embeddings : float array, shape (n, dim)
            As projected.
        """
        return _unit(self._checked(embeddings) - self.mean)

    def vectors(self, embeddings: NDArray[Any], level: str) -> Floats:
        """Return vectors of length 1, of which the products are the similarity at a level.

        At a level made of labels that is how far the probabilities of the classes agree, and, for a tenth, the own
        embeddings: images of one class are put in order by how they look. Elsewhere it is the own embedding; a level
        made of neighbourhoods wants the average of those (`pyhash.neighbourhoods`).

        Parameters
        ----------
        embeddings : float array, shape (n, dim)
            As projected.
        level : str

        Returns
        -------
        numpy.ndarray
            float32, shape (n, dim), or (n, classes + dim).
        """
        own = self.own(embeddings)
        if level not in self.levels:
            raise ValueError(f"level must be one of {', '.join(self.levels)}, got {level!r}")
        if self.made_of[level] != "labels":
            return own
        classes = _unit(self.posteriors[level](np.asarray(embeddings)))
        parts = np.float32(np.sqrt(1 - _OWN_SHARE)) * classes, np.float32(np.sqrt(_OWN_SHARE)) * own
        return np.concatenate(parts, axis=1)

    def codes(self, embeddings: NDArray[Any], neighbourhoods: NDArray[Any] | None = None) -> NDArray[np.uint8]:
        """Return the codes, each level made of what it is to be made of.

        Parameters
        ----------
        embeddings : float array, shape (n, dim)
            As projected; the mean is taken off here.
        neighbourhoods : float array, shape (n, dim), optional
            What the levels that want them are made of. Without them the own embedding takes their place: such codes
            can be compared with the others, and find nearly as well.

        Returns
        -------
        numpy.ndarray
            uint8, shape (n, n_bytes).
        """
        rows = self._checked(embeddings)
        averaged = None if neighbourhoods is None else self._checked(neighbourhoods)
        if averaged is not None and len(averaged) != len(rows):
            raise ValueError(f"neighbourhoods must be one for each of {len(rows)} embeddings, got {len(averaged)}")
        codes = np.empty((len(rows), self.levels.n_bytes), np.uint8)
        for level in self.levels:
            columns, places = self.levels.bit_range(level), self.levels.byte_range(level)
            weight, bias = self.weight[:, columns].astype(np.float64), self.bias[columns]
            for part in numerics.blocks(len(rows), self.dim):
                # In float64, so that a bit does not depend on how many rows are multiplied at once.
                if averaged is not None and self.made_of[level] == "neighbourhood":
                    logits = averaged[part].astype(np.float64) @ weight
                else:
                    logits = (rows[part].astype(np.float64) - self.mean) @ weight + bias
                codes[part, places] = pack(logits)
        return codes

    def affine(self) -> Head:
        """Return the head of a lone encoder: every level made of the image alone, as one affine map of x."""
        bias = self.bias - self.mean.astype(np.float64) @ self.weight.astype(np.float64)
        details = {level: {"of": made} for level, made in self.made_of.items()}
        kind = ", ".join(dict.fromkeys(self.kinds.values()))
        return Head(kind, self.weight, bias.astype(np.float32), self.levels, self.rates, self.supervised, details)

    def with_neighbourhoods(
        self,
        neighbourhoods: NDArray[Any],
        level: str | None = None,
        *,
        general: NDArray[Any] | None = None,
        seed: int = 0,
    ) -> CollectionHead:
        """Return a head whose level is made of neighbourhoods, and fitted on these.

        Parameters
        ----------
        neighbourhoods : float array, shape (m, dim)
            Of the collection's images, or some of them.
        level : str, optional
            The first unless given.
        general, seed
            As for `adapt`.
        """
        chosen = level or next(iter(self.levels))
        if chosen not in self.levels:
            raise ValueError(f"level must be one of {', '.join(self.levels)}, got {level!r}")
        rows = self._checked(as_features(neighbourhoods))
        columns = self.levels.bit_range(chosen)
        kind = self.kinds[chosen] if self.kinds[chosen] in UNSUPERVISED else "pca-itq"
        weight, bias, rates = self.weight.copy(), self.bias.copy(), self.rates.copy()
        weight[:, columns] = _unsupervised(kind, rows, self.levels[chosen], general, seed)
        bias[columns], rates[columns] = 0, (rows @ weight[:, columns] > 0).mean(axis=0)
        return replace(
            self,
            weight=weight,
            bias=bias,
            rates=rates,
            made_of={**self.made_of, chosen: "neighbourhood"},
            kinds={**self.kinds, chosen: kind},
            posteriors={name: posterior for name, posterior in self.posteriors.items() if name != chosen},
        )

    def to_bytes(self) -> bytes:
        """Return the head as bytes, the same for equal heads; `from_bytes` reads them."""
        notes = {
            "levels": [[level, bits, self.made_of[level], self.kinds[level]] for level, bits in self.levels.items()],
            "fitted_on": self.fitted_on,
            "dim": self.dim,
            "posteriors": {level: [len(one.bias), one.sharpness] for level, one in sorted(self.posteriors.items())},
        }
        text = json.dumps(notes, sort_keys=True).encode()
        arrays = [self.mean, self.weight, self.bias, self.rates]
        arrays += [array for _, one in sorted(self.posteriors.items()) for array in (one.weight, one.bias)]
        parts = [_MARK, len(text).to_bytes(4, "little"), text, *(array.astype("<f4").tobytes() for array in arrays)]
        content = b"".join(parts)
        return content + hashlib.sha256(content).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> CollectionHead:
        """Read a head.

        Raises
        ------
        CorruptHeadError
            When the bytes are not a whole, undamaged head of a version that this one reads.
        """
        content, digest = data[:-_DIGEST], data[-_DIGEST:]
        if not content.startswith(_MARK[:-1]):
            raise CorruptHeadError("not the head of a collection: its first bytes are others")
        if content[len(_MARK) - 1] != _MARK[-1]:
            raise CorruptHeadError(
                f"a head of version {content[len(_MARK) - 1]}, and this version of pyhash reads {_MARK[-1]}: upgrade "
                "pyhash, or fit it again"
            )
        if hashlib.sha256(content).digest() != digest:
            raise CorruptHeadError("a damaged head: its checksum is another")
        try:
            return cls._parsed(content)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptHeadError(f"a head that makes no sense: {error}") from error

    @classmethod
    def _parsed(cls, content: bytes) -> CollectionHead:
        start = len(_MARK) + 4
        end = start + int.from_bytes(content[len(_MARK) : start], "little")
        notes = json.loads(content[start:end])
        floats = np.frombuffer(content, "<f4", offset=end).astype(np.float32)
        numerics.check_finite(floats[None])
        levels = Levels({level: bits for level, bits, _, _ in notes["levels"]})
        taken = 0

        def take(*shape: int) -> Floats:
            nonlocal taken
            taken += math.prod(shape)
            return floats[taken - math.prod(shape) : taken].reshape(shape)

        dim, bits = notes["dim"], levels.bits
        return cls(
            mean=take(dim),
            weight=take(dim, bits),
            bias=take(bits),
            rates=take(bits),
            levels=levels,
            made_of={level: made for level, _, made, _ in notes["levels"]},
            kinds={level: kind for level, _, _, kind in notes["levels"]},
            fitted_on=notes["fitted_on"],
            posteriors={
                level: Posterior(take(dim, classes), take(classes), sharpness)
                for level, (classes, sharpness) in notes["posteriors"].items()
            },
        )

    def _checked(self, rows: NDArray[Any]) -> Floats:
        array = np.asarray(rows)
        if array.ndim != 2 or array.shape[1] != self.dim or array.dtype.kind != "f":
            raise ValueError(
                f"embeddings must be floats of shape (n, {self.dim}), as the head was fitted on, got {array.dtype} "
                f"{array.shape}"
            )
        numerics.check_finite(array)
        return array.astype(np.float32, copy=False)


def adapt(
    embeddings: NDArray[Any],
    levels: LevelsLike = LEVELS,
    *,
    labels: Labels | None = None,
    neighbourhoods: NDArray[Any] | None = None,
    head: Kind | None = None,
    general: NDArray[Any] | None = None,
    seed: int = 0,
) -> CollectionHead:
    """Fit the head of a collection.

    Nothing is whitened. Unsupervised levels are fitted on at most 10,000 images, drawn by the seed.

    Parameters
    ----------
    embeddings : float array, shape (n, dim)
        As ``Encoder.embed(..., normalize=False)`` gives them.
    levels : Levels, mapping or int
    labels : array or mapping of level to array, each of shape (n,), optional
        A level that has some is made of them; a bare array is for all levels.
    neighbourhoods : float array, shape (m, dim), optional
        Those of the collection's own embeddings; the first of several levels is made of them unless it has labels.
    head : str, optional
        Kind of head, as `fit` knows them: of the levels that have labels (``"hadamard-ridge"`` or ``"laplacian"``), or
        of the others (``"pca-itq"``, ``"pca-random"`` or ``"lsh"``).
    general : float array, shape (dim,), optional
        Variances of embeddings of images in general, whose mean is 0: what the encoder was made with. Where there are
        fewer images than twice a level's bits, draws of it fill them up, so that a code has its width however few
        images there are; and the mean of few is moved a little towards 0.
    seed : int
        Equal arguments give equal heads.

    Returns
    -------
    CollectionHead

    Raises
    ------
    ValueError
        When embeddings are not finite or all equal, or labels, levels and kind do not fit.
    """
    rows, levels = as_features(embeddings).astype(np.float32, copy=False), as_levels(levels)
    named = _labels_of(labels, levels, len(rows))
    kinds = {level: _kind_of(head, level in named) for level in levels}
    if head is not None and head not in kinds.values():
        raise ValueError(f"head {head!r} is for levels {'with' if head in SUPERVISED else 'without'} labels: none is")
    if general is not None:
        general = np.asarray(general, np.float64)
        if general.shape != (rows.shape[1],) or not (np.isfinite(general) & (general >= 0)).all() or not general.any():
            raise ValueError(f"general must be {rows.shape[1]} variances, one a dimension, got shape {general.shape}")
    mean = numerics.class_means(rows, np.zeros(len(rows), np.intp))[0]
    if general is not None:
        mean *= len(rows) / (len(rows) + _GENERAL_WEIGHT)
    drawn = rows
    if len(rows) > _ROWS:
        drawn = rows[np.sort(np.random.default_rng(seed).choice(len(rows), _ROWS, replace=False))]
    own = _unit(drawn - mean.astype(np.float32))
    parts = []
    for number, (level, bits) in enumerate(levels.items()):
        if level in named:
            parts.append(fit(kinds[level], rows, named[level], levels={level: bits}, seed=seed + number))
        else:
            weight = _unsupervised(kinds[level], own, bits, general, seed + number)
            rates = (own @ weight > 0).mean(axis=0).astype(np.float32)
            bias = (-mean @ weight).astype(np.float32)
            parts.append(Head(kinds[level], weight, bias, Levels({level: bits}), rates, supervised=False))
    weight = np.concatenate([part.weight for part in parts], axis=1)
    offset = np.concatenate([part.bias for part in parts]) + mean @ weight
    bare = np.repeat([level not in named for level in levels], list(levels.values()))
    fitted = CollectionHead(
        mean=mean.astype(np.float32),
        weight=weight,
        bias=np.where(bare, 0, offset).astype(np.float32),
        rates=np.concatenate([part.rates for part in parts]),
        levels=levels,
        made_of={level: "labels" if level in named else "own" for level in levels},
        kinds=dict(kinds),
        fitted_on=len(rows),
        posteriors={level: fit_posterior(rows, values, seed) for level, values in named.items()},
    )
    first = next(iter(levels))
    if neighbourhoods is None or first in named or len(levels) == 1:
        return fitted
    return fitted.with_neighbourhoods(neighbourhoods, first, general=general, seed=seed)


def _labels_of(labels: Labels | None, levels: Levels, n: int) -> dict[str, NDArray[Any]]:
    """Return the labels of each level that has some."""
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        (values,) = as_labels("labels", labels, n).values()
        return dict.fromkeys(levels, values)
    named = as_labels("labels", labels, n)
    unknown = [level for level in named if level not in levels]
    if unknown:
        raise ValueError(f"labels must be of the levels {', '.join(levels)}, got {', '.join(unknown)}")
    return {level: named[level] for level in levels if level in named}


def _kind_of(head: Kind | None, labelled: bool) -> Kind:
    """Return the kind of head of a level."""
    supervised: tuple[Kind, ...] = ("hadamard-ridge", "laplacian")
    unsupervised: tuple[Kind, ...] = ("pca-itq", "pca-random", "lsh")
    if head not in (None, *supervised, *unsupervised):
        raise ValueError(f"head must be one of {', '.join([*supervised, *unsupervised])}, got {head!r}")
    choices = supervised if labelled else unsupervised
    return head if head is not None and head in choices else choices[0]


def _unsupervised(kind: str, rows: Floats, bits: int, general: NDArray[Any] | None, seed: int) -> Floats:
    """Return the linear map of a level, (dim, bits), fitted on rows of length 1."""
    rng = np.random.default_rng(seed)
    if len(rows) > _ROWS:
        rows = rows[np.sort(rng.choice(len(rows), _ROWS, replace=False))]
    lacking = 2 * bits - len(rows)
    if general is not None and lacking > 0:
        drawn = rng.standard_normal((lacking, rows.shape[1])) * np.sqrt(general)
        rows = np.concatenate([rows, _unit(drawn.astype(np.float32))])
    if kind == "pca-itq":
        return pca_itq(rows, bits, iterations=_ITERATIONS, seed=seed).weight
    return (lsh if kind == "lsh" else pca_random)(rows, bits, seed=seed).weight


def _unit(rows: Floats) -> Floats:
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    unit: Floats = rows / np.maximum(lengths, np.float32(1e-30))
    return unit

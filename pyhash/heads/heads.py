"""Hash heads: what turns features into bits, fitted in closed form or in seconds on a CPU.

Every head is one affine map, ``bit = features @ weight + bias > 0``, so it fits into a network as a single Gemm.
Each level of the code is fitted on its own: a supervised head with the labels of that level, an unsupervised one
without. What every function takes:

features : array, shape (n, dim)
    Floating point, n pictures. It is read in blocks of rows; only a block at a time is held in float64.
levels : Levels, mapping of name to bits, or int
    What the code is made of; an int is the single level ``"code"``.
seed : int
    Equal arguments give equal heads.

Notation below: X the centred features, one row a picture; C classes; n_c the pictures of class c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes import Levels, pack
from . import fitting as _fitting
from .fitting import Floats, target_codes

__all__ = [
    "SUPERVISED",
    "UNSUPERVISED",
    "Head",
    "as_labels",
    "as_levels",
    "fit",
    "hadamard_ridge",
    "laplacian",
    "lsh",
    "pca_itq",
    "recenter",
    "sign",
    "target_codes",
]

Labels = ArrayLike | Mapping[str, ArrayLike]
LevelsLike = Levels | Mapping[str, int] | int

_MARGIN = 0.75  # how far the thresholds of a repeated split spread, in half distances between its two groups


@dataclass(frozen=True, eq=False)
class Head:
    """An affine map from features to bits.

    Attributes
    ----------
    kind : str
        Its name in `fit`.
    weight : float32 array, shape (dim, bits)
    bias : float32 array, shape (bits,)
        ``bit = features @ weight + bias > 0``.
    levels : Levels
    rates : float32 array, shape (bits,)
        Share of the training pictures whose bit is one.
    supervised : bool
        Whether labels were used.
    details : dict
        What was chosen in fitting, as plain values.
    """

    kind: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    levels: Levels
    rates: NDArray[np.float32]
    supervised: bool
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Columns of the features."""
        return int(self.weight.shape[0])

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int(self.weight.shape[1])

    def logits(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Map features of shape (n, dim) to logits of shape (n, bits); ValueError unless all are finite."""
        features = _as_features(features)
        if features.shape[1] != self.dim:
            raise ValueError(
                f"features must have {self.dim} columns, as the head was fitted on, got {features.shape[1]}"
            )
        logits = np.empty((len(features), self.bits), np.float32)
        for rows in _fitting.blocks(*features.shape):
            with np.errstate(invalid="ignore", over="ignore"):  # checked in the next line
                logits[rows] = features[rows].astype(np.float32, copy=False) @ self.weight + self.bias
            _fitting.check_finite(logits[rows], rows.start)
        return logits

    def encode(self, features: NDArray[Any]) -> NDArray[np.uint8]:
        """Map features of shape (n, dim) to codes of shape (n, n_bytes)."""
        return pack(self.logits(features))


def fit(kind: str, features: NDArray[Any], labels: Labels | None = None, *, levels: LevelsLike, **options: Any) -> Head:
    """Fit the head of a kind.

    Parameters
    ----------
    kind : str
        ``"hadamard-ridge"``, ``"laplacian"``, ``"pca-itq"``, ``"lsh"`` or ``"sign"``.
    features : array, shape (n, dim)
    labels : array or mapping of name to array, each of shape (n,), integers or strings, optional
        The two supervised kinds, the first two, need them; the others take none.
    levels : Levels, mapping or int
    **options
        Of the kind's own function, ``seed`` among them.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When the kind is unknown, labels are missing or superfluous, or the data do not do for it.
    """
    supervised, unsupervised = SUPERVISED.get(kind), UNSUPERVISED.get(kind)
    if supervised is not None:
        if labels is None:
            raise ValueError(f"labels must be given for the head {kind!r}, got None")
        return supervised(features, labels, levels, **options)
    if unsupervised is None:
        raise ValueError(f"kind must be one of {', '.join([*SUPERVISED, *UNSUPERVISED])}, got {kind!r}")
    if labels is not None:
        raise ValueError(f"labels must be None for the head {kind!r}, which does not use them")
    return unsupervised(features, levels, **options)


def hadamard_ridge(
    features: NDArray[Any],
    labels: Labels,
    levels: LevelsLike,
    *,
    ridge: float | None = None,
    balance: bool = True,
    seed: int = 0,
) -> Head:
    """Supervised: regress the features onto codes of their classes that lie as far apart as can be.

    Each class gets a target code from a Hadamard matrix (`target_codes`), as in central similarity quantization (Yuan
    et al., CVPR 2020) and Hadamard codebook learning (Lin et al., ACM MM 2018). The map to the targets is ridge
    regression, ``W = (X'DX + rI)^-1 X'DT``: T holds the target of each picture and the diagonal D its weight; with
    `balance` all classes weigh the same. The strength r is the one of a grid with the least generalised
    cross-validation error of the regression onto class indicators, ``RSS(r) / (1 - df(r)/n)^2`` (Golub, Heath and
    Wahba, Technometrics 1979), which is free once X'DX is decomposed. The threshold of a bit is midway between the
    mean logits of its two groups of classes.

    With more classes than bits the codes cannot all be equally far apart; then classes that the regression confuses
    get near ones, which matters much for the ranking. There `laplacian` tends to retrieve better still.

    C classes can be split in two in ``2^(C-1) - 1`` ways only. A level with more bits repeats splits with other
    thresholds, spread evenly between the two groups: Hamming distance then also says how sure a picture's side is.

    Parameters
    ----------
    features, levels, seed
        See the module.
    labels : array or mapping of level to array, each of shape (n,)
        Those of each level; a bare array does for a code of one level.
    ridge : float, optional
        The strength r relative to the mean of the eigenvalues of X'DX that are not 0; None chooses it.
    balance : bool
        Whether every class weighs the same, whatever its size.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When the levels of labels and code differ, a level has one class or too few bits for its classes, there are too
        few pictures, or features are not finite.
    """
    features, levels = _as_features(features), as_levels(levels)
    named = _labels_of_levels(labels, levels, len(features))
    _check_ridge(ridge)
    spectra: dict[bytes, _fitting.Spectrum] = {}
    weights, biases, details = [], [], {}
    for number, (level, bits) in enumerate(levels.items()):
        of_row, n_classes = _classes(level, named[level])
        if (n_classes - 1).bit_length() > bits:
            raise ValueError(f"level {level!r} must have enough bits to tell its {n_classes} classes apart, got {bits}")
        fit = _fitting.regress(features, [of_row], _row_weights(of_row, balance), ridge, spectra)
        solution = fit.cross / fit.damped[:, None]
        distinct = min(bits, _fitting.n_splits(n_classes))
        codes = target_codes(n_classes, distinct, seed + number)
        if n_classes > bits:
            codes = _fitting.assign(codes, (fit.cross / fit.totals).T @ solution / fit.totals)
        weight = fit.spectrum.vectors @ (solution @ codes)
        scores, ones = fit.centred @ weight, codes > 0
        high = np.where(ones, scores, 0).sum(axis=0) / ones.sum(axis=0)
        low = np.where(ones, 0, scores).sum(axis=0) / (~ones).sum(axis=0)
        column, offset = _repeated(distinct, bits)
        weights.append(weight[:, column])
        biases.append(-fit.mean @ weights[-1] - ((high + low) / 2)[column] - offset * ((high - low) / 2)[column])
        details[level] = {"classes": n_classes, "splits": distinct, "ridge": fit.ridge}
    return _head("hadamard-ridge", features, levels, weights, biases, details, supervised=True)


def laplacian(
    features: NDArray[Any],
    labels: Labels,
    levels: LevelsLike,
    *,
    ridge: float | None = None,
    balance: bool = True,
    rotation: Literal["itq", "random"] = "itq",
    seed: int = 0,
) -> Head:
    """Supervised: keep similar pictures close, the objective of Laplacian eigenmaps, solved under its constraints.

    ``min over h of sum_ij s_ij |h(x_i) - h(x_j)|^2 + r |h|^2`` for ``h(x) = W'x`` is least at W = 0. As in spectral
    hashing (Weiss, Torralba and Fergus, NeurIPS 2008) and locality preserving projections (He and Niyogi, NeurIPS
    2003) the outputs must therefore be balanced, ``sum_i h(x_i) = 0`` (X is centred), and decorrelated with unit
    variance, ``W'X'XW = nI``, where r is added to X'X so that it can be inverted: ``W'(X'X + rI)W = nI``. With L the
    Laplacian of S this is the generalised eigenproblem ``X'LX w = m (X'X + rI) w``, the smallest m first.

    The similarity of two pictures is ``1/n_c`` where both have class c and 0 elsewhere, summed over the labellings
    given. Every labelling gives S row sums of one, so X'LX is X'X, once for each, minus the scatter B of the class
    means, and the directions are those of the largest ``w'Bw / w'(X'X + rI)w``: for one labelling exactly linear
    discriminant analysis. `balance` weighs every class the same, as equal priors do there: X'X and B are
    then of weighted pictures. The strength r is chosen
    as for `hadamard_ridge`: the regression onto class indicators spans the same directions (Hastie, Buja and
    Tibshirani, Annals of Statistics 1995).

    B has rank C - 1 at most (C: classes, or combinations of labels), so **at most C - 1 directions are useful**,
    whatever the number of bits. They are weighted by their canonical correlation, so that a direction which hardly
    separates the classes hardly matters, and lifted to the level's bits by a matrix with orthonormal rows: the
    rotation that `pca_itq` describes, or a random one, which retrieves clearly worse. The lifted bits are no longer
    uncorrelated. With a single direction (two classes) the bits are thresholds along it, as in `hadamard_ridge`.

    Parameters
    ----------
    features, levels, seed
        See the module.
    labels : array or mapping of name to array, each of shape (n,)
        A code of several levels uses for each level its own labels. A code of one level uses all the labels there
        are, whatever their names: the similarities are summed. Give the finest last: `balance` goes by it.
    ridge : float, optional
        The strength r relative to the mean of the eigenvalues of X'X that are not 0; None chooses it.
    balance : bool
        Whether every class weighs the same, whatever its size.
    rotation : {"itq", "random"}

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When the levels of labels and code differ, there is one class only, there are too few pictures, or features are
        not finite.
    """
    features, levels = _as_features(features), as_levels(levels)
    if rotation not in ("itq", "random"):
        raise ValueError(f"rotation must be 'itq' or 'random', got {rotation!r}")
    _check_ridge(ridge)
    if len(levels) > 1:
        named = _labels_of_levels(labels, levels, len(features))
        used = {level: [level] for level in levels}
    else:
        named = as_labels("labels", labels, len(features), next(iter(levels)))
        used = {level: list(named) for level in levels}
    spectra: dict[bytes, _fitting.Spectrum] = {}
    weights, biases, details = [], [], {}
    for number, (level, bits) in enumerate(levels.items()):
        classes = [_classes(name, named[name])[0] for name in used[level]]
        fit = _fitting.regress(features, classes, _row_weights(classes[-1], balance), ridge, spectra)
        root = np.sqrt(fit.damped)[:, None]
        basis, correlations, _ = np.linalg.svd(fit.cross / np.sqrt(fit.totals) / root, full_matrices=False)
        rank = min(bits, int((correlations > 1e-6 * correlations[0]).sum()))
        directions = fit.spectrum.vectors @ (basis[:, :rank] / root) * np.sqrt(len(features)) * correlations[:rank]
        if rank == 1:
            scores = fit.centred @ directions[:, 0]
            middle, half = (scores.max() + scores.min()) / 2, (scores.max() - scores.min()) / 2
            weights.append(np.repeat(directions, bits, axis=1))
            biases.append(-fit.mean @ weights[-1] - middle - half * _repeated(1, bits)[1])
        else:
            iterations = 50 if rotation == "itq" else 0
            lift = _fitting.lift(features, fit.mean, directions, bits, iterations, seed + number)
            weights.append(directions @ lift)
            biases.append(-fit.mean @ weights[-1])
        details[level] = {"labels": used[level], "directions": rank, "ridge": fit.ridge}
    return _head("laplacian", features, levels, weights, biases, details, supervised=True)


def pca_itq(features: NDArray[Any], levels: LevelsLike, *, iterations: int = 50, seed: int = 0) -> Head:
    """Unsupervised: principal components, rotated so that their signs lose least (iterative quantization).

    Gong, Lazebnik, Gordo and Perronnin, "Iterative Quantization", TPAMI 2013: with Z the pictures on the leading
    components, find the orthogonal R that minimises ``|B - ZR|_F`` with ``B = sign(ZR)``, by turns: B from R, then R
    from the singular value decomposition of Z'B (the orthogonal Procrustes problem). R is fitted on at most 20,000
    pictures.

    With fewer components than bits (few dimensions, or few pictures) R has orthonormal rows instead of being square,
    and the same two steps still descend: the components are lifted to all the bits. Every level of a code of several
    is a head of its own on the leading components, so each can be searched alone.

    Parameters
    ----------
    features, levels, seed
        See the module.
    iterations : int

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When features are not finite, or all equal.
    """
    features, levels = _as_features(features), as_levels(levels)
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    ones = np.ones(len(features))
    mean = _fitting.class_means(features, np.zeros(len(features), np.intp), ones)[0]
    vectors = _fitting.spectrum(features, mean, ones).vectors
    weights, biases, details = [], [], {}
    for number, (level, bits) in enumerate(levels.items()):
        directions = vectors[:, :bits]
        weights.append(directions @ _fitting.lift(features, mean, directions, bits, iterations, seed + number))
        biases.append(-mean @ weights[-1])
        details[level] = {"components": directions.shape[1]}
    return _head("pca-itq", features, levels, weights, biases, details, supervised=False)


def lsh(features: NDArray[Any], levels: LevelsLike, *, seed: int = 0) -> Head:
    """Baseline: signs of random projections of the centred features (Charikar, STOC 2002).

    The projections are orthogonal in batches of as many as there are dimensions, which makes Hamming distance a less
    noisy estimate of the angle (super-bit hashing: Ji et al., NeurIPS 2012).

    Parameters
    ----------
    features, levels, seed
        See the module; of the features only the mean is used.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When features are not finite.
    """
    features, levels = _as_features(features), as_levels(levels)
    dim = features.shape[1]
    mean = _fitting.class_means(features, np.zeros(len(features), np.intp), np.ones(len(features)))[0]
    rng = np.random.default_rng(seed)
    batches = [
        np.linalg.qr(rng.standard_normal((dim, min(dim, levels.bits - i))))[0] for i in range(0, levels.bits, dim)
    ]
    weight = np.concatenate(batches, axis=1)
    return _head("lsh", features, levels, [weight], [-mean @ weight], {}, supervised=False)


def sign(
    features: NDArray[Any], levels: LevelsLike | None = None, *, threshold: ArrayLike = 0.0, seed: int = 0
) -> Head:
    """No fitting: a bit for every feature, ``feature > threshold``, the textbook recipe for a trained hash layer.

    Parameters
    ----------
    features, seed
        See the module; nothing is random here.
    levels : Levels, mapping or int, optional
        Must have as many bits as there are features, the default.
    threshold : float or array of shape (dim,)
        `recenter` sets it to the median of a gallery.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        When the bits are not as many as the features, or threshold does not fit.
    """
    features = _as_features(features)
    dim = features.shape[1]
    levels = as_levels(dim if levels is None else levels)
    if levels.bits != dim:
        raise ValueError(f"levels must have a bit for each of the {dim} features, got {levels.bits} bits")
    limits = np.asarray(threshold, np.float64)
    if limits.shape not in ((), (dim,)) or not np.isfinite(limits).all():
        raise ValueError(f"threshold must be one finite number, or one for each of {dim} features, got {threshold!r}")
    bias = -np.broadcast_to(limits, (dim,))
    return _head("sign", features, levels, [np.eye(dim)], [bias], {}, supervised=False)


SUPERVISED = {"hadamard-ridge": hadamard_ridge, "laplacian": laplacian}
UNSUPERVISED = {"pca-itq": pca_itq, "lsh": lsh, "sign": sign}


def recenter(head: Head, features: NDArray[Any], rates: ArrayLike | None = None) -> Head:
    """Move the thresholds of a head to suit a gallery whose pictures differ from those it was fitted on.

    Parameters
    ----------
    head : Head
    features : array, shape (n, dim)
        Of the gallery; n at least 2.
    rates : float or array of shape (bits,), optional
        The share of the gallery's bits that shall be one. By default 0.5, the median, for a head fitted without labels;
        for one fitted with labels the share it had in training, because a split of classes need not be even and
        the median would cut through a class.

    Returns
    -------
    Head
        With another bias.

    Raises
    ------
    ValueError
        When features or rates do not fit.
    """
    features = _as_features(features)
    if rates is None:
        rates = head.rates if head.supervised else 0.5
    shares = np.asarray(rates, np.float64)
    if shares.shape not in ((), (head.bits,)) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"rates must be one number from 0 to 1, or one for each of {head.bits} bits, got {rates!r}")
    logits = head.logits(features)
    logits.sort(axis=0)
    n = len(logits)
    zeros = np.clip(n - np.rint(np.broadcast_to(shares, (head.bits,)) * n), 1, n - 1).astype(np.intp)
    columns = np.arange(head.bits)
    thresholds = (logits[zeros - 1, columns].astype(np.float64) + logits[zeros, columns]) / 2
    return replace(head, bias=(head.bias - thresholds).astype(np.float32))


def as_levels(levels: LevelsLike) -> Levels:
    """Levels as they may be given: an object, a mapping of name to bits, or the bits of the one level ``"code"``."""
    if isinstance(levels, Levels):
        return levels
    return Levels(levels) if isinstance(levels, Mapping) else Levels.single(levels)


def as_labels(argument: str, labels: Labels, n: int, bare: str = "label") -> dict[str, NDArray[Any]]:
    """Labels as they may be given: a mapping of level to array of shape (n,), or one array, of the level `bare`.

    Raises
    ------
    TypeError
        When labels are neither integers nor strings.
    ValueError
        When they are not one a picture.
    """
    named = dict(labels) if isinstance(labels, Mapping) else {bare: labels}
    if not named:
        raise ValueError(f"{argument} must have at least one level, got none")
    arrays = {}
    for level, values in named.items():
        array = np.asarray(values)
        if array.dtype == object and all(isinstance(value, str) for value in array.flat):
            array = array.astype(str)
        if array.dtype.kind not in "biuU":
            raise TypeError(f"{argument} of level {level!r} must be integers or strings, got {array.dtype}")
        if array.shape != (n,):
            raise ValueError(f"{argument} of level {level!r} must have shape ({n},), one a picture, got {array.shape}")
        arrays[level] = array
    return arrays


def _labels_of_levels(labels: Labels, levels: Levels, n: int) -> dict[str, NDArray[Any]]:
    if len(levels) > 1 and not isinstance(labels, Mapping):
        raise ValueError(f"labels must be a mapping with the levels {list(levels)}, got {type(labels).__name__}")
    named = as_labels("labels", labels, n, next(iter(levels)))
    if set(named) != set(levels):
        raise ValueError(f"labels must have the levels {list(levels)}, got {list(named)}")
    return named


def _repeated(distinct: int, bits: int) -> tuple[NDArray[np.intp], Floats]:
    """Which distinct split each bit uses, and where between its two groups (-1 to 1) its threshold lies."""
    column = np.arange(bits) % distinct
    copies = np.bincount(column)[column]
    return column, _MARGIN * ((2 * (np.arange(bits) // distinct) + 1) / copies - 1)


def _head(
    kind: str,
    features: NDArray[Any],
    levels: Levels,
    weights: Sequence[Floats],
    biases: Sequence[Floats],
    details: dict[str, Any],
    *,
    supervised: bool,
) -> Head:
    weight = np.ascontiguousarray(np.concatenate(weights, axis=1), np.float32)
    bias = np.concatenate(biases).astype(np.float32)
    head = Head(kind, weight, bias, levels, np.zeros(levels.bits, np.float32), supervised, details)
    logits = head.logits(features)
    return replace(head, rates=(logits > 0).mean(axis=0, dtype=np.float64).astype(np.float32))


def _classes(level: str, labels: NDArray[Any]) -> tuple[NDArray[np.intp], int]:
    """The class of each picture as an integer, and how many classes there are."""
    values, of_row = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise ValueError(f"labels of level {level!r} must have at least 2 classes, got only {values[0].item()!r}")
    if len(of_row) <= len(values):
        raise ValueError(f"labels of level {level!r} must repeat: {len(of_row)} pictures have {len(values)} classes")
    return of_row.astype(np.intp), len(values)


def _row_weights(of_row: NDArray[np.intp], balance: bool) -> Floats:
    """Weight of each picture; they sum to the number of pictures."""
    sizes = np.bincount(of_row)
    return (len(of_row) / len(sizes) / sizes)[of_row] if balance else np.ones(len(of_row))


def _as_features(features: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(features)
    if array.dtype.kind != "f":
        raise TypeError(f"features must be floating point, got {array.dtype}")
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(f"features must have shape (n, dim) with n at least 2 and dim at least 1, got {array.shape}")
    return array


def _check_ridge(ridge: float | None) -> None:
    if ridge is not None and not 0 <= ridge < np.inf:
        raise ValueError(f"ridge must be at least 0 and finite, got {ridge}")

"""How well two images agree where both lie on one another: in every window, not on the whole.

Two images in one frame, or with one background, agree on the whole. So what counts is the windows in which there is
something to see, and of these the worst: a copy agrees in all of them, up to what compression, sharpening and a change
of brightness leave, or in all but those that a mark was laid over.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .local import BLOCK, Floats, around, blocks, grown, windows

__all__ = ["Agreement", "agreement"]

Mask = NDArray[np.bool_]

_SEEN = 5.0**2
"""Variance of a window from which on there is something to see in it, in grey levels."""
_CLEAR = 10.0**2
"""From here on it is seen clearly."""
_FAINT = 1.5**2
"""From here on windows say something together, though none does alone."""
_ALIKE = 0.6
"""Correlation of a window below which it is another one, if what is left is as large as `_SEEN`."""
_REST = 8.0**2
"""Variance that is left in a clear window that contradicts: seen by anyone who looks."""
_LOST = 0.1
"""Share of its variance that is left of a window that a change of brightness has made even."""
_BINS = 32
_FITS = 3
_ENOUGH = 4_000
"""Pixels to which a change of brightness is fitted."""
_LEVELS = np.arange(256 * 16) / 16
"""Of smoothed images."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_CELLS = 4
_STEEP = 40.0
"""Grey levels from a pixel to the next, beyond which an edge counts no more."""


class Agreement(NamedTuple):
    """What was measured of two images that lie on one another."""

    seen: float
    """Share of windows in which there is something to see."""
    agreeing: float
    """Share of windows in which there is something to see, and both images show the same."""
    spread: float
    """Share of the 4 x 4 cells of the image in which some windows agree."""
    contradicting: int
    """Number of clear windows that contradict."""
    different: float
    """Share of the seen windows that are different."""
    lower: float
    """Lower quartile of the correlations of the seen windows that are not different."""
    faint: float
    """Correlation of the faint windows together; 1 where there are few."""
    lost: float
    """Share of windows that a change of brightness has made even in one image."""
    area: float
    """Share of the image that different windows cover."""
    changed: float
    """Share of its pixels that differ."""
    persisting: float
    """Correlation of the different windows together: something shines through a mark, or shows between its lines."""
    one_way: float
    """How far they differ in one direction: 1 where all pixels that differ are brighter in one of them, 0 where as much
    is darker; letters and lines of one colour make all brighter, or darker."""
    strange: tuple[float, float]
    """How much more structure each image has where they differ than beside it: about 1 where a mark was laid over the
    other image, more where the image shows something of its own there."""
    outline: tuple[float, float]
    """How much more brightness changes across the outline of where they differ than along it, in each image: about 1
    where a mark was laid over the other image."""
    brightness: float
    """Mean brightness of the second less that of the first, in grey levels."""
    contrast: float
    """Contrast of the second by that of the first."""
    where: Mask
    """Which pixels lie in different windows."""

    def inverse(self) -> Agreement:
        """Return the same of the second and the first."""
        return self._replace(
            strange=self.strange[::-1],
            outline=self.outline[::-1],
            brightness=-self.brightness,
            contrast=1 / self.contrast,
        )


def agreement(a: Floats, b: Floats) -> Agreement:
    """Compare two grey images of equal size, at least a window high and wide, that lie on one another.

    One may be a brighter or darker version of the other, by any curve that ascends: the direction is taken in which
    more is explained, as what is white or black in one may have been anything in the other. Images in colour may have
    such a curve for each channel.

    Parameters
    ----------
    a, b : float32 arrays, shape (h, w) or (h, w, 3)
    """
    height, width = (side // BLOCK * BLOCK for side in a.shape[:2])
    a, b = a[:height, :width], b[:height, :width]
    found, turned = _explained(a, b), False
    if found.different.any() or found.lost.any():
        back = _explained(b, a)
        if turned := back.unexplained < found.unexplained:
            found = back
    a, b = _grey(a), _grey(b)
    clean = found.seen & ~found.different
    area = _pixels(found.different, a.shape)
    beside = _strangeness(found, area)
    persisting = _correlation(found, found.different) if found.different.any() else 0.0
    cells = [part for rows in np.array_split(clean, _CELLS) for part in np.array_split(rows, _CELLS, axis=1)]
    filled = [part.mean() > 0.08 for part in cells if part.size]
    return Agreement(
        float(found.seen.mean()),
        float(clean.mean()),
        float(np.mean(filled)),
        int(found.contradicting.sum()),
        float(found.different.sum() / max(1, found.seen.sum())),
        float(np.percentile(found.correlation[clean], 25)) if clean.any() else 0.0,
        _together(found),
        float(found.lost.mean()),
        float(area.mean()),
        beside.changed,
        persisting,
        beside.one_way,
        beside.strange[::-1] if turned else beside.strange,
        beside.outline[::-1] if turned else beside.outline,
        float(b.mean() - a.mean()),
        float((b.std() + 1) / (a.std() + 1)),
        area,
    )


class _Explained(NamedTuple):
    """One image explained by the other, window by window."""

    model: Floats
    """The other, made as bright as this."""
    image: Floats
    rest: Floats
    noise: float
    variance: Floats
    """The larger of both."""
    covariance: Floats
    product: Floats
    """Of both variances."""
    correlation: Floats
    seen: Mask
    different: Mask
    contradicting: Mask
    lost: Mask

    @property
    def unexplained(self) -> tuple[int, int]:
        return int(self.different.sum()), int(self.lost.sum())


def _explained(x: Floats, y: Floats) -> _Explained:
    image = _grey(y)
    model = _grey(_as_bright(x, y, image))
    noise = _noise(image - model)
    low, high = _clipped(_grey(x), model)
    model, image = model.clip(low, high), image.clip(low, high)
    rest = image - model
    of_x, of_model, of_y, of_rest = (_variances(values) for values in (_grey(x), model, image, rest))
    covariance = (of_model + of_y - of_rest) * np.float32(0.5)
    product = of_model * of_y
    correlation = np.clip(covariance / np.sqrt(product + 1), -1, 1).astype(np.float32)
    variance = np.maximum(of_model, of_y)
    seen = variance > _SEEN
    different = seen & (correlation < _ALIKE) & (of_rest > _SEEN)
    contradicting = (variance > _CLEAR) & (correlation < _ALIKE) & (of_rest > _REST)
    lost = (of_x > _REST) & (of_model < _LOST * of_x)
    return _Explained(
        model, image, rest, noise, variance, covariance, product, correlation, seen, different, contradicting, lost
    )


def _as_bright(x: Floats, y: Floats, image: Floats) -> Floats:
    """Return x as bright as y, by a curve that ascends for each channel: what differs most counts least.

    The curves are fitted to some of the pixels: they have few values.
    """
    stride = max(1, math.isqrt(image.size // _ENOUGH))
    some, there, seen = x[::stride, ::stride], y[::stride, ::stride], image[::stride, ::stride]
    weight: Floats = np.ones(seen.shape, np.float32)
    for _ in range(_FITS):
        curves = [_curve(*pair, weight) for pair in zip(_channels(some), _channels(there), strict=True)]
        rest = seen - _grey(_applied(curves, some))
        weight = (1 / (1 + (rest / (2.5 * _noise(rest))) ** 2) ** 2).astype(np.float32)
    return _applied(curves, x)


def _noise(rest: Floats) -> float:
    """Return the usual size of what is left."""
    rest = rest.ravel()[:: max(1, rest.size // _ENOUGH)]
    return 1.48 * float(np.median(np.abs(rest - np.median(rest)))) + 1.5


def _clipped(x: Floats, model: Floats) -> tuple[float, float]:
    """Return the grey levels between which a change of brightness leaves what was there: it may have cut off what was
    dark or bright, pixel by pixel and before the image was reduced.
    """
    dark, bright = model[x <= 15], model[x >= 240]
    return 30.0 if len(dark) and dark.max() <= 4 else 0.0, 225.0 if len(bright) and bright.min() >= 250 else 255.0


def _grey(values: Floats) -> Floats:
    return values if values.ndim == 2 else values @ _LUMA


def _variances(values: Floats) -> Floats:
    means = windows(blocks(values))
    found: Floats = np.maximum(windows(blocks(values * values)) - means * means, 0)
    return found


def _channels(image: Floats) -> list[Floats]:
    return [image] if image.ndim == 2 else [image[..., k] for k in range(3)]


def _curve(x: Floats, y: Floats, weight: Floats) -> Floats:
    """Return the brightness for each 16th of a grey level that makes x as bright as y: by the curve that ascends and
    fits best, pixels weighted.
    """
    bins = np.minimum(x * (_BINS / 256), _BINS - 1).astype(np.intp).ravel()
    weights = weight.ravel()
    count = np.bincount(bins, weights, _BINS).astype(np.float64)
    there = count > 0
    at = np.bincount(bins, weights * x.ravel(), _BINS)[there] / count[there]
    value = np.bincount(bins, weights * y.ravel(), _BINS)[there] / count[there]
    return np.interp(_LEVELS, at, _ascending(value, count[there])).astype(np.float32)


def _applied(curves: list[Floats], image: Floats) -> Floats:
    """Return each channel of an image by its curve."""
    levels = (image * 16).astype(np.uint16)
    if len(curves) == 1:
        return curves[0][levels]
    return np.stack([curve[levels[..., k]] for k, curve in enumerate(curves)], axis=2)


def _ascending(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest values that do not descend: neighbours that do are pooled."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            before = pools.pop()
            total = before[1] + pool[1]
            pool = ((before[0] * before[1] + pool[0] * pool[1]) / total, total, before[2] + pool[2])
        pools.append(pool)
    return np.repeat([value for value, _, _ in pools], [count for _, _, count in pools])


def _together(found: _Explained) -> float:
    """Return the correlation of the windows in which one can see little, all together; 1 where they are few."""
    faint = (found.variance > _FAINT) & ~found.seen
    if faint.sum() < max(12, 0.04 * faint.size):
        return 1.0
    return _correlation(found, faint)


def _correlation(found: _Explained, some: Mask) -> float:
    """Return the correlation of some windows together."""
    return min(1.0, float(found.covariance[some].sum() / (np.sqrt(found.product[some]).sum() + 1)))


def _pixels(found: Mask, shape: tuple[int, ...]) -> Mask:
    """Return which pixels lie in one of some windows."""
    covered = np.zeros((found.shape[0] + 1, found.shape[1] + 1), np.bool_)
    for down in (0, 1):
        for across in (0, 1):
            covered[down : down + found.shape[0], across : across + found.shape[1]] |= found
    return np.repeat(np.repeat(covered, BLOCK, axis=0), BLOCK, axis=1)[: shape[0], : shape[1]]


def _outline(values: Floats, differ: Mask) -> float:
    """Return how much more brightness changes across the outline of where two images differ than along it: about 1
    where the outline has nothing to do with the image, more where it is that of something the image shows.
    """
    soft = around(differ.astype(np.float32), 5)
    normal = np.gradient(soft)
    weight = np.hypot(*normal)
    slope = [np.clip(part, -_STEEP, _STEEP) for part in np.gradient(values)]
    across = np.abs(slope[0] * normal[0] + slope[1] * normal[1]).sum()
    along = np.abs(slope[0] * normal[1] - slope[1] * normal[0]).sum()
    return float((across + weight.sum()) / (along + weight.sum()))


class _Strangeness(NamedTuple):
    """What the model and the image show where they differ."""

    changed: float
    one_way: float
    strange: tuple[float, float]
    outline: tuple[float, float]


def _strangeness(found: _Explained, area: Mask) -> _Strangeness:
    if not area.any():
        return _Strangeness(0.0, 0.0, (0.0, 0.0), (0.0, 0.0))
    differ = grown(area, BLOCK) & (np.abs(found.rest) > max(8.0, 4 * found.noise))
    core = grown(differ, 1)
    steep = [
        np.minimum(sum(np.square(slope) for slope in np.gradient(values)), _STEEP**2)
        for values in (found.model, found.image)
    ]
    rings = [ring for ring in (grown(core, 4) & ~core, grown(area, 12) & ~grown(area, 3)) if ring.any()]
    if not differ.any() or not rings:
        return _Strangeness(float(differ.mean()), 0.0, (1.0, 1.0), (1.0, 1.0))
    one, other = (max(_ratio(values, core, ring) for ring in rings) for values in steep)
    rest = found.rest[differ]
    return _Strangeness(
        float(differ.mean()),
        float(np.abs(rest.sum()) / np.abs(rest).sum()),
        (one, other),
        (_outline(found.model, differ), _outline(found.image, differ)),
    )


def _ratio(steep: Floats, inside: Mask, ring: Mask) -> float:
    """How much steeper it is inside than on a ring, by root mean squares."""
    return (float(np.sqrt(steep[inside].mean())) + 1) / (float(np.sqrt(steep[ring].mean())) + 1)

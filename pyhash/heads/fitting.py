"""Heads by the names of their kinds."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

from ..codes import LevelsLike
from ..labels import Labels
from .head import Head
from .supervised import hadamard_ridge, laplacian
from .unsupervised import lsh, pca_itq, pca_random, sign

Kind = Literal["hadamard-ridge", "laplacian", "pca-itq", "pca-random", "lsh", "sign"]
SUPERVISED = {"hadamard-ridge": hadamard_ridge, "laplacian": laplacian}
UNSUPERVISED = {"pca-itq": pca_itq, "pca-random": pca_random, "lsh": lsh, "sign": sign}


def fit(
    kind: Kind, features: NDArray[Any], labels: Labels | None = None, *, levels: LevelsLike, **options: Any
) -> Head:
    """Fit the head of a kind.

    Parameters
    ----------
    kind : str
        ``"hadamard-ridge"``, ``"laplacian"``, ``"pca-itq"``, ``"pca-random"``, ``"lsh"`` or ``"sign"``.
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

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

from typing import Any

from numpy.typing import NDArray

from ..codes import LevelsLike
from ..labels import Labels
from .head import Head
from .supervised import hadamard_ridge, laplacian
from .unsupervised import lsh, pca_itq, sign

SUPERVISED = {"hadamard-ridge": hadamard_ridge, "laplacian": laplacian}
UNSUPERVISED = {"pca-itq": pca_itq, "lsh": lsh, "sign": sign}


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

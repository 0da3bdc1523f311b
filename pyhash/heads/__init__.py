"""What turns features into bits, fitted in closed form or in seconds on a CPU.

Every head is one affine map, ``bit = features @ weight + bias > 0``, so it fits into a network as a single Gemm.
Each level of the code is fitted on its own: a supervised head with the labels of that level, an unsupervised one
without. What every function takes:

features : array, shape (n, dim)
    Floating point, n images. It is read in blocks of rows; only a block at a time is held in float64.
levels : Levels, mapping of name to bits, or int
    What the code is made of; an int is the single level ``"code"``.
seed : int
    Equal arguments give equal heads.

Notation of the functions: X the centred features, one row an image; C classes; n_c the images of class c.
"""

from __future__ import annotations

from .adapting import LEVELS, CollectionHead, Made, adapt
from .fitting import SUPERVISED, UNSUPERVISED, Kind, fit
from .fusion import check_weights, fit_fused
from .head import Head, recenter
from .posterior import Posterior
from .projection import COMPONENTS, Projection, as_they_are, principal_components
from .supervised import hadamard_ridge, laplacian
from .targets import target_codes
from .unsupervised import lsh, pca_itq, pca_random, sign

__all__ = [
    "COMPONENTS",
    "LEVELS",
    "SUPERVISED",
    "UNSUPERVISED",
    "CollectionHead",
    "Head",
    "Kind",
    "Made",
    "Posterior",
    "Projection",
    "adapt",
    "as_they_are",
    "check_weights",
    "fit",
    "fit_fused",
    "hadamard_ridge",
    "laplacian",
    "lsh",
    "pca_itq",
    "pca_random",
    "principal_components",
    "recenter",
    "sign",
    "target_codes",
]


def __dir__() -> list[str]:
    return __all__

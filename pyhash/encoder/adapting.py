"""Another head for an encoder, fitted on a collection's embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import heads, ranking
from ..codes import LevelsLike
from ..labels import Labels
from ..networks import EMBEDDING, Model, give_embedding, replace_head, serialized

__all__ = ["fit_head", "give_head"]

_FEW = 50  # embeddings; among fewer, the nearest are not near
_MANY = 10_000  # whose neighbourhoods are looked at: more do not change a head visibly


def fit_head(
    embeddings: NDArray[Any],
    labels: Labels | None,
    levels: LevelsLike,
    kind: heads.Kind | None,
    general: NDArray[np.float64] | None,
    seed: int,
) -> heads.CollectionHead:
    """Fit the head of a collection; the first of several levels on neighbourhoods, unless it has labels.

    Bits so fitted find images of one kind better than those fitted on the embeddings themselves, even where they are
    made of the image alone, and they can be compared with a gallery's, which are made of neighbourhoods.
    """
    fitted = heads.adapt(embeddings, levels, labels=labels, head=kind, general=general, seed=seed)
    first = next(iter(fitted.levels))
    if len(fitted.levels) == 1 or fitted.made_of[first] == "labels" or len(embeddings) < _FEW:
        return fitted
    rows = embeddings
    if len(rows) > _MANY:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), _MANY, replace=False))]
    around = ranking.neighbourhoods(fitted.own(rows))
    return fitted.with_neighbourhoods(around, first, general=general, seed=seed)


def give_head(model: Model, source: str | bytes, output: str, head: heads.CollectionHead) -> bytes:
    """Return the bytes of a model with this head behind one of its outputs, in one file.

    Parameters
    ----------
    model : Model
    source : str or bytes
        Where it was opened, or its bytes.
    output : str
        The embedding that the head was fitted on.
    head : CollectionHead
    """
    network: Any = source
    if output != EMBEDDING:
        network = give_embedding(source, output, model.preparation, name=model.name)
    how = "with labels" if head.supervised else "without labels"
    before = model.metadata.training
    training = f"head fitted on {head.fitted_on:,} images of a collection, {how}; before: {before}"
    return serialized(replace_head(network, head.affine(), head.levels, made_of=head.made_of, training=training))

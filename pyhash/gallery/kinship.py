"""How an encoder is related to the one that a gallery was made with."""

from __future__ import annotations

from enum import Enum

from .records import Identity


class Kinship(Enum):
    """How an encoder is related to the one that a gallery was made with."""

    SAME = "same"
    HEAD = "another head"  # and the codes are those of the one before
    RENEWED = "another network in the same place"
    OTHER = "another"


def kinship(stored: Identity, encoder: Identity, *, adapted: bool) -> Kinship:
    """Compare an encoder with the one that a gallery notes; `adapted` galleries make codes by a head of their own."""
    if stored.fingerprint == (encoder.whole if stored.decoder is None else encoder.fingerprint):
        same = adapted or stored.decoder is None or stored.head == encoder.head
        return Kinship.SAME if same else Kinship.HEAD
    in_place = stored.opened is not None and stored.opened == encoder.opened and stored.built_in is None
    return Kinship.RENEWED if in_place else Kinship.OTHER

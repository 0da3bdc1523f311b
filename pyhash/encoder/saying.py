"""Whether codes say anything: the one place that looks at bits for what is wrong with the network behind them."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOOKED_AT", "silence", "warn_of_silence"]

LOOKED_AT = 1000
"""Codes that are looked at of many: more show no more."""

_ONE_SIDED = 0.9
_BY_CHANCE = 24  # so many bits are not one value by chance
_FEW_BITS = 16  # of fewer, nine in ten can be
_COPIES = 5  # so many copies of one image are no folder
_MANY = 64  # images that no bit should be the same for; frames of one scene share many
_CONSTANT, _CONSTANT_OF_FITTED = 0.5, 0.8  # share of bits: of those that tell two classes apart half are the same


def silence(codes: NDArray[np.uint8], bits: int, *, fitted: bool = False) -> str | None:
    """Return what is wrong with codes that say little, its cause and the remedy; None for codes as they should be.

    Parameters
    ----------
    codes : uint8 array, shape (n, n_bytes)
    bits : int
        Length of a code.
    fitted : bool
        Whether a head was fitted to make these bits.
    """
    codes = codes[:LOOKED_AT]
    n = len(codes)
    if n * bits < _BY_CHANCE:
        return None
    ones = np.unpackbits(codes, axis=1, count=bits).mean(axis=0)
    share, same = float(ones.mean()), bool((codes == codes[0]).all())
    if share in (0.0, 1.0) or (bits >= _FEW_BITS and not 1 - _ONE_SIDED <= share <= _ONE_SIDED):
        value, cause = (
            (1, "above 0, as that of a softmax, a sigmoid or a ReLU is")
            if share > 0.5
            else (0, "0 or below, as the logarithm of a probability and the output of a dead network are")
        )
        what = "every bit is" if share in (0.0, 1.0) else f"{max(share, 1 - share):.0%} of the bits are"
        return (
            f"{what} {value}: the output is nearly always {cause}. Read another output (output, --output-name), or "
            "make an encoder of the network (pyhash build, Encoder.adapt)"
        )
    if same and n >= _COPIES and (n - 1) * bits >= _BY_CHANCE:
        return (
            f"all {n:,} images have one code: unless they are copies, the network does not tell them apart. Check how "
            "images are prepared (preprocess) and which output is read (output)"
        )
    constant = float(((ones == 0) | (ones == 1)).mean())
    if n >= _MANY and constant > (_CONSTANT_OF_FITTED if fitted else _CONSTANT):
        return (
            f"{constant:.0%} of the bits are the same for all {n:,} images and tell none apart. Check how images are "
            "prepared (preprocess), or fit a head on images like these (pyhash build, Encoder.adapt)"
        )
    return None


def warn_of_silence(codes: NDArray[np.uint8], bits: int, name: str, *, fitted: bool) -> bool:
    """Warn where codes of an encoder of this name say little; whether it did."""
    found = silence(codes, bits, fitted=fitted)
    if found is not None:
        warnings.warn(f"encoder {name!r}: {found}", RuntimeWarning, stacklevel=3)
    return found is not None

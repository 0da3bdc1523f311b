"""What differs between two copies, in words."""

from __future__ import annotations

from .details import Detail
from .proof import Proof

__all__ = ["differences"]

_BORDER = 0.6
"""Share of an image from which on what is around it is a border."""
_TURNED = (
    "",
    "mirrored",
    "turned by 180°",
    "mirrored top to bottom",
    "turned by 90° and mirrored",
    "turned by 90°",
    "turned by 270° and mirrored",
    "turned by 270°",
)
"""What makes the copy of the best: the ways of `images.turned`, in their order."""


def differences(best: Detail, other: Detail, proof: Proof | None) -> tuple[str, ...]:
    """Return what differs in a copy from the best of its group; the proof places the best in the copy."""
    found = []
    if proof is not None and proof.turn:
        found.append(_TURNED[proof.turn])
    if best.pixels and other.pixels:
        found += _size(best, other)
    if proof is not None:
        found += _extent(proof)
        found += _tones(proof)
        if proof.marked >= 0:
            where = "a mark on it" if proof.marked == 1 else "the best has a mark"
            found.append(f"{where}, over {_share(proof.agreement.area)}")
    if best.format and other.format:
        found += _format(best, other)
    return tuple(found)


def _size(best: Detail, other: Detail) -> list[str]:
    if {best.width, best.height} == {other.width, other.height}:
        return []
    return [f"{other.width} x {other.height} pixels instead of {best.width} x {best.height}"]


def _extent(proof: Proof) -> list[str]:
    mine, there = proof.placement.frames()
    in_best, in_copy = ((frame[2] - frame[0]) * (frame[3] - frame[1]) for frame in (mine, there))
    if proof.extent == "framed":
        if in_copy > in_best:
            return ["without the frame"]
        return ["with a border" if in_copy > _BORDER else f"within a larger image, of which it is {_share(in_copy)}"]
    found = []
    if in_best < 0.98:
        found.append(f"cropped to {_share(in_best)}")
    if in_copy < 0.98:
        found.append("shows more at the edges")
    return found


def _tones(proof: Proof) -> list[str]:
    found = []
    brightness, contrast = proof.agreement.brightness, proof.agreement.contrast
    if abs(brightness) > 8:
        found.append("brighter" if brightness > 0 else "darker")
    if not 0.85 < contrast < 1.18:
        found.append("more contrast" if contrast > 1 else "less contrast")
    if proof.colour < 0.15:
        found.append("without colour")
    elif not 0.75 < proof.colour < 1.33:
        found.append("stronger colours" if proof.colour > 1 else "weaker colours")
    return found


def _format(best: Detail, other: Detail) -> list[str]:
    if best.format != other.format:
        return [f"{other.format} instead of {best.format}"]
    if best.quality is not None and other.quality is not None and abs(best.quality - other.quality) > 2:
        return [f"JPEG quality {other.quality} instead of {best.quality}"]
    return []


def _share(value: float) -> str:
    return f"{max(1, round(100 * value))} %"

"""Copies of images among many: found, proved on the images themselves, and grouped."""

from __future__ import annotations

from .values import Copy, Duplicates, Group, Level, Relation, Uncompared

__all__ = ["Copy", "Duplicates", "Group", "Level", "Relation", "Uncompared"]


def __dir__() -> list[str]:
    return __all__

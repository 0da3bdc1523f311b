"""How many pixels are decoded at one time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MAX_PIXELS", "PixelBudget"]

MAX_PIXELS = 178_956_970
"""Largest image that is decoded, in pixels: twice Pillow's warning limit, where Pillow refuses, too."""


class PixelBudget:
    """Bounds the pixels decoded at one time by all threads, so that huge images do not meet in memory.

    An image larger than the whole budget is decoded alone.

    Parameters
    ----------
    pixels : int
        The bound.
    """

    def __init__(self, pixels: int = MAX_PIXELS) -> None:
        self.pixels = pixels
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until ``pixels`` more fit, and keep them taken while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + pixels <= self.pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()

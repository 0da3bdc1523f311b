"""Why an image cannot be read, in our own words."""

from __future__ import annotations

__all__ = ["Refused"]


class Refused(Exception):
    """A reason, before the name of the image is put to it."""

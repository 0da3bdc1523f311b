"""Text for people: what cannot be shown is escaped, and counts have their noun."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    r"""Show what cannot be shown (control characters, bytes that are not text) as escapes such as ``\n``."""
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def many(count: int, thing: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def size(n_bytes: int) -> str:
    """Return a number of bytes in the unit that leaves one to three digits before the point: thousands of the last."""
    if n_bytes < 1000:
        return many(n_bytes, "byte")
    value, units = n_bytes / 1000, iter(("kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    while value >= 999.5:
        value, unit = value / 1000, next(units)
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"

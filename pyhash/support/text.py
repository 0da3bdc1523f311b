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

"""Text for people."""

from __future__ import annotations

import pytest

from pyhash.support import size


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (123_456_789, "123 MB"),
        (10**12, "1.0 TB"),
    ],
)
def test_sizes_have_two_or_three_digits(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text

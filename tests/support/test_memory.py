"""Memory that is asked for: what is said, and that little is given unasked."""

from __future__ import annotations

import itertools
import math

import pytest

from pyhash.support import machine, memory

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_last", (-math.inf, 0))


def test_what_fits_is_given_and_what_does_not_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 40_000_000)
    memory.ask(40_000_000, "k must be smaller", "%d answers", 7)
    with pytest.raises(MemoryError) as caught:
        memory.ask(1_500_000_000, "k must be smaller", "%d answers to each of %d queries", 7, 3)
    text = "k must be smaller: 7 answers to each of 3 queries need 1.5 GB, 40 MB are available"
    assert str(caught.value) == text


def test_a_little_is_given_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(machine, "available_memory")
    memory.ask(16 * MIB, "k must be smaller", "%d answers", 7)
    assert memory.room(16 * MIB) is None


def test_the_machine_is_asked_for_room_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = itertools.count(100)
    monkeypatch.setattr(machine, "available_memory", lambda: next(answers))
    for now, expected in ((5.0, 100), (5.2, 100), (5.3, 101), (5.4, 101), (9.0, 102)):
        monkeypatch.setattr(memory.time, "monotonic", lambda now=now: now)
        assert memory.room(17 * MIB) == expected

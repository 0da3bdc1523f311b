"""Groups of copies: the best first, with its reason, and what each of the others is to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ...images import PixelBudget
from ...support import machine
from ..values import Copy, Group, Relation, Uncompared
from .details import Detail, detail_of
from .proof import Proof
from .prover import Prover
from .sets import Sets
from .stock import Stock
from .words import differences

__all__ = ["Grouping"]

_TIE = 0.02
"""Share by which numbers of pixels may differ and count as the same."""
_CHANGED = "its file has changed since it was indexed"


class _Seen(NamedTuple):
    """An image of a group beside a member of it."""

    pixels: float
    """Of what both show, as many as it has there; 0 where that is not known."""
    marked: bool = False
    """Whether a mark was laid over it."""
    framed: bool = False
    """Whether there is something around it."""


class Grouping:
    """Makes groups of sets of images that were proved to hang together."""

    def __init__(self, stock: Stock, prover: Prover, proofs: Mapping[tuple[int, int], Proof | None]) -> None:
        self._stock = stock
        self._prover = prover
        self._proofs = {pair: proof for pair, proof in proofs.items() if proof is not None}
        for (one, other), proof in list(self._proofs.items()):
            if proof.turn == 0:
                self._proofs.setdefault((other, one), proof.inverse())
        self._disproved: set[tuple[int, int]] = set()
        self._linked: dict[int, list[int]] = defaultdict(list)
        for one, other in proofs:
            self._linked[one].append(other)
            self._linked[other].append(one)
        self._budget = PixelBudget()
        self._details: dict[int, Detail] = {}
        self.uncompared: list[Uncompared] = []
        self.away = 0

    def duplicates(self, sets: Sets) -> Iterator[Group]:
        """Return the groups of copies, by the path of the best."""
        groups = []
        for members in sets.sets():
            members = self.looked_at(members)
            if len(members) > 1 and self._is_asked_for(members):
                groups.append(self._group(members))
        return iter(sorted(groups, key=lambda group: group.images[0].path))

    def similar(self, alike: Sequence[tuple[int, int]], sets: Sets) -> Iterator[Group]:
        """Return groups of images that are like the first of each, and no copies of it."""
        near: dict[int, set[int]] = defaultdict(set)
        for one, other in alike:
            if not sets.joined(one, other):
                near[one].add(other)
                near[other].add(one)
        taken: set[int] = set()
        groups = []
        for place in sorted(near, key=lambda place: (-len(near[place]), place)):
            members = sorted(near[place] - taken)
            if place in taken or not members:
                continue
            taken |= {place, *members}
            looked_at = self.looked_at([place, *members])
            if len(looked_at) > 1 and place in looked_at and self._is_asked_for(looked_at):
                copies = [self._copy(looked_at[0], "best"), *(self._copy(other, "similar") for other in looked_at[1:])]
                groups.append(Group(tuple(copies), "most are similar to it", "similar"))
        return iter(sorted(groups, key=lambda group: group.images[0].path))

    def looked_at(self, members: Iterable[int]) -> list[int]:
        """Look at files; return those whose are what they were, or are out of sight."""
        new = [place for place in members if place not in self._details]
        with ThreadPoolExecutor(machine.cpus()) as pool:
            found = pool.map(lambda place: detail_of(self._stock, place, self._budget), new)
            self._details |= dict(zip(new, found, strict=True))
        for place in new:
            if self._details[place].changed:
                self.uncompared.append(Uncompared(self._stock.path(place), _CHANGED))
            self.away += not self._details[place].there
        return [place for place in members if not self._details[place].changed]

    def _is_asked_for(self, members: Sequence[int]) -> bool:
        """Whether images of both sides are among them, where there are two."""
        return self._stock.reference is None or len({*map(self._stock.is_reference, members)}) == 2

    def _group(self, members: list[int]) -> Group:
        best, reason = self._best(members)
        copies = self.beside(best, members)
        found = {best, *(place for place, _ in copies)}
        joined = [self._by_chain(place) for place in members if place not in found]
        images = [self._copy(best, "best"), *(copy for _, copy in copies)]
        return Group((*images, *sorted(joined, key=lambda copy: copy.path)), reason, "duplicates", bool(joined))

    def beside(self, one: int, others: Iterable[int]) -> list[tuple[int, Copy]]:
        """Return what others are to an image, the surest first; those that are not proved to be copies are left out."""
        found = []
        for place in others:
            relation, proof = (None, None) if place == one else self._relation(one, place)
            if relation is not None:
                found.append((place, self._copy(place, relation, one, proof)))
        return sorted(found, key=lambda item: (-item[1].certainty, item[1].path))

    def _relation(self, best: int, place: int) -> tuple[Relation | None, Proof | None]:
        """What an image is to the best, by comparing both; None where it is not proved to be a copy."""
        a, b = self._details[best], self._details[place]
        digests = self._stock.digests
        if digests[best] is not None and digests[best] == digests[place]:
            return "identical bytes", None
        if a.content is not None and a.content == b.content:
            return "same pixels", None
        proof = self._proof(best, place)
        return (None, None) if proof is None else ("changed", proof)

    def _proof(self, one: int, other: int) -> Proof | None:
        """That one image is a copy of another, the one placed in the other."""
        pair = one, other
        if pair not in self._proofs and pair not in self._disproved:
            outcome = self._prover.prove(one, [other], [-1]).get(other)
            if outcome is None or outcome.proof is None:
                self._disproved.add(pair)
            else:
                self._proofs[pair] = outcome.proof
        return self._proofs.get(pair)

    def _by_chain(self, place: int) -> Copy:
        """An image that is joined to the best by others alone."""
        for by in self._linked[place]:
            relation, proof = self._relation(by, place)
            if relation is not None:
                return self._copy(place, relation, by, proof)._replace(joined_by=self._stock.path(by))
        by = self._linked[place][0]
        return self._copy(place, "changed")._replace(certainty=0.5, joined_by=self._stock.path(by))

    # The best

    def _best(self, members: list[int]) -> tuple[int, str]:
        """Return the best of copies, and why.

        A border, or what a screenshot shows beside an image, is no gain: all are compared with the one that seems to be
        the best, until it is.
        """
        seen = {place: _Seen(self._details[place].pixels) for place in members}
        compared: set[int] = set()
        best, reason = self._best_of(members, seen)
        while best not in compared:
            compared.add(best)
            self._look_beside(best, members, seen)
            best, reason = self._best_of(members, seen)
        return best, reason

    def _best_of(self, members: list[int], seen: dict[int, _Seen]) -> tuple[int, str]:
        most = max(seen[place].pixels for place in members)
        left, reasons = members, []
        for reason, worth in (
            ("most pixels", lambda place: seen[place].pixels >= most * (1 - _TIE)),
            ("no mark on it", lambda place: not seen[place].marked),
            ("nothing around it", lambda place: not seen[place].framed),
            ("least compressed", self._kept_of_it),
            ("oldest", lambda place: -int(self._stock.mtime_ns[place])),
        ):
            top = max(map(worth, left))
            better = [place for place in left if worth(place) == top]
            if len(better) < len(left):
                reasons.append(reason)
            left = better
        if len(left) > 1:
            reasons.append("first by name")
        return min(left, key=self._stock.path), ", ".join(reasons)

    def _kept_of_it(self, place: int) -> float:
        """How little was lost by compression: none, then by the quality of JPEG, else bytes a pixel."""
        detail = self._details[place]
        if detail.lossless:
            return 1000.0
        if detail.quality is not None:
            return float(detail.quality)
        return min(99.0, 50 * int(self._stock.n_bytes[place]) / max(1, detail.pixels))

    def _look_beside(self, one: int, members: list[int], seen: dict[int, _Seen]) -> None:
        """Note what is seen when images are compared with one of them."""
        for place in members:
            relation, proof = (None, None) if place == one else self._relation(one, place)
            if relation != "changed" or proof is None:
                continue
            if proof.marked >= 0:
                marked = (one, place)[proof.marked]
                seen[marked] = seen[marked]._replace(marked=True)
            if proof.extent == "framed":
                shares = [_area(frame) for frame in proof.placement.frames()]
                framed = one if shares[0] < shares[1] else place
                pixels = min(seen[framed].pixels, self._details[framed].pixels * min(shares))
                seen[framed] = seen[framed]._replace(pixels=pixels, framed=True)

    def _copy(self, place: int, relation: Relation, best: int | None = None, proof: Proof | None = None) -> Copy:
        detail, stock = self._details[place], self._stock
        return Copy(
            stock.path(place),
            None if stock.ids is None or stock.ids[place] < 0 else int(stock.ids[place]),
            detail.width,
            detail.height,
            int(stock.n_bytes[place]),
            int(stock.mtime_ns[place]),
            stock.digests[place],
            detail.format,
            detail.sharpness,
            relation,
            () if best is None else differences(self._details[best], detail, proof),
            1.0 if proof is None else proof.certainty,
            away=not detail.there,
            reference=stock.is_reference(place),
        )


def _area(frame: tuple[float, float, float, float]) -> float:
    return (frame[2] - frame[0]) * (frame[3] - frame[1])

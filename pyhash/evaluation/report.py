"""What an evaluation found: figures, the protocol they were found under, and how both are told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

GRADED = "graded"
"""The relevance of scores that count label levels instead of judging by one."""

RESCORED = "rescored"
"""The ranking in which the best by code are ordered by embeddings."""


@dataclass(frozen=True)
class Protocol:
    """What was evaluated, in words, for the table: an unstated protocol makes a figure worthless.

    Attributes
    ----------
    queries, database, training : str
        Which images each was, for example ``"CIFAR-10 test"``.
    database_in_training : bool or None
        Whether the head or encoder was fitted on the database's images; None is "not stated".
    """

    queries: str = "not stated"
    database: str = "not stated"
    training: str = "not stated"
    database_in_training: bool | None = None


@dataclass(frozen=True)
class Score:
    """The metrics of one ranking, judged by one label level, or by all of them (`GRADED`).

    Attributes
    ----------
    ranking : str
        What the database was ranked by: ``"code"`` (the whole code), a level's name, a name given in `rankings`, or
        `RESCORED`.
    relevance : str
        The label level that says which items are relevant.
    values : dict of str to float
        Metric to its mean over the queries.
    ranks, precision, recall : list
        The precision-recall curve: mean P@k and R@k at ranks k from 1 to the whole database (empty when graded).
    """

    ranking: str
    relevance: str
    values: dict[str, float]
    ranks: list[int]
    precision: list[float]
    recall: list[float]


@dataclass(frozen=True)
class Report:
    """What `evaluate` found, with the protocol it was found under.

    Attributes
    ----------
    protocol : Protocol
    n_queries, n_database, bits : int
    levels : dict of str to int
        Bits of each level of the code.
    excluded_self : bool
        Whether each query's own entry was left out of its ranking.
    truncation : str
        The denominator of ``mAP@k``, see the module's documentation.
    without_relevant : dict of str to int
        For each label level, how many queries have no relevant item; they count 0.
    scores : tuple of Score
    rescored : int or None
        How many of the best by code are ordered by embeddings in the ranking `RESCORED`; None where there is none.
    """

    protocol: Protocol
    n_queries: int
    n_database: int
    bits: int
    levels: dict[str, int]
    excluded_self: bool
    truncation: str
    without_relevant: dict[str, int]
    scores: tuple[Score, ...]
    rescored: int | None = None

    def value(self, metric: str, ranking: str | None = None, relevance: str | None = None) -> float:
        """One figure: of the first score that has `metric` and matches the ranking and relevance that are given.

        Raises
        ------
        KeyError
            When there is none.
        """
        for score in self.scores:
            if ranking in (None, score.ranking) and relevance in (None, score.relevance) and metric in score.values:
                return score.values[metric]
        raise KeyError(f"no {metric!r} for ranking {ranking!r} and relevance {relevance!r}")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values that `json` can write."""
        return asdict(self)

    def statement(self) -> str:
        """The protocol in one sentence."""
        seen = {
            None: "whether the database was trained on is not stated",
            True: "database = training images",
            False: "database held out from training",
        }[self.protocol.database_in_training]
        levels = " | ".join(f"{name} {bits}" for name, bits in self.levels.items())
        text = (
            f"{self.n_queries:,} queries ({self.protocol.queries}) against {self.n_database:,} codes "
            f"({self.protocol.database}) of {self.bits} bits ({levels}); training: {self.protocol.training}; {seen}; "
            f"{'each query left out of its own ranking; ' if self.excluded_self else ''}"
            f"ties: expectation over all orders; mAP@k over the relevant items {self.truncation}"
        )
        if self.rescored is not None:
            text += f"; rescored: the best {self.rescored:,} by code ordered by embeddings, then the others by code"
        for name, count in self.without_relevant.items():
            if count:
                text += f"; queries that have nothing relevant at {name!r} and count 0: {count:,}"
        return text + "."

    def tables(self) -> list[list[list[str]]]:
        """The figures as text: rows of cells, the first a header; one row a metric, one column a ranking.

        The first table judges by the labels of one level, which its columns name; the second, where there are several
        levels, by how many agree.
        """
        binary = [score for score in self.scores if score.relevance != GRADED]
        graded = [score for score in self.scores if score.relevance == GRADED]
        tables = [_table(binary, [f"{score.ranking} → {score.relevance}" for score in binary])]
        if graded:
            tables.append(_table(graded, [score.ranking for score in graded]))
        return tables

    def markdown(self) -> str:
        """The protocol and the tables in Markdown."""
        parts = [self.statement()]
        for header, *rows in self.tables():
            lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
            parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
        return "\n\n".join(parts) + "\n"


def _figure(score: Score, metric: str) -> str:
    return f"{score.values[metric]:.4f}" if metric in score.values else "-"


def _table(scores: list[Score], titles: list[str]) -> list[list[str]]:
    figures = [
        [metric.replace("<=", "≤"), *(_figure(score, metric) for score in scores)] for metric in scores[0].values
    ]
    return [["", *titles], *figures]

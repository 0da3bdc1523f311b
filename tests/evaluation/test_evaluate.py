"""Metrics against hand-computed cases, scikit-learn, and brute force over every order of tied items."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tuning import tune

from pyhash import hamming, rescore
from pyhash.evaluation import GRADED, Protocol, Report, evaluate, mean_average_precision, plot_pr, ties

Example = tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]

QUERY = np.zeros((1, 8), np.uint8)


def codes_at(distances: object) -> NDArray[np.uint8]:
    """64-bit codes at these distances from zero."""
    return np.packbits(np.arange(64) < np.asarray(distances)[:, None], axis=1)


def one(distances: object, relevant: object, **options: Any) -> Report:
    """The report of one query."""
    labels = np.where(np.asarray(relevant), 1, 0)
    return evaluate(QUERY, codes_at(distances), [1], labels, **options)


def orders(distances: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Every ranking that sorts by distance."""
    groups = [np.flatnonzero(distances == distance) for distance in np.unique(distances)]
    for parts in itertools.product(*[itertools.permutations(group.tolist()) for group in groups]):
        yield np.array([item for part in parts for item in part])


def by_hand(order: NDArray[np.int64], matches: NDArray[np.bool_], k: int) -> dict[str, float]:
    """The metrics of one ranking, straight from their definitions; matches: (levels, items), the last level counts."""
    relevant = matches[-1][order]
    precision = np.cumsum(relevant) / np.arange(1, len(order) + 1)
    total, head = int(relevant.sum()), int(relevant[:k].sum())
    cut = float((precision * relevant)[:k].sum())
    gains = matches.sum(axis=0)
    best = np.sort(gains)[::-1]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = float(best[:k] @ discounts)
    sums, best_sums = np.cumsum(gains[order])[:k], np.cumsum(best)[:k]
    heights = [s / b if b else 0.0 for s, b in zip(sums, best_sums, strict=True)]
    return {
        "mAP": float((precision * relevant).sum()) / total if total else 0.0,
        "retrieved": cut / head if head else 0.0,
        "possible": cut / min(total, k) if total else 0.0,
        "P": head / k,
        "R": head / total if total else 0.0,
        "nDCG": float(gains[order][:k] @ discounts) / ideal if ideal else 0.0,
        "mAHP": float(np.mean(heights)),
    }


def test_hand_computed_without_ties() -> None:
    report = one([0, 3, 5, 9], [True, False, True, True], ks=[1, 3])
    assert report.value("mAP") == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert report.value("mAP@3") == pytest.approx((1 + 2 / 3) / 2)
    assert report.value("P@1") == 1
    assert report.value("P@3") == pytest.approx(2 / 3)
    assert report.value("R@1") == pytest.approx(1 / 3)
    assert report.value("P@r<=2") == 1
    assert report.value("empty@r<=2") == 0
    possible = one([0, 3, 5, 9], [True, False, True, True], ks=[3], truncation="possible")
    assert possible.value("mAP@3") == pytest.approx((1 + 2 / 3) / 3)


def test_hand_computed_with_ties() -> None:
    report = one([0, 1, 1, 3], [True, True, False, True], ks=[2])
    better, worse = (1 + 1 + 3 / 4) / 3, (1 + 2 / 3 + 3 / 4) / 3
    assert report.value("mAP") == pytest.approx((better + worse) / 2)
    assert report.value("P@2") == pytest.approx((1 + 0.5) / 2)
    assert report.value("R@2") == pytest.approx(1.5 / 3)
    assert report.value("mAP@2") == pytest.approx(1)  # in both orders every relevant item taken follows relevant ones
    assert report.value("P@r<=2") == pytest.approx(2 / 3)


def test_hand_computed_graded() -> None:
    # agreement with the query on 2, 0, 1 levels, at distances 1, 2, 3
    labels = {"coarse": [1, 0, 1], "fine": [1, 0, 2]}
    report = evaluate(QUERY, codes_at([1, 2, 3]), {"coarse": [1], "fine": [1]}, labels, ks=[3])
    assert report.value("nDCG@3") == pytest.approx((2 + 1 / 2) / (2 + 1 / math.log2(3)))
    assert report.value("mAHP@3") == pytest.approx((2 / 2 + 2 / 3 + 3 / 3) / 3)
    assert report.value("mAP", relevance="coarse") == pytest.approx((1 + 2 / 3) / 2)
    assert report.value("mAP", relevance="fine") == 1


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_metric_is_the_mean_over_the_orders_of_ties(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 6))
    distances = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    coarse = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    fine = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))  # not always a tree
    k = data.draw(st.integers(1, n))
    matches = np.stack([coarse == 1, fine == 1])
    each = [by_hand(order, matches, k) for order in orders(distances)]
    expected = {name: np.mean([metrics[name] for metrics in each]) for name in each[0]}
    for truncation in ("retrieved", "possible"):
        report = evaluate(
            QUERY,
            codes_at(distances),
            {"coarse": [1], "fine": [1]},
            {"coarse": coarse, "fine": fine},
            ks=[k],
            truncation=truncation,
        )
        found = {name: report.value(f"{name}@{k}", relevance="fine") for name in ("P", "R")}
        found |= {name: report.value(f"{name}@{k}") for name in ("nDCG", "mAHP")}
        found |= {"mAP": report.value("mAP", relevance="fine"), truncation: report.value(f"mAP@{k}", relevance="fine")}
        assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 64))
def test_average_precision_of_scikit_learn_where_there_are_no_ties(seed: int, n: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    distances = rng.permutation(65)[:n]
    relevant = rng.random(n) < 0.4
    relevant[0] = True
    expected = metrics.average_precision_score(relevant, -distances)
    assert one(distances, relevant).value("mAP") == pytest.approx(expected, abs=1e-12)


def test_a_cut_through_many_ties_is_exact() -> None:
    n, r, m, before, found = 3000, 900, 700, 50, 20
    everything, hits = np.array([[before, n]]), np.array([[found, r]])
    tables = ties.Tables(before + n)
    seen, hit = everything.cumsum(axis=1), hits.cumsum(axis=1)
    whole = ties._precision_sums(everything, hits, seen, hit, everything, tables)
    got = ties._over_retrieved(everything, hits, seen, hit, whole, before + m, tables)
    harmonic = math.fsum(1 / i for i in range(before + 1, before + m + 1))
    exact = 0.0
    for j in range(m + 1):
        chance = math.comb(r, j) * math.comb(n - r, m - j) / math.comb(n, m)
        places = j / m * ((found + 1) * harmonic + (j - 1) / (m - 1) * (m - (before + 1) * harmonic))
        exact += chance * (whole[0, 0] + places) / (found + j)
    assert got[0] == pytest.approx(exact, rel=1e-9)


@pytest.fixture
def example() -> Example:
    rng = np.random.default_rng(5)
    query_fine, fine = rng.integers(0, 6, 23), rng.integers(0, 6, 140)
    return (
        rng.integers(0, 256, (23, 3), dtype=np.uint8),
        rng.integers(0, 256, (140, 3), dtype=np.uint8),
        {"coarse": query_fine // 2, "fine": query_fine},
        {"coarse": fine // 2, "fine": fine},
    )


LEVELS = {"coarse": 8, "fine": 16}


def test_the_order_of_the_database_moves_nothing(example: Example) -> None:
    queries, database, query_labels, labels = example
    order = np.random.default_rng(1).permutation(len(database))
    moved = {level: values[order] for level, values in labels.items()}
    assert evaluate(queries, database, query_labels, labels, levels=LEVELS) == evaluate(
        queries, database[order], query_labels, moved, levels=LEVELS
    )


def test_chunks_do_not_show(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, database, query_labels, labels = example
    whole = evaluate(queries, database, query_labels, labels, levels=LEVELS)
    tune(monkeypatch, evaluation_queries=7, evaluation_cells=300)
    parts = evaluate(queries, database, query_labels, labels, levels=LEVELS)
    for one_score, other in zip(whole.scores, parts.scores, strict=True):
        assert one_score.values == pytest.approx(other.values, abs=1e-12)
        assert one_score.precision == pytest.approx(other.precision, abs=1e-12)


def test_rankings_are_weighted_sums_of_level_distances(example: Example) -> None:
    queries, database, query_labels, labels = example
    report = evaluate(
        queries, database, query_labels, labels, levels=LEVELS, rankings={"mix": {"coarse": 3, "fine": 1}}, ks=[5]
    )
    unpacked = np.unpackbits(queries[:, None] ^ database[None], axis=2).astype(int)
    distances = 3 * unpacked[:, :, :8].sum(axis=2) + unpacked[:, :, 8:].sum(axis=2)
    values = [one_of(distances[i], labels["fine"] == query_labels["fine"][i], radius=0) for i in range(len(queries))]
    assert {score.ranking for score in report.scores} == {"mix"}
    assert report.value("mAP", "mix", "fine") == pytest.approx(np.mean(values), abs=1e-12)
    default = evaluate(queries, database, query_labels, labels, levels=LEVELS)
    assert [(score.ranking, score.relevance) for score in default.scores] == [
        (ranking, relevance) for ranking in ("code", "coarse", "fine") for relevance in ("coarse", "fine", GRADED)
    ]
    alone = evaluate(queries[:, 1:], database[:, 1:], query_labels["fine"], labels["fine"])
    assert alone.value("mAP") == default.value("mAP", "fine", "fine")


def one_of(distances: NDArray[np.int64], relevant: NDArray[np.bool_], radius: int) -> float:
    return one(np.minimum(distances, 64), relevant, radius=radius).value("mAP")


def test_excluding_self_is_removing_the_row(example: Example) -> None:
    _, database, _, labels = example
    rows = np.arange(20)
    own = {level: values[rows] for level, values in labels.items()}
    report = evaluate(database[rows], database, own, labels, levels=LEVELS, ks=[1, 10], exclude_self=True)
    for score in report.scores:
        singles = []
        for row in rows:
            rest = np.arange(len(database)) != row
            single = evaluate(
                database[row : row + 1],
                database[rest],
                {level: values[row : row + 1] for level, values in labels.items()},
                {level: values[rest] for level, values in labels.items()},
                levels=LEVELS,
                ks=[1, 10],
            )
            singles.append(
                next(s for s in single.scores if (s.ranking, s.relevance) == (score.ranking, score.relevance))
            )
        for metric, value in score.values.items():
            assert value == pytest.approx(np.mean([s.values[metric] for s in singles]), abs=1e-12), metric
    by_rows = evaluate(database[rows], database, own, labels, levels=LEVELS, ks=[1, 10], exclude_self=rows)
    assert by_rows == report
    nobody = evaluate(database[rows], database, own, labels, ks=[1], exclude_self=np.full(20, -1))
    assert nobody.scores == evaluate(database[rows], database, own, labels, ks=[1]).scores


def test_strings_and_integers_are_labels(example: Example) -> None:
    queries, database, query_labels, labels = example
    words = np.array(["hat", "dress", "shoes", "shirt", "skirt", "pants"])
    number = evaluate(queries, database, query_labels["fine"], labels["fine"])
    for kind in (str, object):
        named = evaluate(
            queries, database, words[query_labels["fine"]].astype(kind), words[labels["fine"]].astype(kind)
        )
        assert named == number


def test_empty_balls_and_queries_without_relevant_items_count_zero() -> None:
    queries = np.concatenate([QUERY, codes_at([64]), QUERY])
    report = evaluate(queries, codes_at([0, 5, 6]), [1, 1, 7], [1, 0, 1], ks=[1])
    assert report.value("empty@r<=2") == pytest.approx(1 / 3)
    assert report.value("P@r<=2") == pytest.approx(1 / 3)
    assert report.without_relevant == {"label": 1}
    assert report.value("mAP") == pytest.approx(((1 + 2 / 3) / 2 + (1 + 2 / 3) / 2 + 0) / 3)
    assert "queries that have nothing relevant at 'label' and count 0: 1" in report.statement()


def test_the_precision_recall_curve_is_precision_and_recall_at_ranks() -> None:
    report = one([0, 1, 1, 3], [True, True, False, True])
    score = report.scores[0]
    assert score.ranks == [1, 2, 3, 4]
    assert score.precision == pytest.approx([1, 0.75, 2 / 3, 3 / 4])
    assert score.recall == pytest.approx([1 / 3, 0.5, 2 / 3, 1])


def test_report_states_its_protocol_and_can_be_written(example: Example) -> None:
    protocol = Protocol("nice test", "nice train", "nice train", database_in_training=True)
    report = evaluate(*example, levels=LEVELS, ks=[1, 10], protocol=protocol)
    assert json.loads(json.dumps(report.to_dict()))["scores"][0]["values"]["mAP"] == report.value("mAP")
    text = report.markdown()
    for part in ("23 queries (nice test)", "140 codes (nice train)", "24 bits", "database = training images", "ties"):
        assert part in text
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert f"{report.value('mAP', 'fine', 'coarse'):.4f}" in tables[0]
    with pytest.raises(KeyError, match="no 'mAP' for ranking 'other'"):
        report.value("mAP", ranking="other")


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_curves_are_drawn(tmp_path: Path, example: Example, ending: str) -> None:
    pytest.importorskip("matplotlib")
    report = evaluate(*example, levels=LEVELS)
    path = tmp_path / f"curve{ending}"
    plot_pr({"ours": report, "theirs": report}, path, title="Curves")
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG" if ending == ".png" else b"<?xml")
    plot_pr({"ours": report, "theirs": report}, path, title="Curves")
    assert path.read_bytes() == first
    with pytest.raises(ValueError, match=r"path must end in \.png or \.svg"):
        plot_pr(report, tmp_path / "curve.jpg")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"truncation": "other"}, ValueError, "truncation must be 'retrieved' or 'possible', got 'other'"),
        ({"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        ({"ks": [0]}, ValueError, "ks must be integers from 1 to the 140 codes that are ranked, got 0"),
        ({"ks": [141]}, ValueError, "ks must be integers from 1 to the 140 codes that are ranked, got 141"),
        ({"levels": 32}, ValueError, "queries must have 4 bytes a code for 32 bits, got 3"),
        ({"queries": np.zeros((2, 3))}, TypeError, "queries must be a uint8 array, got float64"),
        ({"database": np.zeros((0, 3), np.uint8)}, ValueError, r"database must have shape .*, got \(0, 3\)"),
        ({"query_labels": [1, 2]}, ValueError, r"query_labels of level 'label' must have shape \(23,\)"),
        (
            {"query_labels": np.zeros(23)},
            TypeError,
            "query_labels of level 'label' must be integers or strings, got float",
        ),
        ({"query_labels": {}}, ValueError, "query_labels must have at least one level, got none"),
        ({"query_labels": np.zeros(23, int)}, ValueError, r"database_labels must have the levels of query_labels"),
        ({"rankings": {}}, ValueError, "rankings must name at least one ranking, got none"),
        ({"rankings": {"x": {"tiny": 1}}}, ValueError, r"rankings\['x'\] must weight levels among .*, got 'tiny'"),
        ({"rankings": {"x": {"fine": -1}}}, ValueError, r"rankings\['x'\]\['fine'\] must be a non-negative integer"),
        ({"rankings": {"x": {"fine": 0}}}, ValueError, r"rankings\['x'\] must give some level a weight above 0"),
        ({"exclude_self": True}, ValueError, "exclude_self must give each query's own row, got row 0 for query 0"),
        ({"exclude_self": [0, 1]}, ValueError, r"exclude_self must be a bool or an integer array of shape \(23,\)"),
        ({"exclude_self": np.full(23, 140)}, ValueError, "exclude_self must hold rows from -1 to 139, got 140 to 140"),
    ],
)
def test_errors(example: Example, change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = dict(zip(("queries", "database", "query_labels", "database_labels"), example, strict=True))
    with pytest.raises(error, match=message):
        evaluate(**arguments | {"levels": LEVELS} | change)


def test_mixed_label_types_are_refused(example: Example) -> None:
    queries, database, query_labels, labels = example
    with pytest.raises(TypeError, match="must be all integers or all strings"):
        evaluate(queries, database, query_labels["fine"].astype(str), labels["fine"])


def test_mean_average_precision_by_hand() -> None:
    """Items at distances 0, 1 and 1, of which the first and the third are right: (1 + (2/2 + 2/3) / 2) / 2."""
    found = mean_average_precision(np.array([[0, 1, 1]]), np.array([[True, False, True]]))
    assert found == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)
    assert mean_average_precision(np.array([[3, 3]]), np.zeros((1, 2), bool)) == 0


# By embeddings


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rescored_rankings_are_what_rescoring_gives(data: st.DataObject) -> None:
    """The best by (distance, row) in the order of `rescore`, the others by code, as one ranking after another."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    n, q = data.draw(st.integers(2, 30), "database"), data.draw(st.integers(1, 4), "queries")
    best = data.draw(st.sampled_from([1, 3, 10, 100, None]), "rescore")
    excluded = data.draw(st.booleans(), "exclude")
    codes, labels = rng.integers(0, 4, (n, 1), dtype=np.uint8), rng.integers(0, 3, n)
    rows = {"own": rng.standard_normal((n, 3)), "kind": rng.standard_normal((n, 2))}
    own = np.where(rng.random(q) < 0.7, rng.integers(0, n, q), -1) if excluded else np.full(q, -1)
    asked = np.where(own < 0, rng.integers(0, n, q), own)  # queries are rows of the database, left out or not
    queries = {name: part[asked] for name, part in rows.items()}
    report = evaluate(
        codes[asked],
        codes,
        labels[asked],
        labels,
        ks=[1],
        exclude_self=own if excluded else False,
        embeddings=(queries, rows),
        rescore=best,
    )
    distances = hamming(codes[asked], codes)
    expected = []
    for j in range(q):
        there = [i for i in range(n) if i != own[j]]
        by_code = sorted(there, key=lambda i: (distances[j, i], i))
        one_query = {name: part[j] for name, part in queries.items()}
        ranked = rescore(one_query, rows, by_code[: n if best is None else best]).ids.tolist()
        keys = np.full(n, 1000)
        keys[there] = len(ranked) + distances[j, there]
        keys[ranked] = np.arange(len(ranked))
        relevant = labels == labels[asked[j]]
        expected.append(mean_average_precision(keys[there][None], relevant[there][None]))
    assert report.value("mAP", "rescored") == pytest.approx(np.mean(expected))
    assert report.rescored == (n if best is None else min(best, n))
    assert "P@r<=2" not in next(score for score in report.scores if score.ranking == "rescored").values


def test_a_report_says_what_was_rescored() -> None:
    labels, rows = [0, 0, 1, 1], [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
    codes = np.zeros((4, 1), np.uint8)
    report = evaluate(codes, codes, labels, labels, ks=[1], exclude_self=True, embeddings=(rows, rows), rescore=3)
    assert report.value("mAP", "rescored") == 1 > report.value("mAP", "code")
    assert "rescored: the best 3 by code ordered by embeddings, then the others by code" in report.statement()
    radius = next(line for line in report.tables()[0] if line[0] == "P@r≤2")
    assert radius[-1] == "-"
    assert json.loads(json.dumps(report.to_dict()))["rescored"] == 3


def test_embeddings_that_do_not_fit_are_refused() -> None:
    codes, labels = np.zeros((3, 1), np.uint8), [0, 1, 1]
    with pytest.raises(ValueError, match="embeddings of the database must be one row a code, 3, got 2"):
        evaluate(codes, codes, labels, labels, embeddings=(np.ones((3, 2)), np.ones((2, 2))))
    with pytest.raises(ValueError, match="rankings must not name one 'rescored'"):
        evaluate(codes, codes, labels, labels, rankings={"rescored": {"code": 1}}, embeddings=(codes, codes))
    with pytest.raises(ValueError, match="rescore must be at least 1, got 0"):
        evaluate(codes, codes, labels, labels, embeddings=(np.ones((3, 2)), np.ones((3, 2))), rescore=0)

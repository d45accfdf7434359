"""The features that find what a user never bought: each column recounted plainly from the source's files, at one instant."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pytest

from ranking.features import (
    AFFINITY_HALF_LIFE,
    MAX_GROUPS,
    PROMO_RATE_PRIOR,
    RELATION_HALF_LIFE,
    RELATION_PRIORS,
    RELATIONS,
    SHARE_HALF_LIFE,
    TASTE_WIDTH,
    stable_key,
)
from tests.training.tables.slices import FIRST_WEEK, LAST_WEEK, Slice
from training.discovery import Factors
from training.discovery.factorisation import als
from training.discovery.types import Purchases
from training.tables import taste

AT, WEEK = datetime(2017, 12, 4, 5, tzinfo=UTC), 50  # the start of week 50
STAMP = f"event_timestamp = TIMESTAMPTZ '{AT.isoformat()}'"


def _rows(small: Slice, name: str, where: str = STAMP) -> list[dict]:
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        return db.execute(f"SELECT * FROM '{small.layout.features}/{name}.parquet' WHERE {where}").to_arrow_table().to_pylist()


@pytest.fixture(scope="module")
def groups(small: Slice) -> dict[str, tuple[str, str]]:
    """Item -> its type, and type and maker; empty where the catalogue has no type."""
    found = duckdb.sql(
        f"SELECT product_id::VARCHAR, coalesce(product_type, ''), manufacturer_id::VARCHAR FROM '{small.raw}/products.parquet'"
    ).fetchall()
    known = {item: (kind, f"{kind} | {maker}" if kind else "") for item, kind, maker in found}
    return defaultdict(lambda: ("", ""), known)


@pytest.fixture(scope="module")
def lines(small: Slice) -> list[tuple]:
    """(week, store, user, item, time) of each purchase before `AT`."""
    return duckdb.sql(f"""
        SELECT week, store_id, household_id::VARCHAR, product_id::VARCHAR, transaction_timestamp
        FROM '{small.raw}/transactions.parquet' WHERE week < {WEEK} ORDER BY 5, 3, 4""").fetchall()


def _fading(week: int, half_life: float) -> float:
    """1 in the week before the snapshot, then half every `half_life` weeks."""
    return 0.5 ** ((WEEK - 1 - week) / half_life)


def test_item_rates_are_those_of_each_relation(small: Slice, lines: list[tuple], groups: dict[str, tuple[str, str]]) -> None:
    """Every pair of visitor and promoted item is of one relation; rates are drawn to the relation's mean times the item's appeal."""
    since: dict[tuple, int] = {}  # (user, what) -> the week in which it was first bought
    visitors, buyers = defaultdict(set), set()
    for week, store, user, item, _ in lines:
        visitors[week, store].add(user)
        buyers.add((week, store, user, item))
        for what in {("item", item), ("type", groups[item][0]), ("maker", groups[item][1])}:
            since.setdefault((user, *what), week)
    since = {k: v for k, v in since.items() if k[2]}
    shown, bought = Counter(), Counter()
    promotions = duckdb.sql(f"""
        SELECT week, store_id, item_id
        FROM '{small.canonical}/promotions.parquet' JOIN '{small.canonical}/items.parquet' USING (item_code)
        WHERE week < {WEEK}""").fetchall()
    for week, store, item in promotions:
        for user in visitors.get((week, store), ()):
            known = (("own", "item", item), ("maker", "maker", groups[item][1]), ("type", "type", groups[item][0]))
            relation = next((r for r, *what in known if since.get((user, *what), WEEK) < week), "other")
            shown[relation, item] += _fading(week, RELATION_HALF_LIFE)
            bought[relation, item] += _fading(week, RELATION_HALF_LIFE) * ((week, store, user, item) in buyers)
    mean = {}
    for r in RELATIONS:
        mean[r] = sum(v for (q, _), v in bought.items() if q == r) / sum(v for (q, _), v in shown.items() if q == r)
    others = [r for r in RELATIONS if r != "own"]
    firsts = sum(v for (r, _), v in bought.items() if r in others) / sum(v for (r, _), v in shown.items() if r in others)
    found = _rows(small, "item_statistics")
    assert sum((("own", row["item_id"]) in shown) for row in found) > 50
    for row in found:
        i = row["item_id"]
        appeal = (sum(bought[r, i] for r in others) + 1) / (sum(shown[r, i] * mean[r] for r in others) + 1)
        for r, prior in zip(RELATIONS, RELATION_PRIORS, strict=True):
            expected = (bought[r, i] + prior * mean[r] * appeal) / (shown[r, i] + prior)
            assert row[f"promo_rate_{r}"] == pytest.approx(expected, rel=1e-4, abs=1e-9), (i, r)
        assert row["promo_appeal"] == pytest.approx(appeal, rel=1e-4), i
        chances = sum(shown[r, i] for r in others)
        first = (sum(bought[r, i] for r in others) + PROMO_RATE_PRIOR * firsts) / (chances + PROMO_RATE_PRIOR)
        assert row["first_purchase_rate"] == pytest.approx(first, rel=1e-4)


def test_item_shares_are_parts_of_what_the_group_sold(small: Slice, lines: list[tuple], groups: dict[str, tuple[str, str]]) -> None:
    """An item's faded lines over those of all items of its type, and of its type by its maker; without a type both are 0."""
    sold, of_group = Counter(), Counter()
    for week, *_, item, _ in lines:
        weight = _fading(week, SHARE_HALF_LIFE)
        sold[item] += weight
        for group in set(groups[item]):
            of_group[group] += weight
    rows = _rows(small, "item_statistics")
    assert any(row["type_share"] > 0 for row in rows)
    for row in rows:
        kind, maker = groups[row["item_id"]]
        assert row["type_share"] == pytest.approx(sold[row["item_id"]] / of_group[kind] if kind and of_group[kind] else 0.0, rel=1e-4)
        assert row["maker_share"] == pytest.approx(sold[row["item_id"]] / of_group[maker] if maker and of_group[maker] else 0.0, rel=1e-4)


def test_user_affinities_fade(small: Slice, lines: list[tuple], groups: dict[str, tuple[str, str]]) -> None:
    """Per user the lines in each type (and type by a maker), halved every 8 weeks, strongest first."""
    affinity = Counter()
    for week, _, user, item, _ in lines:
        for what, group in zip(("type", "maker"), groups[item], strict=True):
            if group:
                affinity[user, what, stable_key(group)] += _fading(week, AFFINITY_HALF_LIFE)
    for row in _rows(small, "user_behaviour"):
        for what in ("type", "maker"):
            expected = {key: v for (user, w, key), v in affinity.items() if user == row["user_id"] and w == what}
            keys, strengths = row[f"{what}_keys"], row[f"{what}_affinities"]
            assert len(keys) == len(set(keys)) == min(len(expected), MAX_GROUPS)
            assert strengths == sorted(strengths, reverse=True)
            assert strengths == pytest.approx([expected[k] for k in keys], rel=1e-4)


@pytest.mark.parametrize("week", [FIRST_WEEK, WEEK])
def test_taste_is_the_factorisation_of_what_was_bought_before(small: Slice, week: int) -> None:
    """User times item equals what the method gives for the purchases before the snapshot: from nothing at the first one, from the rows of
    the week before at others. Who has no row has the product 0.
    """
    at = AT + timedelta(weeks=week - WEEK)
    if at < datetime(2017, 11, 5, tzinfo=UTC):
        at -= timedelta(hours=1)  # weeks begin at local midnight, and summer time had not ended
    lines = duckdb.sql(f"""
        SELECT household_id::VARCHAR, product_id::VARCHAR, transaction_timestamp
        FROM '{small.raw}/transactions.parquet' WHERE week < {week} ORDER BY 3, 1, 2""").fetchall()
    users, items = (
        [name for (name,) in duckdb.sql(f"SELECT {what}_id FROM '{small.canonical}/{what}s.parquet' ORDER BY {what}_code").fetchall()]
        for what in ("user", "item")
    )
    buyers, bought = {x[0] for x in lines}, {x[1] for x in lines}
    users, items = [u for u in users if u in buyers], [i for i in items if i in bought]  # numbered without those yet unknown
    codes = {name: i for names in (users, items) for i, name in enumerate(names)}
    assert len(codes) == len(users) + len(items)

    def dense(instant: datetime) -> Factors:
        vectors = []
        for what, names in (("user", users), ("item", items)):
            vectors.append(np.zeros((len(names), TASTE_WIDTH), np.float32))
            for row in _rows(small, f"{what}_taste", f"event_timestamp = TIMESTAMPTZ '{instant.isoformat()}'"):
                vectors[-1][codes[row[f"{what}_id"]]] = row["taste"]
        return Factors(*vectors)

    order = np.array([[codes[u], codes[i]] for u, i, _ in lines])
    ages = np.array([(at.replace(tzinfo=None) - when) / timedelta(weeks=1) for *_, when in lines])
    purchases = Purchases(order[:, 0], order[:, 1], ages, (len(users), len(items)))
    start = None if week == FIRST_WEEK else dense(at - timedelta(weeks=1))
    made = als(purchases, width=TASTE_WIDTH, seed=taste.SEED, start=start)
    expected, got = (f.users @ f.items.T for f in (made, dense(at)))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_every_vector_names_its_own_snapshot(small: Slice) -> None:
    """`taste_at` is the row's instant, so that vectors of two factorisations are never taken for one; all are of the declared width."""
    for name in ("user_taste", "item_taste"):
        rows = _rows(small, name, "true")
        assert {row["taste_at"] == round(row["event_timestamp"].timestamp()) for row in rows} == {True}
        assert {len(row["taste"]) for row in rows} == {TASTE_WIDTH}
        assert len({row["taste_at"] for row in rows}) == LAST_WEEK - FIRST_WEEK + 1

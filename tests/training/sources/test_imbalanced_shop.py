from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from ranking.metrics import roc_auc
from training.leaks import knows_label
from training.sources import imbalanced_shop
from training.sources.imbalanced_shop import CANDIDATES, CATEGORIES, HEADS


@pytest.fixture
def shop(canonical_of: Callable[[str], Path]) -> Path:
    return canonical_of("imbalanced_shop")


def _read(query: str) -> dict[str, np.ndarray]:
    return duckdb.sql(query).fetchnumpy()


def test_heads_have_a_thousand_and_tails_one_to_ten(shop: Path) -> None:
    """Categories 1 to 10 have 1,000 interactions each, every number from 1 to 10 belongs to nine of the others."""
    n = _read(f"""
        SELECT category_number, count(*) AS n
        FROM '{shop}/events.parquet' JOIN '{shop}/items.parquet' USING (item_id) GROUP BY 1 ORDER BY 1""")
    assert n["category_number"].tolist() == list(range(1, CATEGORIES + 1))
    assert n["n"][:HEADS].tolist() == [1000] * HEADS
    assert sorted(n["n"][HEADS:].tolist()) == sorted(list(range(1, 11)) * 9)


def test_every_interaction_is_the_one_click_of_its_list(shop: Path) -> None:
    """A list has 50 distinct candidates, one of which was clicked: the item of its event."""
    lists = _read(
        f"SELECT count(*) AS n, sum(label) AS clicks, count(DISTINCT item_id) AS items FROM '{shop}/impressions.parquet' GROUP BY list_id"
    )
    assert set(lists["n"]) == set(lists["items"]) == {CANDIDATES}
    assert set(lists["clicks"]) == {1}
    assert (
        duckdb.sql(f"""
        SELECT count(*) FROM '{shop}/impressions.parquet' i JOIN '{shop}/events.parquet' e USING (list_id)
        WHERE label = 1 AND (i.item_id, i.user_id, i.query, i.event_time) = (e.item_id, e.user_id, e.query, e.event_time)""").fetchone()
        == (10_495,)
    )


def test_the_truth_does_not_favour_the_head(shop: Path) -> None:
    """Asked vaguely, items of the department's tail are as relevant as those of its head: popularity is no part of the truth."""
    rows = _read(f"""
        SELECT avg(relevance) FILTER (category_number <= {HEADS}) AS head, avg(relevance) FILTER (category_number > {HEADS}) AS tail,
               avg(label) FILTER (category_number <= {HEADS}) AS head_clicks, avg(label) FILTER (category_number > {HEADS}) AS tail_clicks
        FROM '{shop}/impressions.parquet' JOIN '{shop}/items.parquet' USING (item_id)
        WHERE category_path LIKE regexp_extract(query, '[a-z]+$') || ' > %'""")
    assert rows["tail"][0] == pytest.approx(rows["head"][0], rel=0.15)
    assert rows["head_clicks"][0] > 20 * rows["tail_clicks"][0]


def test_features_help_and_tell_nothing_they_must_not(shop: Path) -> None:
    """The honest features rank better than chance, and none of them knows the label."""
    rows = _read(f"SELECT query_overlap, taste_share, position, label FROM '{shop}/impressions.parquet'")
    names = ("query_overlap", "taste_share", "position")
    assert roc_auc(rows["query_overlap"], rows["label"]) > 0.75
    assert roc_auc(rows["taste_share"], rows["label"]) > 0.55
    assert knows_label(np.column_stack([rows[n] for n in names]), rows["label"], names) == []


def test_a_seed_gives_one_shop(shop: Path) -> None:
    """The same seed again gives equal tables; another seed other interactions."""
    again = imbalanced_shop.tables()
    for name in ("events", "impressions", "reviews"):
        assert again[name].equals(duckdb.sql(f"FROM '{shop}/{name}.parquet'").to_arrow_table().cast(again[name].schema))
    assert imbalanced_shop.interactions(8).tolist() != imbalanced_shop.interactions().tolist()


def test_images_look_alike_within_a_category(shop: Path) -> None:
    """An item's image vector is nearer to its category's mean than to another category's, mostly."""
    rows = _read(f"SELECT category_number AS c, image FROM '{shop}/items.parquet'")
    x, c = np.stack(rows["image"]), rows["c"] - 1
    means = np.stack([x[c == k].mean(0) for k in range(CATEGORIES)])
    nearest = np.argmin(((x[:, None] - means[None]) ** 2).sum(2), axis=1)
    assert np.mean(nearest == c) > 20 / CATEGORIES

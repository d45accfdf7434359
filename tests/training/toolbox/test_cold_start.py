"""Cold start: strangers' rows are what the gateway would make of them, and groups are told apart by what they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ranking.assemble import UNKNOWN_USER, as_unknown_user, assemble, item_features, user_features
from ranking.features import ITEM_SCALARS, MODEL_COLUMNS, USER_SCALARS
from ranking.types import TIERS
from training.toolbox import cold
from training.toolbox.ads_data import Part

PLACE = {name: j for j, name in enumerate(MODEL_COLUMNS)}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _rows(rng: np.random.Generator, n: int, orders: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, columns) of one user and of a stranger, by the function that serves both."""
    keys = np.arange(1, n + 1)
    known = {name: float(rng.random() * 9) for name in USER_SCALARS} | {"orders_all": orders}
    lists = {"history_item_keys": keys[:3], "history_counts": [1.0, 2.0, 3.0], "history_days": [5.0, 6.0, 7.0]}
    types = {"type_keys": [1], "type_affinities": [4.0], "maker_keys": [2], "maker_affinities": [1.5]}
    user = user_features(known | lists | types | {"taste": rng.random(48), "taste_at": 9})
    columns = {name: rng.random(n) for name in ITEM_SCALARS}
    columns |= {"type_key": 1 + keys % 2, "maker_key": 1 + keys % 3, "taste": list(rng.random((n, 48))), "taste_at": np.full(n, 9)}
    items = item_features(keys, columns | {"popularity_tier": [TIERS[i % 3] for i in range(n)]})
    items = replace(items, token_ids=np.tile(np.arange(items.token_ids.shape[1], dtype=np.int32), (n, 1)))
    asked = {"query_tokens": np.array([2, 999]), "columns": {"on_display": (keys % 2).astype(np.float32)}}
    return tuple(assemble(who, items, **asked) for who in (user, UNKNOWN_USER))


def test_strangers_rows_are_those_of_an_unknown_user(rng: np.random.Generator) -> None:
    """From the rows of any user, bit for bit what the same items and query give for nobody."""
    mine, nobodys = _rows(rng, 7, 12.0)
    assert not np.array_equal(mine, nobodys)
    np.testing.assert_array_equal(as_unknown_user(mine), nobodys)


def _part(rng: np.random.Generator) -> Part:
    """Two lists each of a newcomer, a user of some orders and a regular; the item with the most purchases is bought."""
    x, labels = [], []
    for orders in (1.0, 10.0, 11.0, 30.0, 31.0, 99.0):
        rows = _rows(rng, 9, orders)[0]
        rows[:, PLACE["age_days"]] = [0, 28, 29, 300, 300, 300, 300, 300, 300]
        x.append(rows)
        labels.append(np.eye(9, dtype=np.int8)[int(rows[:, PLACE["purchases_all"]].argmax())])
    tiers = np.tile(np.arange(9, dtype=np.int8) % 3, 6)
    offsets = np.arange(7, dtype=np.int64) * 9
    of_lists = {"second": np.zeros(6, bool), "weeks": np.full(6, 50, np.int32), "households": np.arange(6)}
    return Part(np.concatenate(x), np.concatenate(labels), tiers, np.zeros(54, bool), offsets, **of_lists)


def test_groups_cover_lists_and_rows_once(rng: np.random.Generator) -> None:
    """Ten orders are few and thirty some; an item never sold may be young too, and then counts as both and not as other."""
    part = _part(rng)
    users = cold.user_groups(part)
    assert [g.tolist() for g in users.values()] == [[i // 2 == k for i in range(6)] for k in range(3)]
    never, young, other = cold.item_groups(part).values()
    assert never[:9].tolist() == [False, False, True] * 3
    assert young[:9].tolist() == [True, True] + [False] * 7
    assert (other == ~(never | young)).all()


def test_every_ranker_is_measured_for_known_users_and_strangers(rng: np.random.Generator) -> None:
    """Popularity does not know users, so strangers fare alike; trees do, and their figures of both are told."""
    part = _part(rng)
    outcomes, figures = cold.run({"train": part, "test": part}, threads=1)
    found = {o.method: o.figures for o in outcomes}
    assert set(found) == {f"{name}{who}" for name in cold.RANKERS for who in ("", f", {cold.STRANGER}")}
    assert found["popularity"] == found[f"popularity, {cold.STRANGER}"]
    assert found["popularity"]["all"]["lists"] == [6.0, None, None]
    assert sum(found["popularity"][name]["lists"][0] for name in cold.user_groups(part)) == 6.0
    items = cold.item_groups(part)
    assert all(found["popularity"][name]["positives"][0] == part.labels[rows].sum() for name, rows in items.items())
    assert figures == {
        f"cold_ndcg10_{kind}{end}": found[f"{name}{who}"]["all"]["ndcg10"][0]
        for name, end in ((cold.WHOLE, ""), (cold.PREPARED, "_prepared"))
        for who, kind in (("", "known"), (f", {cold.STRANGER}", "strangers"))
    }


def test_a_share_of_the_training_lists_becomes_strangers(rng: np.random.Generator) -> None:
    """Whole lists and no others: each list's rows are all as they were or all as a stranger's."""
    part = _part(rng)
    many = replace(part, x=np.tile(part.x, (20, 1)), labels=np.tile(part.labels, 20), offsets=np.arange(121) * 9)
    rows = cold.prepared(many)
    changed = (rows.features != many.x).any(axis=1).reshape(120, 9)
    assert set(changed.sum(axis=1).tolist()) == {0, 9}
    assert 1 <= changed.any(axis=1).sum() <= 30  # a tenth of 120, and four standard deviations
    np.testing.assert_array_equal(rows.features[changed.ravel()], as_unknown_user(many.x)[changed.ravel()])

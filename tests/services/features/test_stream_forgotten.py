"""A forgotten user has no row any more, whoever still knows of them: the state, the batch's history, or what is under way."""

from __future__ import annotations

from pathlib import Path

from ranking.features import Entity
from tests.services.features.stream_fakes import Shop, bought
from tests.services.features.test_stream_history import batch, follow


def test_the_state_forgets_a_user_and_what_items_were_sold_to_them(tmp_path: Path) -> None:
    """Lines and id are gone from the file's bytes; the next row of an item counts those of others only."""
    with Shop(tmp_path) as shop:
        shop.record(bought("a", "ann-who-goes", "i1"), bought("b", "bob", "i1"), bought("c", "bob", "i2"))
        assert shop.item("i1")["purchases_all"] == 2.0
        assert shop.state.forget(["ann-who-goes", "nobody"]) == 1
        assert shop.state.code(Entity.USER, "ann-who-goes") == 0
        shop.record(bought("d", "cid", "i1"))
        assert shop.item("i1")["purchases_all"] == 2.0
        files = shop.layout.feature_state.parent.glob("feature_state.db*")
        assert not any(b"ann-who-goes" in path.read_bytes() for path in files)
        assert shop.state.forget(["ann-who-goes"]) == 0


def test_no_row_is_made_of_who_was_forgotten_meanwhile(tmp_path: Path) -> None:
    """An event taken in before: the user's row is not pushed and waits for nothing, the item's is."""
    with Shop(tmp_path) as shop:
        shop.log.append([bought("a", "ann", "i1"), bought("b", "bob", "i1")])
        shop.forgotten.add(["ann"])
        shop.settle()
        assert shop.user("ann") == {}
        assert shop.user("bob")["orders_all"] == 1.0
        assert shop.item("i1")["purchases_all"] == 2.0
        assert shop.changed == ["bob"]
        assert shop.state.due_count() == 0


def test_the_batchs_history_brings_nobody_back(tmp_path: Path) -> None:
    """A state begun anew from a history that still has the user leaves their lines out."""
    batch(tmp_path)
    with Shop(tmp_path) as shop:
        shop.forgotten.add(["ann"])
        follow(shop, bought("a", "bob", "i1"))
        assert shop.state.code(Entity.USER, "ann") == 0
        assert shop.item("i1")["purchases_all"] == 2.0  # bob's old one and his new one

"""A state directory that was copied is a state directory of its own: what is done in it changes nothing in the other."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from ranking.layout import Layout
from training.dataset import settle
from training.online import apply


def tables(home: Path) -> set[str]:
    """Those of its online store."""
    store = sqlite3.connect(home / "feast" / "online.db")
    names = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    store.close()
    return names


def test_applying_in_a_copy_leaves_the_original_alone(tmp_path: Path) -> None:
    """Both have their tables, and what stood in the copy's stands there still."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    apply(Layout(original))
    before = tables(original)
    assert any("item_statistics" in name for name in before)
    shutil.copytree(original, copy)
    store = sqlite3.connect(copy / "feast" / "online.db")
    with store:
        store.execute("INSERT INTO longtail_item_statistics (entity_key, feature_name, value) VALUES (x'01', 'orders_28d', x'02')")
    store.close()
    apply(Layout(copy))
    assert tables(original) == tables(copy) == before
    store = sqlite3.connect(copy / "feast" / "online.db")
    assert store.execute("SELECT feature_name FROM longtail_item_statistics").fetchall() == [("orders_28d",)]
    store.close()


def test_a_registry_that_is_none_is_left_to_feast(tmp_path: Path) -> None:
    """Neither its absence nor its damage is an error here, and nothing is written."""
    layout = Layout(tmp_path)
    settle(layout)
    assert not layout.feast.exists()
    layout.feast.mkdir(parents=True)
    (layout.feast / "registry.db").write_bytes(b"\xff\xff nonsense")
    settle(layout)
    assert (layout.feast / "registry.db").read_bytes() == b"\xff\xff nonsense"

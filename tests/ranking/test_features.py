"""The feature schema."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking import features
from ranking.features import (
    ALL_VIEWS,
    DERIVED,
    FEATURE_SERVICES,
    ITEM_SCALARS,
    MODEL_COLUMNS,
    REQUEST_COLUMNS,
    USER_SCALARS,
    VIEWS,
    Entity,
    schema_hash,
    stable_key,
)


def test_names_are_unique_within_an_entity_and_in_the_matrix() -> None:
    """A feature is found by its name alone."""
    for entity in Entity:
        names = [f.name for v in ALL_VIEWS if v.entity is entity for f in v]
        assert len(set(names)) == len(names)
    assert len(set(MODEL_COLUMNS)) == len(MODEL_COLUMNS)
    assert len({v.name for v in ALL_VIEWS}) == len(ALL_VIEWS)


def test_the_matrix_is_user_item_request_derived_in_this_order() -> None:
    """The models' columns are the scalar features of both entities, the request's and the derived ones."""
    assert (*USER_SCALARS, *ITEM_SCALARS, *(f.name for f in REQUEST_COLUMNS), *(f.name for f in DERIVED)) == MODEL_COLUMNS


def test_every_feature_declares_default_unit_and_meaning() -> None:
    """A scalar has a default of its type, a list an empty one, and every feature says what it counts and means."""
    for feature in [f for v in ALL_VIEWS for f in v] + list(REQUEST_COLUMNS + DERIVED):
        kind = {"float32": float, "int64": int, "string": str}.get(feature.dtype, list)
        assert isinstance([] if feature.default is None else feature.default, kind), feature.name
        assert feature.unit, feature.name
        assert feature.description, feature.name


def test_every_feature_service_names_declared_views() -> None:
    """What serving asks for exists."""
    assert all(view in VIEWS for views in FEATURE_SERVICES.values() for view in views)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VIEWS", (dataclasses.replace(VIEWS[0], ttl=VIEWS[0].ttl * 2), *VIEWS[1:])),
        ("VIEWS", VIEWS[::-1]),
        ("DERIVED", DERIVED[1:]),
        ("REQUEST_COLUMNS", (dataclasses.replace(REQUEST_COLUMNS[0], default=1.0), *REQUEST_COLUMNS[1:])),
        ("MODEL_COLUMNS", MODEL_COLUMNS[::-1]),
        ("MAX_ITEM_TOKENS", 25),
        ("MAX_GROUPS", 5),
        ("TASTE_WIDTH", 5),
        ("AFFINITY_HALF_LIFE", 5.0),
        ("SHARE_HALF_LIFE", 5.0),
        ("RELATION_HALF_LIFE", 5.0),
        ("RELATION_PRIORS", (1.0, 2.0, 3.0, 4.0)),
    ],
)
def test_the_hash_changes_with_whatever_a_model_sees(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ttl, an order, a default, a column or a length limit changed: another schema."""
    before = schema_hash()
    monkeypatch.setattr(features, name, value)
    assert schema_hash() != before


def test_words_do_not_change_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewording a description does not invalidate a release."""
    before = schema_hash()
    first = dataclasses.replace(VIEWS[0].features[0], description="reworded")
    view = dataclasses.replace(VIEWS[0], features=(first, *VIEWS[0].features[1:]), description="reworded")
    monkeypatch.setattr(features, "VIEWS", (view, *VIEWS[1:]))
    assert schema_hash() == before


def test_keys_and_hash_are_equal_in_another_process() -> None:
    """Neither depends on Python's per-process string hashing: training and serving agree."""
    code = "from ranking.features import schema_hash, stable_key; print(schema_hash(), stable_key('牛奶 42'))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == [schema_hash(), str(stable_key("牛奶 42"))]


@given(st.text())
def test_a_key_is_a_signed_64_bit_integer_and_zero_only_for_nothing(text: str) -> None:
    """Keys fit an int64 column; 0 is kept for "no key"."""
    key = stable_key(text)
    assert -(2**63) <= key < 2**63
    assert (key == 0) == (text == "")

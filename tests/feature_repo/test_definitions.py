"""What `feast apply` would register."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ranking.features import ALL_VIEWS, FEATURE_SERVICES, PUSHED_VIEWS, schema_hash

REPO = Path(__file__).parents[2] / "feature_repo"
_TYPES = {"float32": "Float32", "int64": "Int64", "string": "String", "float32_list": "Array(Float32)", "int64_list": "Array(Int64)"}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # feast's own imports


def _definitions():
    spec = importlib.util.spec_from_file_location("definitions_under_test", REPO / "definitions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_views_and_services_are_the_declared_schema(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every declared view and service stands at module level, with the schema's features, types and lifetimes."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    module = _definitions()
    for view in ALL_VIEWS:
        found = getattr(module, view.name)
        assert [(f.name, str(f.dtype)) for f in found.features] == [(f.name, _TYPES[f.dtype]) for f in view]
        assert (found.ttl, found.join_keys, found.tags["schema_hash"]) == (view.ttl, [f"{view.entity}_id"], schema_hash())
        assert found.batch_source.path == str(tmp_path / ("pushed" if view in PUSHED_VIEWS else "features") / f"{view.name}.parquet")
    for name, views in FEATURE_SERVICES.items():
        assert [p.name for p in getattr(module, name).feature_view_projections] == [v.name for v in views]


@pytest.mark.parametrize("home", ["", ".longtail"])
def test_a_state_directory_that_is_not_absolute_is_refused(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """Feast changes the working directory, so a relative path would mean another place: the message says what to set."""
    monkeypatch.setenv("LONGTAIL_HOME", home)
    with pytest.raises(RuntimeError, match="LONGTAIL_HOME must be set"):
        _definitions()


def test_one_python_file_only() -> None:
    """`feast apply` imports every Python file of the folder."""
    assert [p.name for p in REPO.rglob("*.py")] == ["definitions.py"]

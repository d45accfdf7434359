from __future__ import annotations

import json
from pathlib import Path

import pytest

from ranking.errors import UnknownName
from ranking.layout import Layout
from training.bert import bench


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return Layout(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def result(home: Layout) -> dict[str, object]:
    """A quick run of one part, and of one whose model nobody made."""
    return bench.run(home, quick=True, only=("sentiment", "fusion"))


def test_a_quick_run_gives_the_house_s_json_object(result: dict[str, object]) -> None:
    """Keys are those of every benchmark; what was not measured says why, and meets nothing."""
    assert {"bench", "revision", "host", "figures", "wanted", "met", "not_measured", "parts", "report"} <= set(result)
    assert set(result["parts"]) == {"fusion"}  # type: ignore[call-overload]
    assert "python -m training.sentiment train FILE" in result["not_measured"]["sentiment"]  # type: ignore[index]
    assert result["met"]["sentiment_macro_f1"] is False  # type: ignore[index]
    json.dumps(result, allow_nan=False)


def test_the_page_needs_nothing_else_and_can_be_written_again(home: Layout, result: dict[str, object]) -> None:
    """No address points outside; writing it again gives the same page."""
    page = Path(str(result["report"]))
    text = page.read_text("utf-8")
    assert "Texts, numbers and images" in text
    assert "<td>gated</td>" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    page.unlink()
    assert bench.rewrite(home) == page
    assert page.read_text("utf-8") == text


def test_runs_side_by_side_keep_each_other_s_parts(home: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another run of the benchmark kept while a part was measured is still there afterwards."""
    store = home.home / "reports" / "bert-quick.json"

    def measured() -> tuple[dict[str, object], dict[str, float]]:
        kept = json.loads(store.read_text("utf-8"))
        kept["parts"]["cold"] = kept["parts"]["fusion"] | {"figures": {"other": 1.0}}
        store.write_text(json.dumps(kept), "utf-8")
        return {"rows": []}, {"mine": 2.0}

    monkeypatch.setattr(bench, "parts", lambda *_, **__: {"transfer": measured, "fusion": measured, "cold": measured})
    monkeypatch.setattr(bench.report, "write", lambda *_: None)
    result = bench.run(home, quick=True, only=("transfer",))
    assert set(result["parts"]) == {"fusion", "cold", "transfer"}
    assert (result["figures"]["other"], result["figures"]["mine"]) == (1.0, 2.0)


def test_unknown_parts_and_empty_states_are_named(home: Layout, tmp_path: Path) -> None:
    """The message names the parts there are, or the command that measures."""
    with pytest.raises(UnknownName, match="part: 'tea' is not known; known: cold, fusion, rankers, readers"):
        bench.run(home, quick=True, only=("tea",))
    with pytest.raises(FileNotFoundError, match="longtail bench bert"):
        bench.rewrite(Layout(tmp_path))

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from ranking.errors import UnknownName
from ranking.layout import Layout
from tests.training.toolbox.made_up import outcome
from training.toolbox import bench
from training.toolbox.bench import WANTED, meets

ADS = ([outcome("plain", curves=False), outcome("good", (0.03, 0.01, 0.05), curves=False)], {"ads_ndcg10_gain": 0.030001, "ads_ne": 0.7})
SHOP = ([outcome("plain", data="imbalanced_shop", curves=False)], {"shop_ndcg_difference": -0.02})


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], Any]]:
    """Three parts: one measured, one measured, one whose data nobody brought."""
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def absent() -> Any:
        raise bench.NotBrought("sessions.csv: name its folder with --shoppers")

    made = {"ads": lambda: ADS, "shop": lambda: SHOP, "shoppers": absent}
    monkeypatch.setattr(bench, "_parts", lambda *_: made)
    return made


def test_the_result_is_one_json_object(parts: dict[str, Any], tmp_path: Path) -> None:
    """Strict JSON in the house's form: every wanted figure is judged, and what was not measured is named and not met."""
    result = json.loads(json.dumps(bench.run(Layout(tmp_path)), allow_nan=False))
    assert {"bench", "revision", "host", "figures", "wanted", "met"} <= result.keys()
    assert result["bench"] == "training"
    assert result["wanted"].keys() == result["met"].keys()
    assert result["figures"] == {"ads_ndcg10_gain": 0.03, "ads_ne": 0.7, "shop_ndcg_difference": -0.02}
    assert [name for name, met in result["met"].items() if met] == ["ads_ndcg10_gain"]
    assert result["not_measured"] == {"shoppers": "sessions.csv: name its folder with --shoppers"}


def test_the_report_needs_no_new_run(parts: dict[str, Any], tmp_path: Path) -> None:
    """What a run keeps is enough to write the same page again."""
    page = Path(bench.run(Layout(tmp_path))["report"])
    before = page.read_text()
    page.unlink()
    parts.clear()
    assert bench.rewrite(Layout(tmp_path)) == page
    assert page.read_text() == before
    assert "<td>good</td>" in before


def test_one_part_again_keeps_the_others(parts: dict[str, Any], tmp_path: Path) -> None:
    """A run of one part replaces that part's outcomes and no others; a run of another size keeps none of them."""
    bench.run(Layout(tmp_path), quick=True)
    parts["ads"] = lambda: (ADS[0], {"ads_ne": 0.6})
    again = bench.run(Layout(tmp_path), quick=True, only=["ads"])
    assert again["figures"] == {"ads_ne": 0.6, "shop_ndcg_difference": -0.02}
    alone = bench.run(Layout(tmp_path), only=["ads"])
    assert alone["figures"] == {"ads_ne": 0.6}
    assert alone["not_measured"] == {"shop": "left out of this run", "shoppers": "left out of this run"}
    assert bench.run(Layout(tmp_path), quick=True, only=["shop"])["figures"] == again["figures"]  # the full run did not touch them


def test_a_part_that_cannot_be_measured_keeps_what_it_had(parts: dict[str, Any], tmp_path: Path) -> None:
    """A run without a part's data leaves its earlier outcomes, with the revision they are of; a folder that is not there is refused."""
    parts["shoppers"] = lambda: (SHOP[0], {"online_shoppers_auc": 0.9})
    first = bench.run(Layout(tmp_path))

    def absent() -> Any:
        raise bench.NotBrought("yours to bring")

    parts["shoppers"] = absent
    again = bench.run(Layout(tmp_path), only=["shoppers"])
    assert again["figures"] == first["figures"]
    assert again["parts"] == first["parts"]
    assert again["not_measured"] == {}  # it was measured, by the first run
    assert bench.run(Layout(tmp_path))["parts"].keys() == first["parts"].keys()  # a run of all parts loses none either
    with pytest.raises(FileNotFoundError, match="nowhere"):
        bench.run(Layout(tmp_path), shoppers=tmp_path / "nowhere")


def test_a_quick_run_leaves_the_full_one_alone(parts: dict[str, Any], tmp_path: Path) -> None:
    """Page and TensorBoard logs of a full run outlive a quick one, which has its own."""
    full = Path(bench.run(Layout(tmp_path))["report"])
    before, logs = full.read_text(), sorted((tmp_path / "reports" / "runs").rglob("*"))
    quick = Path(bench.run(Layout(tmp_path), quick=True, only=["shop"])["report"])
    assert quick != full
    assert quick.is_file()
    assert full.read_text() == before
    assert sorted((tmp_path / "reports" / "runs").rglob("*")) == logs


def test_a_damaged_store_is_named(parts: dict[str, Any], tmp_path: Path) -> None:
    """The file and what to do, from the bench and from the report."""
    bench.run(Layout(tmp_path))
    store = tmp_path / "reports" / "training.json"
    store.write_text(store.read_text()[:100])
    for again in (bench.rewrite, bench.run):
        with pytest.raises(ValueError, match=r"training\.json: damaged, delete it and measure again"):
            again(Layout(tmp_path))


def test_a_run_that_breaks_keeps_what_it_measured(parts: dict[str, Any], tmp_path: Path) -> None:
    """An error in one part passes through; the parts before it are on disk and make a page."""

    def broken() -> Any:
        raise ValueError("wrong data")

    parts["shop"] = broken
    with pytest.raises(ValueError, match="wrong data"):
        bench.run(Layout(tmp_path))
    assert "<td>good</td>" in bench.rewrite(Layout(tmp_path)).read_text()


def test_marks_are_read_as_written() -> None:
    """Both ends of a range belong to it; above 0 does not hold 0."""
    assert meets(0.95, ("within", (0.95, 1.05)))
    assert not meets(1.051, ("within", (0.95, 1.05)))
    assert meets(0.02, (">=", 0.02))
    assert not meets(0.0, (">", 0.0))
    assert meets(0.68, ("<=", 0.68))


def test_the_marks_are_those_of_the_task() -> None:
    """Every figure that must be reached is judged, and ranges lie around what they stand for."""
    assert {name for name in WANTED if name.startswith("ads_predicted")} == {
        f"ads_predicted_over_actual{tier}" for tier in ("", "_head", "_tail", "_new")
    }
    for name, (sign, value) in WANTED.items():
        assert (sign == "within") == isinstance(value, tuple), name


def test_an_unknown_part_is_named(parts: dict[str, Any], tmp_path: Path) -> None:
    """A part nobody knows is refused with those there are."""
    with pytest.raises(UnknownName, match="nothing"):
        bench.run(Layout(tmp_path), only=["nothing"])


def test_the_commands(parts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench training` prints its JSON object last, `report training` the page; without a run it says what to do."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    runner = CliRunner()
    assert runner.invoke(cli.app, ["report", "training"]).exit_code == 1
    ran = runner.invoke(cli.app, ["bench", "training", "--quick", "--only", "ads"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout.splitlines()[-1])["bench"] == "training"
    told = runner.invoke(cli.app, ["report", "training"])
    assert Path(told.stdout.strip()).read_text().startswith("<!doctype html>")

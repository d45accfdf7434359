from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.training.toolbox.made_up import outcome
from training.toolbox import report
from training.toolbox.outcome import Outcome
from training.toolbox.outcome_verdicts import recommended

RESULT: dict[str, Any] = {
    "revision": "abc<1>",
    "quick": True,
    "figures": {"ads_ndcg10_gain": 0.03},
    "wanted": {"ads_ndcg10_gain": [">=", 0.02], "shop_ndcg_difference": ["within", [-0.01, 0.01]]},
    "met": {"ads_ndcg10_gain": True, "shop_ndcg_difference": False},
    "not_measured": {"shoppers": "no file <here>"},
    "parts": {"ads": {"revision": "abc<1>", "seconds": 12.3, "host": {"cores": 2, "cpu": "a & b", "memory": "24 GiB"}}},
}
OUTCOMES = [
    outcome("plain"),
    outcome("good", (0.03, 0.01, 0.05)),
    outcome("bad", (-0.03, -0.05, -0.01)),
    outcome("none", kind="resampler"),
    outcome("smote", (0.001, -0.01, 0.012), kind="resampler"),
    outcome("platt", kind="calibrator"),
    outcome("without text", (-0.01, -0.02, -0.001), kind="ablation"),
    outcome("plain", data="something_new"),
    outcome("odd <name>", (0.1, 0.05, 0.2), data="something_new"),
]


class Tags(HTMLParser):
    """Every tag with its attributes, and whether all that were opened were closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "reports" / "training.html"
    report.write(path, OUTCOMES, RESULT)
    return path.read_text()


def test_the_page_needs_nothing_else(page: str) -> None:
    """One well-formed file: every image is a data address, links stay within the page, nothing is fetched and no script runs."""
    tags = Tags(page)
    assert tags.open == []
    images = [a["src"] or "" for tag, a in tags.seen if tag == "img"]
    assert images
    assert all(src.startswith("data:image/svg+xml;base64,") for src in images)
    links = [a["href"] or "" for tag, a in tags.seen if tag == "a"]
    anchors = {a["id"] for _, a in tags.seen if "id" in a}
    assert {link.removeprefix("#") for link in links} <= anchors
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags.seen}
    assert "http" not in page
    assert "url(" not in page


def test_every_outcome_stands_in_the_big_table(page: str) -> None:
    """Each method has its row in its data set's table, with its interval, escaped."""
    for o in OUTCOMES:
        name = o.method.replace("<", "&lt;").replace(">", "&gt;")
        assert re.search(rf"<td>{re.escape(name)}</td><td>0\.300<small>0\.290 … 0\.310</small>", page), o.method


def test_gains_that_repeat_are_marked(page: str) -> None:
    """An interval off 0 gets its arrow, one that holds 0 none."""
    assert "+0.0300 ▲" in page
    assert "-0.0300 ▼" in page
    assert re.search(r"\+0\.0010 <", page)


def test_recommended_rows_follow_the_rule(page: str) -> None:
    """The rows in green are those that the rules choose, no more and no fewer."""
    wanted = [o.method for data in ("ads", "something_new") for o in recommended(OUTCOMES, data)]
    assert wanted == ["good", "none", "platt", "odd <name>"]
    for table in ("", "By group"):
        shown = re.findall(r'<tr class="chosen"><td>([^<]*)</td>', page.split(table, 1)[-1] if table else page)
        assert set(shown) <= {m.replace("<", "&lt;").replace(">", "&gt;") for m in wanted}
    assert len(re.findall('<tr class="chosen">', page)) == 2 * len(wanted)  # overall and by group


def test_what_did_not_help_has_a_section(page: str) -> None:
    """Methods without a gain that repeats are listed, the worst first; ablations are not, since they are meant to lose."""
    section = page.split('id="against"')[1]
    assert section.index("<td>bad</td>") < section.index("<td>smote</td>")
    assert "without text" not in section
    assert "<td>good</td>" not in section


def test_what_was_not_measured_is_said(page: str) -> None:
    """A part without data is named with the reason, and a mark without a figure is not called missed."""
    assert "no file &lt;here&gt;" in page
    assert "not measured" in page.split("shop_ndcg_difference")[1][:200]


def test_every_curve_is_drawn(page: str) -> None:
    """Per data set: gains, classes, learning, precision over recall, calibration."""
    assert page.count("data:image/svg+xml") == 2 * 5


def test_outcomes_without_curves_or_gains_still_make_a_page(tmp_path: Path) -> None:
    """The least an outcome can say is enough."""
    bare = Outcome("bare", "member", "alone", {"all": {"auc": [0.9, None, None]}}, 0.0)
    report.write(tmp_path / "page.html", [bare], RESULT)
    assert "<td>alone</td>" in (tmp_path / "page.html").read_text()

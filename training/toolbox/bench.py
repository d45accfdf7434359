"""`longtail bench training`: every part of the toolbox measured, one JSON object, outcomes kept so that the report needs no new run.

Runs the parts and gathers their figures; what each part measures stands in its own module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from ranking.errors import UnknownName
from ranking.layout import Layout
from training.artefacts import write_text
from training.host import host
from training.progress import console
from training.release.publish import code_revision
from training.toolbox import logs, report
from training.toolbox.outcome import Outcome

ROOT = Path(__file__).parents[2]
Figures = dict[str, float]
Measure = Callable[[], tuple[list[Outcome], Figures]]
Mark = tuple[str, float | tuple[float, float]]

WANTED: Mapping[str, Mark] = {
    "ads_ndcg10_gain": (">=", 0.02),
    "ads_ndcg10_gain_low": (">", 0.0),
    "ads_ndcg10_over_repeat_rule_low": (">", 0.0),
    "ads_recall50_new": (">=", 0.20),
    "ads_ne": ("<=", 0.68),
    "ads_predicted_over_actual": ("within", (0.95, 1.05)),
    "ads_predicted_over_actual_head": ("within", (0.9, 1.1)),
    "ads_predicted_over_actual_tail": ("within", (0.9, 1.1)),
    "ads_predicted_over_actual_new": ("within", (0.9, 1.1)),
    "shop_tail_recall_ratio": (">=", 2.0),
    "shop_ndcg_difference": ("within", (-0.01, 0.01)),
    "online_shoppers_auc": (">=", 0.937),
    "online_shoppers_ap": (">=", 0.754),
    "embedding_trial_ratio": (">=", 20.0),
}


class NotBrought(Exception):  # noqa: N818 (reads as what happened)
    """A part's data are not there; the text says how they come to be."""


def run(
    layout: Layout, *, quick: bool = False, shoppers: Path | None = None, reviews: Path | None = None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure, keep the outcomes, write the page and the logs, and report.

    Args:
        layout: the state directory.
        quick: everything at small size; same keys.
        shoppers: the folder of the Online Shoppers file; None: that part is not measured.
        reviews: the folder of the clothing reviews' file; None: the same.
        only: names of parts to measure; empty: all. What earlier runs of the same size kept of those not measured now stays.

    Returns:
        The benchmark's JSON object: `bench`, `revision` and `host` of this run, `report` (the page), `figures`, `wanted`, `met`,
        `not_measured` (part -> why) and `parts` (part -> its `revision`, `host` and `seconds`: a part that was kept has its own).

    Raises:
        UnknownName: `only` names no part.
        FileNotFoundError: a folder that was named is not there.
    """
    for folder in (shoppers, reviews):
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"{folder}: is no folder")
    parts = _parts(layout, quick, shoppers, reviews)
    for name in only:
        if name not in parts:
            raise UnknownName("part", name, list(parts))
    kept = _kept(layout, quick)
    missing = dict.fromkeys(parts, "left out of this run")
    for name in only or parts:
        console.print(f"[bold]{name}[/]")
        start = perf_counter()
        try:
            outcomes, figures = parts[name]()
        except NotBrought as error:  # data that somebody has to bring or make: the others can be measured without
            missing[name] = str(error)
            stays = f"; what was measured at {kept[name]['revision']} stays" if name in kept else ""
            console.print(f"{name}: not measured: {error}{stays}", markup=False)
            continue
        kept[name] = {
            "outcomes": [o.to_json() for o in outcomes],
            "figures": {key: round(float(value), 5) for key, value in figures.items()},
            "seconds": round(perf_counter() - start, 1),
            "revision": code_revision(ROOT),
            "host": host(),
        }
        _keep(layout, quick, {"parts": kept})  # after every part: a run that is stopped has what it measured
    missing = {name: why for name, why in missing.items() if name not in kept}
    _keep(layout, quick, {"parts": kept, "missing": missing})
    return _written(layout, quick, kept, missing)


def rewrite(layout: Layout) -> Path:
    """The page and the logs again, from what the last full run kept, or the last quick one where there was none; nothing is measured.

    Raises:
        FileNotFoundError: no run kept anything; the message names the command.
        ValueError: what was kept is damaged.
    """
    quick = not _store(layout, quick=False).exists()
    store = _store(layout, quick=quick)
    if not store.exists():
        raise FileNotFoundError(f"{store}: nothing was measured yet; `longtail bench training` does")
    read = _read(store)
    return Path(_written(layout, quick, read["parts"], read.get("missing", {}))["report"])


def outcomes_of(kept: Mapping[str, Mapping[str, Any]]) -> list[Outcome]:
    """The outcomes of all parts, as they were kept."""
    return [Outcome.from_json(o) for part in kept.values() for o in part["outcomes"]]


def meets(figure: float, mark: Mark) -> bool:
    """Whether a figure stands where its mark wants it."""
    sign, value = mark
    if isinstance(value, tuple):
        return value[0] <= figure <= value[1]
    return {">=": figure >= value, "<=": figure <= value, ">": figure > value, "<": figure < value}[sign]


def _parts(layout: Layout, quick: bool, shoppers: Path | None, reviews: Path | None) -> dict[str, Measure]:
    """The parts by name; what they import is imported when they run."""

    def ads() -> tuple[list[Outcome], Figures]:
        from training.toolbox import ads, ads_data

        if lacks := ads_data.lacking(layout):
            raise NotBrought(lacks)
        return ads.measure(layout, quick=quick)

    def discovery() -> tuple[list[Outcome], Figures]:
        from training.toolbox import ads_data, discovery

        if lacks := ads_data.lacking(layout):
            raise NotBrought(lacks)
        return discovery.measure(layout, quick=quick)

    def cold() -> tuple[list[Outcome], Figures]:
        from training.toolbox import ads_data, cold

        if lacks := ads_data.lacking(layout):
            raise NotBrought(lacks)
        return cold.measure(layout, quick=quick)

    def text() -> tuple[list[Outcome], Figures]:
        from training.toolbox import texts

        if lacks := texts.lacking(layout):
            raise NotBrought(lacks)
        return texts.measure(layout, quick=quick)

    def shop() -> tuple[list[Outcome], Figures]:
        from training.toolbox import shop

        return shop.measure(quick=quick)

    def online_shoppers() -> tuple[list[Outcome], Figures]:
        from training.toolbox import shoppers as sessions

        return sessions.measure(_brought(shoppers, "--shoppers FOLDER, the one with sessions.csv"), quick=quick)

    def embeddings() -> tuple[list[Outcome], Figures]:
        from training.toolbox import embeddings

        folder = _brought(reviews, "--reviews FOLDER, the one with reviews.csv.gz")
        return embeddings.measure(folder, layout.training / "toolbox" / "embeddings", quick=quick)

    def generators() -> tuple[list[Outcome], Figures]:
        from training.toolbox import generators

        return generators.measure(_brought(shoppers, "--shoppers FOLDER, the one with sessions.csv"), quick=quick)

    return {
        "ads": ads,
        "discovery": discovery,
        "cold": cold,
        "texts": text,
        "shop": shop,
        "shoppers": online_shoppers,
        "embeddings": embeddings,
        "generators": generators,
    }


def _brought(folder: Path | None, option: str) -> Path:
    if folder is None:
        raise NotBrought(f"its data are yours to bring: {option}")
    return folder


def _written(layout: Layout, quick: bool, kept: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> dict[str, Any]:
    """Write page and logs of what was kept, and sum it up. A quick run has its own: it must not take the place of a full one."""
    result, outcomes = _result(layout, quick, kept, missing), outcomes_of(kept)
    logs.write(layout.home / "reports" / _size("runs", quick), outcomes)
    report.write(Path(result["report"]), outcomes, result)
    return result


def _result(layout: Layout, quick: bool, kept: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> dict[str, Any]:
    figures = {key: value for part in kept.values() for key, value in part["figures"].items()}
    return {
        "bench": "training",
        "revision": code_revision(ROOT),
        "host": host(),
        "report": str(layout.home / "reports" / f"{_size('training', quick)}.html"),
        "quick": quick,
        "figures": figures,
        "wanted": {name: [sign, list(value) if isinstance(value, tuple) else value] for name, (sign, value) in WANTED.items()},
        "met": {name: name in figures and meets(figures[name], mark) for name, mark in WANTED.items()},
        "not_measured": dict(missing),
        "parts": {name: {key: part[key] for key in ("revision", "host", "seconds")} for name, part in kept.items()},
    }


def _kept(layout: Layout, quick: bool) -> dict[str, dict[str, Any]]:
    """What earlier runs of this size kept, by part."""
    store = _store(layout, quick=quick)
    parts: dict[str, dict[str, Any]] = _read(store)["parts"] if store.exists() else {}
    return parts


def _read(store: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(store.read_text()))
    except ValueError as error:
        raise ValueError(f"{store}: damaged, delete it and measure again: {error}") from None


def _keep(layout: Layout, quick: bool, value: Mapping[str, Any]) -> None:
    write_text(_store(layout, quick=quick), json.dumps(value, allow_nan=False) + "\n")  # keys in their order: tables are read in it


def _store(layout: Layout, *, quick: bool) -> Path:
    return layout.home / "reports" / f"{_size('training', quick)}.json"


def _size(name: str, quick: bool) -> str:
    return f"{name}-quick" if quick else name

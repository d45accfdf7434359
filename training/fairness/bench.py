"""`longtail bench fairness`: the frontier on real lists, the drift and LinkedIn simulations, and latency; one JSON object and a page.

Runs the parts and gathers their figures; what each part measures stands in its own module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ranking.fairness.policy import Controller
from ranking.layout import Layout
from ranking.types import FloatArray
from training.fairness import drift, frontier, journey, latency, linkedin, report, shopping
from training.fairness.lists import ScoredLists
from training.host import host
from training.progress import Bar
from training.release.publish import code_revision

WANTED: dict[str, tuple[str, float]] = {
    "frontier_wins_at_100": (">=", 1.0),
    "drift_deficit_lists": ("<=", 1.8),
    "drift_shortfall_pp": ("<=", 0.03),
    "drift_utility_pct": (">=", 99.7),
    "drift_restart_shortfall_pp": ("<=", 0.03),
    "drift_replicas_shortfall_pp": ("<=", 0.03),
    "rerank_p99_us_1000_50_50": ("<=", 1000.0),
}
_DAYS = {"longtail warm": "", "longtail restarts": "restart_", "longtail replicas": "replicas_", "fairco": "fairco_", "dual warm": "dual_"}
_CURVES = {"fairco": "FairCo (own promise: parity)", "dual": "dual descent, warm", "longtail": "ours, warm"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    seeds: tuple[int, ...]
    valid: int  # lists
    test: int
    draws: int  # bootstrap
    days: tuple[int, ...]  # seeds of the drift simulation
    day: int  # lists of a simulated day
    linkedin: int  # simulated lists
    rounds: int  # of the latency measurement
    timed: int  # lists per round


FULL = Size(journey.SEEDS, journey.COUNTS["valid"], journey.COUNTS["test"], 1000, drift.SEEDS, drift.LISTS, 300, 9, 200)
QUICK = Size(journey.SEEDS[:1], 60, 150, 200, drift.SEEDS[:1], 1000, 40, 3, 50)


def run(layout: Layout, *, quick: bool = False, esci: Path | None = None) -> dict[str, Any]:
    """Measure, write the page, and report.

    Args:
        layout: a state directory in which the pipeline has run.
        quick: everything at small size; same keys.
        esci: the folder of the ESCI files; None: that part is left out.

    Returns:
        The benchmark's JSON object: `bench`, `revision`, `host`, `report` (the page), `figures`, `wanted`, `met`, and `tables`, which the
        page shows.

    Raises:
        FileNotFoundError: the pipeline has not run, or the ESCI files are not there.
    """
    size = QUICK if quick else FULL
    made = journey.prepare(layout).path
    with Bar("latency", 1) as bar:  # first and alone: everything after it uses all cores
        took = latency.latencies(rounds=size.rounds, lists=size.timed)
        controller_us = drift.controller_us(size.day)
        bar.advance()
    with Bar("drift and LinkedIn simulations", 3) as bar:
        days = simulated_days(size)
        bar.advance()
        owed = curves(size.day)
        bar.advance()
        simulated = {name: s.summary() for name, s in linkedin.simulate(size.linkedin).items()}
        bar.advance()
    tables: dict[str, Any] = {
        "completejourney": _frontier(
            "Complete Journey", [partial(_journey, made, s, size.valid, size.test) for s in size.seeds], size.draws
        )
    }
    if esci is not None:
        tables["esci"] = _frontier("ESCI", [partial(shopping.read, esci, s) for s in size.seeds], size.draws)
    tables |= {
        "drift": {scenario: {arm: asdict(f) for arm, f in arms.items()} for scenario, arms in days.items()},
        "linkedin": simulated,
        "latency_us": took,
    }
    figures = {name: round(float(value), 4) for name, value in _figures(tables, controller_us).items()}
    result = {
        "bench": "fairness",
        "revision": code_revision(Path(__file__).parents[2]),
        "host": host(),
        "report": str(layout.home / "reports" / "fairness.html"),
        "quick": quick,
        "figures": figures,
        "wanted": {name: list(mark) for name, mark in WANTED.items()},
        "met": {name: figures[name] >= mark if sign == ">=" else figures[name] <= mark for name, (sign, mark) in WANTED.items()},
        "tables": tables,
    }
    report.write(Path(str(result["report"])), result, owed)
    return result


def simulated_days(size: Size) -> dict[str, dict[str, drift.Figures]]:
    """`drift.simulate`, one process per seed."""
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(size.days)), mp_context=get_context("spawn")) as pool:
        by_seed = list(pool.map(partial(drift.simulate, lists=size.day), [(seed,) for seed in size.days]))
    return {day: {arm: _merged([one[day][arm] for one in by_seed]) for arm in arms} for day, arms in by_seed[0].items()}


def _merged(rows: Sequence[drift.Figures]) -> drift.Figures:
    def merged(figures: Sequence[drift.Figure]) -> drift.Figure:
        return drift.Figure(float(np.mean([f.mean for f in figures])), min(f.low for f in figures), max(f.high for f in figures))

    return drift.Figures(*(merged([getattr(row, f.name) for row in rows]) for f in fields(drift.Figures)))


def curves(lists: int, seed: int = 0) -> dict[str, FloatArray]:
    """(T,) exposure that the worst group lacks so far, in lists, on one drifted day, for the arms worth looking at."""
    rng = np.random.default_rng(seed)
    eve = drift.draw(rng, drift.USUAL, lists)
    _, warm = drift.optimum(eve, drift.KEPT * eve.share)
    day = drift.draw(rng, drift.DRIFTED, lists)
    floors = drift.KEPT * day.share
    arms: dict[str, tuple[drift.Pricing, FloatArray]] = {
        "fairco": (drift.Accounts(Controller("fairco", 0.01), np.zeros(len(warm))), day.share),
        "dual": (drift.Dual(warm), floors),
        "longtail": (drift.Accounts(Controller(), warm), floors),
    }
    return {
        _CURVES[name]: np.cumsum(target - drift.serve(day, target, pricing).exposure, axis=0).max(axis=1)
        for name, (pricing, target) in arms.items()
    }


def _journey(made: Path, seed: int, valid: int, test: int) -> tuple[ScoredLists, ScoredLists]:
    return journey.read(made, "valid", seed).first(valid), journey.read(made, "test", seed).first(test)


def _frontier(what: str, seeds: Sequence[Callable[[], tuple[ScoredLists, ScoredLists]]], draws: int) -> dict[str, Any]:
    """Floor in percent -> table."""
    with Bar(f"frontier on {what}", len(seeds) * len(frontier.FLOORS)) as bar:
        rows = frontier.replicate_all(seeds, processes=os.cpu_count() or 1, advance=bar.advance)
    return {f"{100 * share:.0f}": frontier.summarise(row, draws=draws) for share, row in zip(frontier.FLOORS, rows, strict=True)}


def _figures(tables: Mapping[str, Any], controller_us: float) -> dict[str, float]:
    figures: dict[str, float] = {}
    for source, prefix in (("completejourney", ""), ("esci", "esci_")):
        for percent, table in tables.get(source, {}).items():
            figures[f"{prefix}frontier_wins_at_{percent}"] = frontier.wins(table)
        for name, row in tables.get(source, {}).get("100", {}).items():
            figures |= {f"{prefix}ndcg10_{name}_at_100": row["ndcg"][0], f"{prefix}tail_exposure_{name}_at_100": row["tail_exposure"][0]}
            if row["promise"] == "each":
                figures |= {f"{prefix}{key}_{name}_at_100": row[key] for key in ("deficit_lists", "shortfall_pp")}
            if "ours_minus" in row:
                figures |= {
                    f"{prefix}ours_minus_{name}_at_100{end}": v for end, v in zip(("", "_low", "_high"), row["ours_minus"], strict=True)
                }
    for scenario, prefix in (("drift", "drift_"), ("same", "same_"), ("midday", "midday_")):
        for arm, part in _DAYS.items():
            for name, figure in tables["drift"][scenario][arm].items():
                figures[f"{prefix}{part}{name}"] = figure["mean"]
    for name, row in tables["linkedin"].items():
        figures |= {
            f"linkedin_{name}_infeasible": row["infeasible"],
            f"linkedin_{name}_ndkl": row["ndkl"],
            f"linkedin_{name}_ndcg": row["ndcg"],
        }
    for name, row in tables["latency_us"].items():
        figures |= {f"{name}_p50_us_1000_50_50": row["p50"], f"{name}_p99_us_1000_50_50": row["p99"]}
    return figures | {"controller_us": controller_us}

"""`longtail bench cascade`: what a budget of texts (`ranking.cascade`) costs in quality, on the prepared test lists.

Offline, on the scores that training keeps: the ensemble that one would choose without a search, boosting with BERT at a weight per tier,
blends each list as the gateway would with that budget. Releases whose search gave BERT no weight have nothing to save.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ranking.blend import BlendSpec, blend
from ranking.cascade import continued, within
from ranking.layout import Layout
from ranking.metrics import bootstrap_interval, paired_bootstrap_interval
from ranking.types import FloatArray, Surface
from training.artefacts import load_ensemble_data, load_lists
from training.blends.ensemble import DEFAULT, TEXT, fit, ndcg, tail_share
from training.host import host
from training.lists.arrays import EvalLists
from training.release.evaluate import as_row
from training.release.publish import code_revision

BUDGETS = (10, 25, 50, 100)
ALL = "all"
SEED, DRAWS = 0, 2000

Rows = dict[str, dict[str, Any]]  # budget -> metric -> value, or [value, low, high]


def run(layout: Layout) -> dict[str, Any]:
    """Measure every budget on both surfaces.

    Args:
        layout: the state directory, with what `longtail train` keeps.

    Returns:
        The benchmark's JSON object; `figures` has NDCG@10 by surface and budget, `tables` the rest with 95 % intervals.

    Raises:
        FileNotFoundError: nothing was trained here.
    """
    start, tables = perf_counter(), {}
    for surface in Surface:
        kept = layout.training / "scores" / f"{surface.value}.npz"
        if not kept.exists():
            raise FileNotFoundError(f"{kept}: not there; `make demo` or `longtail train` makes it")
        data = load_ensemble_data(kept)
        fitted = fit({**DEFAULT, "negatives_rate": data.train.negatives_rate}, data, SEED, threads=1)
        lists = load_lists(kept.with_name(f"{surface.value}_test.npz"))
        tables[surface.value] = budgets(fitted.spec, fitted.logits(lists), lists)
    return {
        "bench": "cascade",
        "revision": code_revision(Path(__file__).parents[1]),
        "host": host(),
        "seconds": round(perf_counter() - start, 1),
        "figures": {f"{s}_ndcg10_{budget}": row["ndcg10"][0] for s, rows in tables.items() for budget, row in rows.items()},
        "wanted": {},
        "met": {},
        "tables": tables,
    }


def budgets(spec: BlendSpec, logits: FloatArray, lists: EvalLists) -> Rows:
    """Each budget's figures: ``ndcg10`` and ``tail_share10``, their paired differences to reading all, ``texts`` read per list.

    Args:
        spec: a blend with `TEXT`.
        logits: (m, N) what its members said.
        lists: of the N rows.
    """
    whole = cascaded(spec, logits, lists, None)
    out: Rows = {}
    for budget in (0, *BUDGETS, None):
        scores = whole if budget is None else cascaded(spec, logits, lists, budget)
        sizes = np.diff(lists.offsets)
        row: dict[str, Any] = {"texts": round(float((sizes if budget is None else np.minimum(sizes, budget)).mean()), 1)}
        for name, metric in (("ndcg10", ndcg), ("tail_share10", tail_share)):
            ours, all_read = metric(scores, lists), metric(whole, lists)
            row[name] = as_row(bootstrap_interval(ours, SEED, n=DRAWS, groups=lists.households))
            row[f"{name}_difference"] = as_row(paired_bootstrap_interval(ours, all_read, SEED, n=DRAWS, groups=lists.households))
        out[ALL if budget is None else str(budget)] = row
    return out


def cascaded(spec: BlendSpec, logits: FloatArray, lists: EvalLists, budget: int | None) -> FloatArray:
    """(N,) probabilities of each list blended with a budget of texts; None: no budget, 0: no text at all."""
    if budget is None:
        return blend(spec, logits, lists.tiers).probabilities
    unread = logits.copy()
    unread[spec.members.index(TEXT)] = np.nan
    cheap = blend(spec, unread, lists.tiers).probabilities
    if budget == 0:
        return cheap
    chosen = np.concatenate([within(cheap[a:b], budget) for a, b in pairwise(lists.offsets)])
    made = blend(spec, np.where(chosen, logits, unread), lists.tiers).probabilities
    return np.concatenate([continued(made[a:b], chosen[a:b]) for a, b in pairwise(lists.offsets)])


def table(tables: Mapping[str, Rows]) -> str:
    """All of it in Markdown."""
    lines = [
        "| surface | budget | texts a list | NDCG@10 | difference to all | tail and new in the first 10 |",
        "|---|---|---|---|---|---|",
    ]
    for surface, rows in tables.items():
        for budget, row in rows.items():
            (value, low, high), (gap, least, most), share = row["ndcg10"], row["ndcg10_difference"], row["tail_share10"][0]
            lines.append(
                f"| {surface} | {budget} | {row['texts']:g} | {value:.4f} ({low:.4f} to {high:.4f}) "
                f"| {gap:+.4f} ({least:+.4f} to {most:+.4f}) | {share:.1%} |"
            )
    return "\n".join(lines)

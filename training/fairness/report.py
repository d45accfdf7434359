"""The benchmark as a page: plots and tables in one HTML file that needs nothing else. Knows the JSON object, not how it was measured."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ranking.types import FloatArray

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #d8dee4; text-align: right }
th:first-child, td:first-child { text-align: left }
tr.ours { background: #eaf5ea } .missed { color: #b42318; font-weight: 600 } .met { color: #1a7f37 }
img { max-width: 100% } code { background: #f2f4f7; padding: .1rem .3rem }
"""
_MARKS = "osD^v<>PX*hd8p"
_OURS = {"floors": "#1a7f37", "amortised": "#0b5d1e", "amortised_together": "#57ab5a"}
_SOURCES = {
    "completejourney": (
        "Complete Journey: ads of the test weeks",
        "A list is a household's week in the stores: 200 candidates of the items promoted there, 80 by habit and promoted purchase rate, "
        "120 drawn from the rest. Scores are boosted trees' probabilities; NDCG@10 counts against everything bought, lists without a "
        "bought candidate left out; exposure counts on all lists. Strengths were chosen on validation weeks, the test weeks read once.",
    ),
    "esci": (
        "ESCI: judged search lists",
        "BM25 scores on title, brand and category; gains 1, .1, .01 and 0. Head: the fifth of the products rated most often; new: never "
        "rated. Few lists, and floors that ranking by score nearly keeps: differences here are small for everybody.",
    ),
}


def write(path: Path, result: Mapping[str, Any], owed: Mapping[str, FloatArray]) -> None:
    """Write the page.

    Args:
        path: of the file; its folder is made.
        result: the benchmark's JSON object.
        owed: arm -> (T,) exposure the worst group lacks so far on one drifted day, in lists.
    """
    tables = result["tables"]
    parts = [
        _summary(result),
        *(_frontier(source, tables[source]) for source in _SOURCES if source in tables),
        _drift(tables["drift"], owed),
        _linkedin(tables["linkedin"]),
        _latency(tables["latency_us"], result["figures"]["controller_us"]),
        f"<details><summary>Everything, as JSON</summary><pre>{escape(json.dumps(result, indent=1))}</pre></details>",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Longtail: fairness</title><style>{_STYLE}</style>'
    path.write_text("\n".join([head, *parts, "</html>\n"]), encoding="utf-8")


def _summary(result: Mapping[str, Any]) -> str:
    host = result["host"]
    rows = [
        (
            name,
            f"{sign} {mark:g}",
            f"{result['figures'][name]:g}",
            '<span class="met">met</span>' if result["met"][name] else '<span class="missed">missed</span>',
        )
        for name, (sign, mark) in result["wanted"].items()
    ]
    kind = "quick run: too small to conclude from" if result["quick"] else "full run"
    return (
        f"<h1>Fairness benchmark</h1><p>Revision <code>{escape(result['revision'])}</code>, {kind}; {host['cores']} cores, "
        f"{escape(host['cpu'])}, {host['memory']}. Repeat with <code>longtail bench fairness</code>.</p>"
        + _table(("figure", "wanted", "measured", ""), rows)
    )


def _frontier(source: str, floors: Mapping[str, Mapping[str, Any]]) -> str:
    title, text = _SOURCES[source]
    parts = [f"<h2>{title}</h2><p>{text}</p>", _image(_frontier_plot(floors)), _image(_difference_plot(floors))]
    for percent, table in sorted(floors.items(), key=lambda item: -float(item[0])):
        rows = [
            (
                escape(row["label"]),
                {"nothing": "–", "list": "each list", "each": "each group, overall", "together": "tail + new, overall"}[row["promise"]],
                _interval(row["ndcg"]),
                _interval(row["tail_exposure"]),
                *((f"{row['shortfall_pp']:.2f}", f"{row['deficit_lists']:.1f}") if row["promise"] in ("each", "together") else ("–", "–")),
                f"{row['lists_met']:.1%}",
                _interval(row["ours_minus"]) if "verdict" in row else "",
                _verdict(row),
            )
            for row in table.values()
        ]
        ours = [name in _OURS for name in table]
        head = (
            "",
            "keeps",
            "NDCG@10",
            "tail + new exposure",
            "short, pp",
            "lists that keep all floors",
            "NDCG of ours minus theirs",
            "ours",
        )
        parts.append(f"<h3>Floors of {percent} % of the candidates' share</h3>" + _table(head, rows, ours))
    parts.append(
        "<p>Intervals: 95 %, paired where a difference is shown, over lists drawn again, each list's seeds averaged first. An arm is held "
        "against ours of the same promise. An arm that reaches the floor at no strength is held against ours at the exposure it did "
        "reach.</p>"
    )
    return "\n".join(parts)


def _verdict(row: Mapping[str, Any]) -> str:
    if "verdict" not in row:
        return ""
    kind = "missed" if row["verdict"] == "behind" else "met"
    note = "" if row["reaches_floor"] else f", at {row['ours_tail_exposure']:.3f}: the floor is out of its reach"
    return f'<span class="{kind}">{row["verdict"]}</span>{note}'


def _frontier_plot(floors: Mapping[str, Mapping[str, Any]]) -> Any:
    figure, axes = _axes(10, 6)
    for i, name in enumerate(next(iter(floors.values()))):
        rows = [table[name] for table in floors.values()]
        x, y = [r["tail_exposure"][0] for r in rows], [r["ndcg"][0] for r in rows]
        ours = name in _OURS
        (line,) = axes.plot(
            x,
            y,
            marker=_MARKS[i % len(_MARKS)],
            markersize=7 if ours else 5,
            linewidth=2 if ours else 1,
            color=_OURS.get(name),
            label=rows[0]["label"],
            zorder=3 if ours else 2,
        )
        axes.vlines(x, [r["ndcg"][1] for r in rows], [r["ndcg"][2] for r in rows], colors=line.get_color(), alpha=0.25, linewidth=1)
    axes.set(xlabel="exposure of tail and new items on the page", ylabel="NDCG@10 (bars: 95 % over lists)")
    axes.set_title("What fairness costs: one point per floor, 80 to 100 % of the candidates' share", loc="left")
    axes.legend(fontsize=8, ncols=2, frameon=False)
    return figure


def _difference_plot(floors: Mapping[str, Mapping[str, Any]]) -> Any:
    figure, axes = _axes(10, 4.5)
    names = [name for name, row in next(iter(floors.values())).items() if "verdict" in row]
    for shift, (percent, table) in enumerate(floors.items()):
        rows = [table[name]["ours_minus"] for name in names]
        at = [i + 0.18 * (shift - (len(floors) - 1) / 2) for i in range(len(names))]
        bars = [[r[0] - r[1] for r in rows], [r[2] - r[0] for r in rows]]
        axes.errorbar([r[0] for r in rows], at, xerr=bars, fmt="o", markersize=3, capsize=2, label=f"floors of {percent} %")
    axes.axvline(0.0, color="#1b1f24", linewidth=0.8)
    axes.set_yticks(range(len(names)), [next(iter(floors.values()))[name]["label"] for name in names])
    axes.invert_yaxis()
    axes.set(xlabel="NDCG@10 of ours minus the arm's at equal floors (bars: 95 %, paired over lists)")
    axes.legend(fontsize=8, frameon=False)
    return figure


def _drift(scenarios: Mapping[str, Any], owed: Mapping[str, FloatArray]) -> str:
    figure, axes = _axes(10, 4)
    for name, line in owed.items():
        axes.plot(range(1, len(line) + 1), line, linewidth=1.0, label=name, color="#1a7f37" if name.startswith("ours") else None)
    axes.axhline(1.8, color="#b42318", linewidth=0.8, linestyle="--")
    axes.set(xlabel="lists served on the drifted day", ylabel="owed to the worst group, lists")
    axes.set_title("Debt over a day whose scores have drifted (one seed; dashed: the mark of 1.8)", loc="left")
    axes.legend(fontsize=8, frameon=False)
    rows = [
        (scenario, escape(arm), *(f"{f[key]['mean']:.{digits}f}" for key, digits in _DRIFT_DIGITS), f"{f['deficit_lists']['high']:.2f}")
        for scenario, arms in scenarios.items()
        for arm, f in arms.items()
    ]
    ours = [arm.startswith("longtail") for arms in scenarios.values() for arm in arms]
    head = ("day", "arm", "utility, % of bound", "shortfall, pp", "worst deficit, lists", "of the worst seed")
    text = "A simulated day of lists, floors of 95 % of the share. Utility above 100 % of the bound means that a floor was missed."
    return f"<h2>Drift</h2><p>{text}</p>{_image(figure)}" + _table(head, rows, ours)


_DRIFT_DIGITS = (("utility_pct", 2), ("shortfall_pp", 3), ("deficit_lists", 2))


def _linkedin(simulated: Mapping[str, Any]) -> str:
    rows = [
        (escape(name), f"{r['infeasible']:.1%}", f"{r['ndkl']:.3f}", f"{r['max_skew']:.3f}", f"{r['ndcg']:.5f}")
        for name, r in simulated.items()
    ]
    text = (
        "The simulation of Geyik, Ambler and Kenthapadi (2019): 4 groups, 100 places, uniform scores. Exact floors win NDCG at the same "
        "floors, and lose on NDKL and MaxSkew, because they set no ceilings."
    )
    head = ("ranker", "lists that miss a floor", "NDKL", "MaxSkew", "NDCG")
    return f"<h2>LinkedIn simulation</h2><p>{text}</p>" + _table(head, rows, [name == "exact_floors" for name in simulated])


def _latency(took: Mapping[str, Mapping[str, float]], controller_us: float) -> str:
    rows = [(escape(name), f"{row['p50']:.0f}", f"{row['p99']:.0f}") for name, row in took.items()]
    text = f"One list of 1,000 candidates in 50 groups, 50 places, in process. Prices and accounts take {controller_us:.0f} µs a list."
    head = ("ranker", "p50, µs", "p99, µs")
    return f"<h2>Latency</h2><p>{text}</p>" + _table(head, rows, [name in ("rerank", "exact_floors") for name in took])


def _interval(row: Sequence[float]) -> str:
    return f"{row[0]:.4f} [{row[1]:.4f}, {row[2]:.4f}]"


def _table(head: Iterable[str], rows: Sequence[Sequence[str]], ours: Sequence[bool] = ()) -> str:
    """Cells are HTML already."""
    lines = ["<table><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr>"]
    for i, row in enumerate(rows):
        kind = ' class="ours"' if i < len(ours) and ours[i] else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _image(figure: Any) -> str:
    """As a data address: identifiers of several drawings in one page cannot clash."""
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    return f'<p><img alt="plot" src="data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"></p>'

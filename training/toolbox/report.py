"""The toolbox as a page: what each method gained or lost, what to take and why, in one HTML file that needs nothing else.

Knows outcomes and the rules about them, not how anything was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from training import page
from training.toolbox import report_plots as plots
from training.toolbox import report_tables as tables
from training.toolbox.outcome import Outcome
from training.toolbox.outcome_verdicts import RULES, Verdict, judge, recommended, verdict

ABOUT = {
    "ads": (
        "Ads: Complete Journey",
        "A list is a household's week: all the products, about 3,900, that were promoted in the stores it went to, 0.12 % of them bought. "
        "Trained on weeks 30–40, fitted and chosen on 41–46, measured on 47–53. Recall of new counts positives that the household had not "
        "bought before. Each method is measured on 700 of the test lists, the choice, the yardstick and the repeat rule on all. "
        "Intervals, 95 %, are over households drawn again; gains are paired on the same lists.",
    ),
    "discovery": (
        "Discovery: what behaviour alone finds",
        "Promoted products that a household never bought before, ranked by one method's score alone, on validation weeks. Recall counts "
        "those it then bought among the first 50. Intervals are over households.",
    ),
    "ads_cold_start": (
        "Cold start: new users and new items",
        "All test lists, by how much the user had ordered before, and the same lists as if nobody knew their users. Of items, how many of "
        "the positives that were never sold before, or are four weeks old at most, are among the first 50.",
    ),
    "ads_lists_served": (
        "Text members: ads",
        "Test lists as the pipeline serves them, cut by retrieval. Each text member alone and beside boosted trees; gains are over those.",
    ),
    "search_lists_served": ("Text members: search", "The same for derived category queries."),
    "imbalanced_shop": (
        "The generated shop: 100 categories",
        "Categories 1–10 have 1,000 interactions each, 11–100 one to ten. What is wanted is known, so the tail can be measured against the "
        "truth and not against what the head made of it.",
    ),
    "online_shoppers": (
        "Online shoppers: who buys in a session",
        "Five folds; resampling inside the training folds only, so a synthetic row never meets the fold it is judged on.",
    ),
    "clothing_reviews": (
        "Clothing reviews: who does not recommend",
        "One review in five or six is a positive. Methods balance BERT embeddings of the texts, made once and kept.",
    ),
    "eight_gaussians": ("Generators: eight Gaussians on a circle", "How many of the eight a generator finds, and how near its points lie."),
    "online_shoppers_buyers": (
        "Generators: buyers of the online shop",
        "Made-up buyers against real ones that no generator saw: where a classifier is right half of the time, they cannot be told apart.",
    ),
}


def write(path: Path, outcomes: Sequence[Outcome], result: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        path: of the file; its folder is made.
        outcomes: every method's, of any data sets.
        result: the benchmark's JSON object: figures, wanted, met, parts with their revisions and hosts, and what was not measured.
    """
    data_sets = list(dict.fromkeys(o.data for o in outcomes))
    parts = [_head(outcomes, data_sets, result), tables.marks(result)]
    parts += [f'<h2 id="take">What to take</h2><p>{escape(RULES)}</p>', tables.choices(outcomes, data_sets)]
    for data in data_sets:
        parts += _section([o for o in outcomes if o.data == data], data)
    parts += ['<h2 id="against">What did not help</h2>', tables.against(outcomes)]
    page.write(path, "Longtail: the imbalance toolbox and the ensemble", parts)


def _head(outcomes: Sequence[Outcome], data_sets: Sequence[str], result: Mapping[str, Any]) -> str:
    hosts = {f"{m['host']['cores']} cores, {m['host']['cpu']}, {m['host']['memory']}" for m in result["parts"].values()}
    made = "; ".join(f"{part}: {m['seconds']:.0f} s at <code>{escape(m['revision'])}</code>" for part, m in result["parts"].items())
    verdicts = [verdict(o, judge(outcomes, o.data)) for o in outcomes]
    counts = {v: verdicts.count(v) for v in Verdict}
    kind = "A quick run: it shows that everything runs and is too small to conclude from. " if result.get("quick") else ""
    missing = "".join(f"<li>{escape(part)}: {escape(why)}</li>" for part, why in result.get("not_measured", {}).items())
    links = "".join(f'<a href="#{escape(data)}">{escape(_title(data))}</a>' for data in data_sets)
    return (
        f'<nav><a href="#take">What to take</a>{links}<a href="#against">What did not help</a></nav>'
        f"<p>{kind}{len(outcomes)} outcomes on {len(data_sets)} data sets: <b>{counts[Verdict.HELPS]} help</b>, "
        f"{counts[Verdict.LOSES]} lose, for {counts[Verdict.OPEN]} no difference was shown; the others are what these are held against. "
        f"{made}. {escape('; '.join(sorted(hosts)))}. Repeat with "
        "<code>longtail bench training</code>.</p>" + (f"<p>Not measured:</p><ul>{missing}</ul>" if missing else "")
    )


def _section(outcomes: Sequence[Outcome], data: str) -> list[str]:
    metric = judge(outcomes, data)
    chosen = {(o.kind, o.method) for o in recommended(outcomes, data)}
    shown = [o for o in outcomes if (o.kind, o.method) in chosen or not o.baseline]
    parts = [f'<h2 id="{escape(data)}">{escape(_title(data))}</h2>', f"<p>{escape(ABOUT[data][1])}</p>" if data in ABOUT else ""]
    parts += plots.gains(outcomes, metric)
    parts += [tables.overall(outcomes, metric, chosen), tables.by_group(outcomes, metric, chosen)]
    for draw in (plots.classes, plots.learning):
        parts += draw(outcomes)
    for draw in (plots.precision_recall, plots.calibration):
        parts += draw(shown)
    notes = [f"<li><b>{escape(o.method)}</b> ({o.kind}): {escape(o.note)}</li>" for o in outcomes if o.note]
    if notes:
        parts.append(f"<details><summary>Notes to the rows</summary><ul>{''.join(notes)}</ul></details>")
    return parts


def _title(data: str) -> str:
    return ABOUT[data][0] if data in ABOUT else data.replace("_", " ")

"""`longtail report bert`: what the parts found, as one HTML page that needs nothing else. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from training import page
from training.toolbox.report_tables import marks

TITLES = {
    "sentiment": "Sentiment of reviews",
    "rankers": "Ranking heads × ways of tuning",
    "readers": "The sentiment head × ways of tuning",
    "unlabelled": "Reviews without labels",
    "transfer": "Transfer to another domain",
    "fusion": "Texts, numbers and images",
    "variants": "fp32, bf16, int8",
    "cold": "Cold start with text",
}
ABOUT = {
    "sentiment": "Trained on eight tenths of the reviews; thresholds and the blend's share come from one tenth, these figures from the "
    "last. Intervals, 95 %, over reviews drawn again.",
    "rankers": "Every cell trains the same encoder on the same lists; quality is NDCG@10 on lists of other queries, intervals over "
    "lists (of each list's mean, where a row has several seeds). The gain is paired, against full tuning of the same head. Parameters are "
    "the encoder's, seconds the processor's.",
    "readers": "A part of the reviews, smaller than the stored model's. Macro-F1 over negative, neutral and positive, thresholds from "
    "validation.",
    "unlabelled": "The encoder first guesses hidden words of reviews whose labels nobody reads, then both are tuned on the same labelled "
    "ones. Macro-F1 of the most probable class, mean over seeds; gains are paired.",
    "transfer": "Each start is adapted to the same few labelled lists in the same way. Points are means over seeds, intervals over test "
    "lists.",
    "fusion": "Made-up lists whose truth is known: the style a query asks for is told in four titles of ten and seen in every image. "
    "The encoder is frozen; one image in five is missing in training.",
    "variants": "One ranker; 100 pairs on this host. Where the host does not compute in bf16, the runtime uses fp32.",
    "cold": "Search lists as the pipeline serves them, ordered without any column about the user, as for a household without a history. "
    "Queries are derived. Weights come from validation lists, gains are paired, against popularity.",
}
_COLOURS = ("#0969da", "#1a7f37", "#8c959f", "#b42318", "#8250df", "#bc4c00")


def write(path: Path, found: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        path: of the file; its folder is made.
        found: part -> what it returned.
        result: the benchmark's JSON object.
    """
    draw = {
        "sentiment": _sentiment,
        "rankers": _rankers,
        "readers": _readers,
        "unlabelled": _unlabelled,
        "transfer": _transfer,
        "fusion": _fusion,
        "variants": _variants,
        "cold": _cold,
    }
    parts = [_head(found, result), marks(result)]
    for name, title in TITLES.items():
        if name in found:
            parts += [f'<h2 id="{name}">{title}</h2>', f"<p>{ABOUT[name]}</p>", *draw[name](found[name])]
    page.write(path, "Longtail: the BERT ranker", parts)


def _head(found: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    links = "".join(f'<a href="#{name}">{TITLES[name]}</a>' for name in TITLES if name in found)
    made = "; ".join(f"{name}: {m['seconds']:.0f} s at <code>{escape(m['revision'])}</code>" for name, m in result["parts"].items())
    hosts = {f"{m['host']['cores']} cores, {m['host']['cpu']}, {m['host']['memory']}" for m in result["parts"].values()}
    kind = "A quick run, with an encoder of random weights: it shows that everything runs, and no figure means anything. "
    missing = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in result.get("not_measured", {}).items())
    return (
        f"<nav>{links}</nav><p>{kind if result.get('quick') else ''}{made}. {escape('; '.join(sorted(hosts)))}. Repeat with "
        "<code>longtail bench bert</code>.</p>" + (f"<p>Not measured:</p><ul>{missing}</ul>" if missing else "")
    )


def _sentiment(found: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, one in found["test"].items():
        f1, auc = (_interval([one[key], *one["intervals"][key]]) for key in ("macro_f1", "roc_auc"))
        each = [
            f"{_n(c['precision'])} / {_n(c['recall'])} / {_n(c['f1'])}<small>{c['rows']} reviews</small>" for c in one["classes"].values()
        ]
        rows.append(("chosen" if name == "bert" else "", (escape(name), f1, auc, _n(one["ap_not_recommended"]), *each)))
    head = ("model", "macro-F1", "ROC-AUC of “recommended”", "AP of “not recommended”")
    classes = tuple(f"{c}<br>precision / recall / F1" for c in found["test"]["bert"]["classes"])
    out = [page.html_table(head + classes, rows), _losses({"sentiment": found.get("history", [])}, "training loss")]
    if found.get("pr"):
        out.append(_pr(found["pr"]))
    for by, listed in found.get("complaints", {}).items():
        out += [
            f"<h3>Complaints by {escape(by)}</h3>",
            "<p>Terms that reviews read as negative use more than others of the category do.</p>",
        ]
        groups = dict.fromkeys(c["category"] for c in listed)
        terms = {g: [f"{c['term']} ({c['complaints']}, z {c['z']:.1f})" for c in listed if c["category"] == g] for g in groups}
        out.append(
            page.html_table(
                (by, "terms (complaints with it, z)"),
                [("", (escape(g), escape(", ".join(t)))) for g, t in terms.items()],
                words=frozenset({1}),
            )
        )
    return out


def _rankers(found: Mapping[str, Any]) -> list[str]:
    out = _tuned(found["rows"])
    out.append("<h3>Lists before and after training</h3><p>Two that gained most, two that lost most. Scores are log-odds.</p>")
    for one in found["examples"]:
        rows = [
            (
                "",
                (
                    escape(i["title"]),
                    escape(i["tier"]),
                    _n(i["gain"]),
                    f"{place}{_moved(i['was'], place)}",
                    f"{i['before']:.2f} → {i['after']:.2f}",
                ),
            )
            for place, i in enumerate(one["items"], 1)
        ]
        out.append(f"<p><b>{escape(one['query'])}</b>: NDCG@10 {one['change']:+.3f}</p>")
        out.append(page.html_table(("item", "tier", "gain", "place", "score"), rows, words=frozenset({0})))
    counted = [("", (f"{e['by']}: {escape(e['name'])}", str(e["count"]), _n(e["before"]), _n(e["after"]))) for e in found["errors"]]
    out.append(
        "<h3>Errors by group and tier</h3><p>Of groups the mean NDCG@10, of tiers the share of their gains in the upper half of lists.</p>"
    )
    return [*out, page.html_table(("of", "count", "before", "after"), counted)]


def _readers(found: Mapping[str, Any]) -> list[str]:
    return _tuned(found["rows"])


def _tuned(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[tuple[str, Sequence[str]]] = []
    for data in dict.fromkeys(row["data"] for row in rows):
        for head in dict.fromkeys(row["head"] for row in rows if row["data"] == data):
            chosen = [row for row in rows if (row["data"], row["head"]) == (data, head)]
            lines.append(("part", (f"{escape(data)}, head {escape(head)}, {escape(chosen[0]['metric'])}",)))
            for row in chosen:
                seeds = f"<small>seeds: {', '.join(_n(one) for one in row['seeds'])}</small>" if row.get("seeds") else ""
                share = f"{row['trainable']:,}<small>{row['trainable'] / row['total']:.2%}</small>"
                gain = "–" if row["gain"] is None else _gain(row["gain"])
                lines.append(("", (escape(row["method"]), _interval(row["quality"]) + seeds, gain, share, f"{row['seconds']:.1f} s")))
    table = page.html_table(("tuning", "quality", "against full", "trainable parameters", "training"), lines)
    first = (rows[0]["data"], rows[0]["head"])
    return [table, _losses({r["method"]: r["learning"] for r in rows if (r["data"], r["head"]) == first}, f"training loss, {first[1]}")]


def _transfer(found: Mapping[str, Any]) -> list[str]:
    points, out = found["points"], []
    for source, target in dict.fromkeys((p["source"], p["target"]) for p in points):
        mine = [p for p in points if (p["source"], p["target"]) == (source, target)]
        figure, axes = page.axes(8, 3.8)
        for colour, start in zip(_COLOURS, dict.fromkeys(p["start"] for p in mine), strict=False):
            line = [p for p in mine if p["start"] == start]
            x = [p["lists"] for p in line]
            axes.plot(x, [p["ndcg10"][0] for p in line], marker="o", color=colour, label=start)
            axes.fill_between(x, [p["ndcg10"][1] for p in line], [p["ndcg10"][2] for p in line], color=colour, alpha=0.12)
        axes.set_xscale("symlog", linthresh=10)
        sizes = sorted({p["lists"] for p in mine})
        axes.set_xticks(sizes, [str(s) for s in sizes])
        axes.set(xlabel=f"labelled lists of {target}", ylabel="NDCG@10")
        axes.legend(frameon=False, fontsize=8)
        out += [f"<h3>{escape(source)} → {escape(target)}</h3>", page.image(figure, f"transfer from {source} to {target}")]
        rows = [
            ("", (escape(p["start"]), str(p["lists"]), _interval(p["ndcg10"]), *(_gain(g) for g in p["gains"].values())))
            for p in mine
            if p["start"] == mine[0]["start"]
        ]
        out.append(page.html_table(("start", "lists", "NDCG@10", *(f"over {escape(o)}" for o in mine[0]["gains"])), rows))
    return out


def _unlabelled(found: Mapping[str, Any]) -> list[str]:
    rows = [
        ("", (str(p["labelled"]), escape(p["start"]), _interval(p["macro_f1"]), "–" if p["gain"] is None else _gain(p["gain"])))
        for p in found["points"]
    ]
    return [page.html_table(("labelled reviews", "start", "macro-F1", "gain"), rows, words=frozenset({1}))]


def _fusion(found: Mapping[str, Any]) -> list[str]:
    shares = sorted({row["missing"] for row in found["rows"]})
    by = {(row["name"], row["missing"]): row for row in found["rows"]}
    rows = [
        (
            "chosen" if name == "gated" else "",
            (escape(name), *(_interval(by[name, s]["ndcg10"]) for s in shares), _gain(by[name, 0.0]["gain"])),
        )
        for name in dict.fromkeys(row["name"] for row in found["rows"])
    ]
    heads = ("head", *(f"NDCG@10, {s:.0%} of images missing" for s in shares), "over the best modality alone")
    return [page.html_table(heads, rows)]


def _variants(found: Mapping[str, Any]) -> list[str]:
    rows = []
    for v in found["rows"]:
        speed = f"{v['milliseconds']:.1f} ms" + ("" if v["native"] else "<small>computed in fp32</small>")
        name, size = f"{escape(v['name'])}, {escape(v['runtime'])}", f"{v['megabytes']:.0f} MB"
        rows.append(("", (name, speed, size, _interval(v["ndcg10"]), _gain(v["loss"]), f"{v['error']:.4f}")))
    out = [page.html_table(("variant", "100 pairs", "file", "NDCG@10", "against fp32", "largest difference of a score"), rows)]
    learnt = [
        ("", (one["name"], f"{one['seconds']:.3f} s", _interval(one["ndcg10"]), _gain(one["loss"]))) for one in found.get("training", [])
    ]
    if not learnt:  # kept by an earlier version
        return out
    out.append("<h3>Training</h3><p>The list head, tuned in full; processor seconds. Weights are fp32 either way.</p>")
    return [*out, page.html_table(("computed in", "a step", "NDCG@10", "against fp32"), learnt)]


def _cold(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            "",
            (
                escape(row["name"]),
                "" if row["weight"] is None else f"{row['weight']:g}",
                *(_interval(row["figures"][metric]) for metric in ("ndcg10", "recall50")),
                *(_gain(row["gains"][metric]) if row["gains"] else "" for metric in ("ndcg10", "recall50")),
            ),
        )
        for row in found["rows"]
    ]
    heads = ("order", "weight of the text", "NDCG@10", "recall@50", "gain of NDCG@10", "gain of recall@50")
    head, tail, new = found["positives_by_tier"]
    said = f"{found['lists']} lists of {found['candidates']} candidates; bought: {head} of the head, {tail} of the tail, {new} never sold."
    return [f"<p>{said} Fewest orders before a list: {found['fewest_orders']:g}.</p>", page.html_table(heads, rows)]


def _losses(curves: Mapping[str, Sequence[Sequence[float]]], label: str) -> str:
    drawn = {name: np.asarray(points, float) for name, points in curves.items() if len(points)}
    if not drawn:
        return ""
    figure, axes = page.axes(8, 3.2)
    for colour, (name, points) in zip(_COLOURS, drawn.items(), strict=False):
        axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=1.3, label=name)
    axes.set(xlabel="step", ylabel=label)
    axes.legend(frameon=False, fontsize=8)
    return page.image(figure, label)


def _pr(curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> str:
    classes = list(next(iter(curves.values())))
    figure, panels = page.axes(3.4 * len(classes), 3.4, columns=len(classes))
    for axes, name in zip(panels, classes, strict=True):
        for colour, (model, by_class) in zip(_COLOURS, curves.items(), strict=False):
            points = np.asarray(by_class[name], float)
            axes.step(points[:, 0], points[:, 1], where="post", color=colour, label=model, linewidth=1.3)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set(xlabel="recall", xlim=(0, 1), ylim=(0, 1))
    panels[0].set_ylabel("precision")
    panels[0].legend(frameon=False, fontsize=8)
    return page.image(figure, "precision and recall by class")


def _interval(values: Sequence[float | None]) -> str:
    value, low, high = values
    return f"{_n(value)}<small>{_n(low)} … {_n(high)}</small>"


def _gain(values: Sequence[float]) -> str:
    value, low, high = values
    kind, sign = ("met", " ▲") if low > 0 else ("missed", " ▼") if high < 0 else ("quiet", "")
    return f'<span class="{kind}">{value:+.4f}{sign}</span><small>{low:+.3f} … {high:+.3f}</small>'


def _moved(was: int, place: int) -> str:
    return "" if was == place else f"<small>{'↑' if was > place else '↓'} from {was}</small>"


def _n(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

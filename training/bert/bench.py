"""`longtail bench bert`: every part measured, kept, and written as a page; `longtail report bert` writes the page again.

Runs parts and keeps what they found; what a part measures stands in `parts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from ranking.errors import UnknownName
from ranking.layout import Layout
from training.artefacts import write_text
from training.bert import report
from training.bert.parts import parts
from training.host import host
from training.progress import console
from training.release.publish import code_revision
from training.toolbox.bench import Mark, NotBrought, meets

ROOT = Path(__file__).parents[2]
WANTED: Mapping[str, Mark] = {
    "sentiment_macro_f1": (">=", 0.71),
    "sentiment_gain": (">", 0.0),
    "peft_imbalanced_shop_lora_gap": (">=", -0.005),
    "peft_imbalanced_shop_lora_share": ("<=", 0.02),
    "peft_sentiment_lora_gap": (">=", -0.005),
    "peft_sentiment_lora_share": ("<=", 0.02),
    "transfer_10_over_scratch_low": (">", 0.0),
    "transfer_50_over_scratch_low": (">", 0.0),
    "transfer_200_over_scratch_low": (">", 0.0),
    "fusion_gated_over_best_alone": (">=", 0.0),
    "fusion_gated_worth_of_images": (">", 0.0),
}


def run(
    layout: Layout, *, quick: bool = False, reviews: Path | None = None, judgments: Path | None = None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure, keep what was found, write the page, and report.

    Args:
        layout: the state directory.
        quick: everything at small size, with an encoder of random weights; kept apart from full runs.
        reviews: the clothing reviews' file or folder; None: the part that reads them is not measured.
        judgments: the folder of the ESCI files; None: rankers are measured on the generated shop alone.
        only: names of parts; empty: all. What earlier runs of the same size kept of the others stays.

    Returns:
        The benchmark's JSON object: `bench`, `revision`, `host`, `report`, `figures`, `wanted`, `met`, `not_measured` and `parts`.

    Raises:
        UnknownName: `only` names no part.
    """
    every = parts(layout, quick=quick, reviews=reviews, judgments=judgments)
    for name in only:
        if name not in every:
            raise UnknownName("part", name, list(every))
    store = _store(layout, quick=quick)
    kept: dict[str, Any] = _read(store)["parts"] if store.exists() else {}
    missing = {name: "left out of this run" for name in every if name not in kept}
    for name in only or every:
        console.print(f"[bold]{name}[/]")
        start = perf_counter()
        try:
            found, figures = every[name]()
        except NotBrought as error:  # data or a model that somebody has to bring or make
            missing[name] = str(error)
            console.print(f"{name}: not measured: {error}", markup=False)
            continue
        kept = {**kept, **(_read(store)["parts"] if store.exists() else {})}  # another run may have measured other parts meanwhile
        kept[name] = {
            "found": found,
            "figures": {key: round(float(value), 5) for key, value in figures.items()},
            "seconds": round(perf_counter() - start, 1),
            "revision": code_revision(ROOT),
            "host": host(),
        }
        write_text(store, json.dumps({"parts": kept}) + "\n")  # after every part: a run that is stopped has what it measured
    missing = {name: why for name, why in missing.items() if name not in kept}
    write_text(store, json.dumps({"parts": kept, "missing": missing}) + "\n")
    return _written(layout, kept, missing, quick=quick)


def rewrite(layout: Layout) -> Path:
    """The page again, from what the last full run kept, or the last quick one where there was none.

    Raises:
        FileNotFoundError: no run kept anything; the message names the command.
    """
    quick = not _store(layout, quick=False).exists()
    store = _store(layout, quick=quick)
    if not store.exists():
        raise FileNotFoundError(f"{store}: nothing was measured yet; `longtail bench bert` does")
    read = _read(store)
    return Path(_written(layout, read["parts"], read.get("missing", {}), quick=quick)["report"])


def _written(layout: Layout, kept: Mapping[str, Any], missing: Mapping[str, str], *, quick: bool) -> dict[str, Any]:
    figures = {key: value for part in kept.values() for key, value in part["figures"].items()}
    page = layout.home / "reports" / f"{'bert-quick' if quick else 'bert'}.html"
    result = {
        "bench": "bert",
        "revision": code_revision(ROOT),
        "host": host(),
        "report": str(page),
        "quick": quick,
        "figures": figures,
        "wanted": {name: [sign, value] for name, (sign, value) in WANTED.items()},
        "met": {name: name in figures and meets(figures[name], mark) for name, mark in WANTED.items()},
        "not_measured": dict(missing),
        "parts": {name: {key: part[key] for key in ("revision", "host", "seconds")} for name, part in kept.items()},
    }
    report.write(page, {name: part["found"] for name, part in kept.items()}, result)
    return result


def _store(layout: Layout, *, quick: bool) -> Path:
    return layout.home / "reports" / f"{'bert-quick' if quick else 'bert'}.json"


def _read(store: Path) -> dict[str, Any]:
    try:
        read = dict(json.loads(store.read_text()))
    except ValueError as error:
        raise ValueError(f"{store}: damaged, delete it and measure again: {error}") from None
    if not isinstance(read.get("parts"), dict):
        raise ValueError(f"{store}: holds no parts, delete it and measure again")
    return read

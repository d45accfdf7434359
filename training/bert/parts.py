"""The parts of `longtail bench bert`: what is trained and measured in each, on which data, and the figures it gives.

A part returns what it found (JSON, for the report) and its figures (key -> number). A quick run has an encoder of random weights, two
layers deep: it shows that everything runs, and no figure of it means anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ranking.layout import Layout
from ranking.text import SpecialTokens
from training.bert import cold, compare, encoder, examples, fusing, masked, transfer, variants
from training.bert.fit import Settings
from training.bert.heads import task
from training.bert.kept import Kept
from training.bert.lists import Lists, esci, shop
from training.bert.tuning import METHODS
from training.splits import by_group, stratified
from training.toolbox.bench import NotBrought

Found = tuple[dict[str, Any], dict[str, float]]
Part = Callable[[], Found]
SOURCE, TARGET = ("kitchen", "garden", "office", "sports", "clothing"), ("toys", "beauty", "electronics", "pets", "music")
HEADS = ("list", "click", "click+satisfaction")
MAIN = ("full", "lora", "lora_everywhere", "adalora", "head")
"""Ways of tuning that are compared where all of them would take too long; the first head on the generated shop has all."""
_SMALL: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything.

    Attributes:
        train: lists that rankers are trained on, and `test` lists they are measured on, `runs` times over for the first head.
        candidates: of a list.
        reviews: (train, validation, test) of the comparison of readers.
        unlabelled: reviews read without their labels, labelled ones of each point, and seeds.
        pool: of transfer's lists of the target, and as many to measure on; `sizes` of them are labelled.
        seeds: of transfer's draws, on the shop and on real queries.
        epochs: of a ranker, and `reading` those of a reader.
        fusing: (train, test) lists of fusion, and its epochs.
        queries: of ESCI; 0: all.
    """

    train: int
    test: int
    runs: int
    candidates: int
    reviews: tuple[int, int, int]
    unlabelled: tuple[int, tuple[int, ...], int]
    pool: int
    sizes: tuple[int, ...]
    seeds: tuple[int, int]
    epochs: int
    reading: int
    fusing: tuple[int, int, int]
    queries: int = 0


FULL = Size(300, 300, 2, 10, (2000, 800, 1500), (6000, (200, 1000), 2), 200, transfer.SIZES, (3, 1), 3, 2, (600, 300, 8))
"""Planned, from the time of a step, for about 15 to 35 minutes a part on one core that multiplies bfloat16."""
QUICK = Size(6, 6, 1, 4, (40, 20, 20), (20, (10,), 1), 6, (2, 4), (1, 1), 1, 1, (6, 6, 1), 8)


def parts(layout: Layout, *, quick: bool, reviews: Path | None, judgments: Path | None) -> Mapping[str, Part]:
    """The parts by name, in the order in which they run.

    Args:
        layout: the state directory.
        quick: at small size.
        reviews: the clothing reviews' file or folder.
        judgments: the folder of the ESCI files.
    """
    size, special = QUICK if quick else FULL, frames()
    kept = Kept(layout.home / "reports" / ("bert-quick" if quick else "bert"))

    def made() -> Any:
        return encoder.untrained(**_SMALL) if quick else encoder.load()

    def scratch() -> Any:
        return encoder.untrained(seed=3, **(_SMALL if quick else {}))

    return {
        "sentiment": lambda: sentiment(layout),
        "rankers": lambda: rankers(made, special, size, judgments, kept),
        "readers": lambda: readers(made, special, size, reviews, kept),
        "unlabelled": lambda: unlabelled(made, special, size, reviews, kept),
        "transfer": lambda: moved(made, scratch, special, size, judgments, kept),
        "fusion": lambda: fusion(made, special, size),
        "variants": lambda: forms(made, special, size, layout),
        "cold": lambda: cold.measure(layout),
    }


def sentiment(layout: Layout) -> Found:
    """What the stored sentiment model said of its test reviews when it was trained, and complaints where they were listed."""
    from training.sentiment import complaints_file, folder

    stored = folder(layout) / "sentiment.json"
    if not stored.is_file():
        raise NotBrought(f"{stored}: not there; `python -m training.sentiment train FILE` makes it")
    told = json.loads(stored.read_text(encoding="utf-8"))["training"]
    listed = complaints_file(layout)
    complaints = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else {}
    bert, words = told["test"]["bert"], told["test"]["words"]
    figures = {
        "sentiment_macro_f1": bert["macro_f1"],
        "sentiment_roc_auc": bert["roc_auc"],
        "sentiment_gain": bert["macro_f1"] - words["macro_f1"],
        "sentiment_blend_macro_f1": told["test"]["blend"]["macro_f1"],
    }
    return {**told, "complaints": complaints}, figures


def rankers(made: compare.Encoder, special: SpecialTokens, size: Size, judgments: Path | None, kept: Kept) -> Found:
    """Heads × methods on lists of the generated shop and, where it is brought, on real queries; examples and errors of the best."""
    settings = Settings(epochs=size.epochs, batch=8)
    every = shop(size.train + size.test, candidates=size.candidates)
    train, test = every.take(np.arange(size.train)), every.take(np.arange(size.train, len(every)))
    shop_rows = partial(compare.rankers, made, "imbalanced_shop", train, test, special, settings=settings, kept=kept)
    rows = shop_rows(heads=HEADS[:1], methods=tuple(METHODS), seeds=size.runs)
    rows += shop_rows(heads=HEADS[1:], methods=MAIN[:2])
    shown = train, test
    if judgments is not None:
        queries = esci(judgments, queries=size.queries, candidates=20)
        held = by_group(np.arange(len(queries)), (2, 1)) == 1
        shown = queries.take(np.flatnonzero(~held)), queries.take(np.flatnonzero(held))
        rows += compare.rankers(made, "esci", *shown, special, heads=("list",), methods=MAIN, settings=settings, kept=kept)
    told = examples.told(made, *shown, special, settings=settings)
    figures: dict[str, float] = {}
    for data in dict.fromkeys(row.data for row in rows):
        figures |= _gap([row for row in rows if row.data == data and row.head == "list"], f"peft_{data}")
    return {"rows": [row.to_json() for row in rows], **told}, figures


def readers(made: compare.Encoder, special: SpecialTokens, size: Size, reviews: Path | None, kept: Kept) -> Found:
    """The sentiment head by every method, on fewer reviews than the model that is kept."""
    if reviews is None:
        raise NotBrought("its data are yours to bring: --reviews, the folder with reviews.csv.gz")
    from training.sentiment.model import tokenised
    from training.sentiment.reviews import read

    found = read(reviews)
    count = sum(size.reviews)
    drawn = found.take(np.random.default_rng(0).permutation(len(found))[:count])
    part = stratified(np.arange(len(drawn)), drawn.ratings, size.reviews)
    train, valid, test = (tokenised(drawn.take(np.flatnonzero(part == i))) for i in range(3))
    settings = Settings(epochs=size.reading, batch=16, layer_decay=0.85)
    rows = compare.readers(made, train, valid, test, special, methods=MAIN, settings=settings, kept=kept)
    return {"rows": [row.to_json() for row in rows]}, _gap(rows, "peft_sentiment")


def unlabelled(made: compare.Encoder, special: SpecialTokens, size: Size, reviews: Path | None, kept: Kept) -> Found:
    """What a masked language model of reviews without labels brings where few have one."""
    if reviews is None:
        raise NotBrought("its data are yours to bring: --reviews, the folder with reviews.csv.gz")
    from training.bert.unlabelled import ADAPTED, curves
    from training.sentiment.model import tokenised
    from training.sentiment.reviews import read

    count, sizes, seeds = size.unlabelled
    found = read(reviews)
    order = np.random.default_rng(0).permutation(len(found))
    bounds = np.cumsum([count, max(sizes), size.reviews[2]])
    texts, pool, test = (tokenised(found.take(rows)) for rows in np.split(order[: bounds[-1]], bounds[:-1]))
    points = curves(
        made,
        texts,
        pool,
        test,
        special,
        sizes=sizes,
        # a thousand reviews read for two epochs give less than two hundred read for ten
        settings=Settings(epochs=3 * size.reading, batch=16, layer_decay=0.85),
        adapting=replace(masked.SETTINGS, epochs=size.reading),
        seeds=seeds,
        kept=kept,
    )
    figures: dict[str, float] = {}
    for point in points:
        if point.start == ADAPTED and point.gain is not None:
            figures |= {f"unlabelled_{point.labelled}_gain": point.gain[0], f"unlabelled_{point.labelled}_gain_low": point.gain[1]}
    return {"points": [point.to_json() for point in points]}, figures


def moved(made: compare.Encoder, scratch: compare.Encoder, special: SpecialTokens, size: Size, judgments: Path | None, kept: Kept) -> Found:
    """Half of the generated shop's departments to the other half, and the shop to real queries where they are brought."""
    settings = Settings(epochs=size.epochs, batch=4)
    source = shop(size.train, candidates=size.candidates, departments=SOURCE)
    target = shop(2 * size.pool, candidates=size.candidates, departments=TARGET)
    pool, test = target.take(np.arange(size.pool)), target.take(np.arange(size.pool, len(target)))
    halves = ("five departments of the shop", "the other five")
    runs: list[tuple[tuple[str, str], Lists, Lists, int]] = [(halves, pool, test, size.seeds[0])]
    if judgments is not None:
        queries = esci(judgments, queries=size.queries, candidates=20)
        held = by_group(np.arange(len(queries)), (1, 1)) == 1
        parts = (queries.take(np.flatnonzero(~held)), queries.take(np.flatnonzero(held)))
        runs.append((("the generated shop", "esci"), *parts, size.seeds[1]))
    points, figures = [], {}
    for names, labelled, judged, seeds in runs:
        found = transfer.curves(
            names,
            source,
            labelled,
            judged,
            special,
            pretrained=made,
            untrained=scratch,
            settings=settings,
            sizes=size.sizes,
            seeds=seeds,
            kept=kept,
        )
        points += found
        prefix = "transfer_esci" if names[1] == "esci" else "transfer"
        for point in found:
            if point.start == transfer.TRANSFERRED and point.lists:
                for other, key in ((transfer.UNTRAINED, "scratch"), (transfer.PRETRAINED, "pretrained")):
                    figures[f"{prefix}_{point.lists}_over_{key}"] = point.gains[other][0]
                    figures[f"{prefix}_{point.lists}_over_{key}_low"] = point.gains[other][1]
    return {"points": [point.to_json() for point in points]}, figures


def fusion(made: compare.Encoder, special: SpecialTokens, size: Size) -> Found:
    """Fusion where the truth is known."""
    train, test, epochs = size.fusing
    settings = Settings(epochs=epochs, batch=16, learning_rate=1e-3)  # the texts are frozen: only heads learn
    rows = fusing.measure(made, special, train=train, test=test, settings=settings)
    by = {(row.name, row.missing): row for row in rows}
    gated = {share: by["gated", share].ndcg10[0] for share in fusing.MISSING}
    figures = {
        "fusion_gated_over_best_alone": by["gated", 0.0].gain[0],
        "fusion_concatenation_over_best_alone": by["concatenation", 0.0].gain[0],
        "fusion_gated_without_images_over_text": gated[1.0] - by["text", 1.0].ndcg10[0],
        "fusion_gated_worth_of_images": gated[0.0] - gated[1.0],
    }
    return {"rows": [row.to_json() for row in rows]}, figures


def forms(made: compare.Encoder, special: SpecialTokens, size: Size, layout: Layout) -> Found:
    """A ranker trained on the generated shop in fp32, bf16 and int8."""
    every = shop(size.train + size.test, candidates=size.candidates)
    train, test = every.take(np.arange(size.train)), every.take(np.arange(size.train, len(every)))
    settings = Settings(epochs=size.epochs, batch=8)
    model, *_ = compare.trained(made(), train.pairs, [task("list")], special, settings=settings)
    rows = variants.measure(variants.served(model), layout.training / "bert-variants", test, special)
    learnt = variants.training(made, train, test, special, settings=settings, seeds=size.runs)
    figures: dict[str, float] = {}
    for row in rows:
        key = f"{row.name}_{row.runtime.replace('-', '_')}"
        figures |= {f"variant_{key}_ms": row.milliseconds, f"variant_{key}_ndcg10": row.ndcg10[0]}
    for one in learnt:
        figures |= {f"training_{one.name}_seconds_per_step": one.seconds, f"training_{one.name}_ndcg10": one.ndcg10[0]}
    return {"rows": [row.to_json() for row in rows], "training": [one.to_json() for one in learnt]}, figures


def frames() -> SpecialTokens:
    """The framing ids of the pretrained tokenizer."""
    from tokenizers import Tokenizer

    return encoder.special_tokens(Tokenizer.from_file(str(encoder.pretrained() / "tokenizer.json")))


def _gap(rows: list[compare.Tuned], key: str) -> dict[str, float]:
    """LoRA, narrow and wide, and AdaLoRA against full tuning, each by itself: the best of them would be a choice made on test lists."""
    found: dict[str, float] = {}
    for row in rows:
        if row.method in ("lora", "lora_everywhere", "adalora"):
            assert row.gain is not None  # only full tuning has none
            one = {"gap": row.gain[0], "gap_low": row.gain[1], "share": row.trainable / row.total}
            found |= {f"{key}_{row.method}_{name}": value for name, value in one.items()}
    return found

"""The big table on ads: rules, members, blends, resamplers, calibrators, ablations, and the list construction for discovery.

Everything is trained on weeks 30-40, calibrated and weighed on validation lists of one half of the households, chosen on those of the
other half, and measured on test lists, which decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter

import numpy as np

from ranking import metrics
from ranking.calibrate import sigmoid
from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.types import FloatArray
from training.imbalance.resample import resample
from training.members.contract import NO_LIST, Rows
from training.members.registry import MEMBERS as KNOWN
from training.progress import Bar
from training.toolbox import ads_blends, ads_data
from training.toolbox.ads_data import Part
from training.toolbox.ads_figures import Measured, Yardstick
from training.toolbox.ads_methods import (
    ABLATED,
    ABLATIONS,
    BASE_COLUMNS,
    BASELINE,
    FEW,
    GENERATORS,
    HEAVY,
    LIGHT,
    MEMBERS,
    PLAIN,
    RESAMPLED,
    RULES,
    SHORT,
    TUNED,
    TUNING,
    VARIED,
    WHOLE,
    Recipe,
    strength,
)
from training.toolbox.ads_trained import SEED, Tests
from training.toolbox.outcome import Kind, Outcome

DATA = "ads"
_LEARNING = 200  # validation lists of the learning curves


def measure(layout: Layout, *, quick: bool = False, threads: int = 2) -> tuple[list[Outcome], dict[str, float]]:
    """Every method's outcome, and the figures that marks are set for.

    Args:
        layout: a state directory with prepared data and features.
        quick: a fraction of the lists; shows that everything runs.
        threads: of whatever trains.

    Raises:
        FileNotFoundError: data or features are not there; the message names the command.
    """
    made = ads_data.prepare(layout, ads_data.QUICK if quick else ads_data.FULL).path
    return run({name: ads_data.load(made / name) for names in ads_data.PARTS.values() for name in names}, threads=threads)


def run(parts: Mapping[str, Part], *, threads: int = 2) -> tuple[list[Outcome], dict[str, float]]:
    """`measure` on parts that are there."""
    parts = {**parts, "short": parts["test"].some(SHORT)}
    tests = Tests(parts, threads, {name: Yardstick(parts[name]) for name in ("test", "short")})
    plain, plain_short = baseline(tests)
    for name, recipe in _known(RULES).items():
        _member(tests, name, recipe, plain_short, kind="rule")
    repeat_rule = tests.yardsticks["test"].measure(tests.logits("repeat_purchase", "test"), calibrated=False)
    with Bar("ads: members", len(MEMBERS)) as bar:
        for name, recipe in MEMBERS.items():
            _member(tests, name, recipe, plain_short)
            bar.advance()
    figures = ads_blends.measure(tests, plain, plain_short, repeat_rule)
    for name in list(tests.trained):
        tests.forget(name)
    ablations(tests)
    resamplers(tests)
    return tests.outcomes, figures


def baseline(tests: Tests) -> tuple[Measured, Measured]:
    """One LightGBM on the plain columns, the best on validation lists of those tried: on all test lists, and on the shorter part."""
    with Bar("ads: the yardstick, one tuned LightGBM", len(TUNED) + 1) as bar:
        found = []
        for options in TUNED:
            tests.train(BASELINE, Recipe("boosting", options, lists=TUNING, columns=BASE_COLUMNS))
            found.append(ads_blends.valid_ndcg(tests, tests.logits(BASELINE, "select")))
            tests.forget(BASELINE)
            bar.advance()
        options = TUNED[int(np.argmax(found))]
        tests.train(BASELINE, Recipe("boosting", options, columns=BASE_COLUMNS))
        bar.advance()
    note = f"on the {len(BASE_COLUMNS)} columns without discovery; " + ", ".join(f"{k} {v}" for k, v in options.items())
    short = outcome(tests, "member", BASELINE, None, note=note)
    calibrator = tests.calibrator(tests.logits(BASELINE, "calibrate"))
    measured = tests.yardsticks["test"].measure(calibrator(tests.logits(BASELINE, "test")), calibrated=True)
    tests.outcomes.append(Outcome(DATA, "final", f"{BASELINE}, all lists", measured.figures, tests.trained[BASELINE].seconds))
    return measured, short


def outcome(
    tests: Tests,
    kind: Kind,
    name: str,
    against: Measured | None,
    *,
    plain: str = "",
    note: str = "",
    classes: list[list[float]] | None = None,
    part: str = "short",
) -> Measured:
    """Measure a trained member on test lists, calibrated by Platt's map, and add the outcome."""
    calibrator = tests.calibrator(tests.logits(name, "calibrate"))
    p = calibrator(tests.logits(name, part))
    measured = tests.yardsticks[part].measure(p, calibrated=True, against=against)
    curves = tests.yardsticks[part].curves(p, calibrated=True)
    if kind in ("rule", "member"):
        measured.figures["all"]["ndcg10_validation"] = [round(ads_blends.valid_ndcg(tests, tests.logits(name, "select")), 5), None, None]
        if learning := tests.trained[name].learning(tests.parts["select"].some(_LEARNING)):
            curves["learning/NDCG@10 on validation lists"] = learning
    if classes is not None:
        curves["classes"] = classes
    tests.outcomes.append(Outcome(DATA, kind, name, measured.figures, round(tests.trained[name].seconds, 2), plain, curves, note))
    return measured


def ablations(tests: Tests) -> None:
    """Boosted trees without a group of columns, against those with all."""
    whole = "all columns"
    recipe = replace(MEMBERS[WHOLE], lists=ABLATED)
    with Bar("ads: ablations", 1 + len(ABLATIONS)) as bar:
        tests.train(whole, recipe)
        against = outcome(tests, "ablation", whole, None, note=f"{ABLATED} training lists")
        tests.forget(whole)
        bar.advance()
        for group, left_out in ABLATIONS.items():
            name, kept = f"without {group}", tuple(c for c in MODEL_COLUMNS if c not in left_out)
            if len(kept) < len(MODEL_COLUMNS):
                tests.train(name, replace(recipe, columns=kept))
                note = f"{len(MODEL_COLUMNS) - len(kept)} of {len(MODEL_COLUMNS)} columns left out"
                outcome(tests, "ablation", name, against, plain=whole, note=note)
                tests.forget(name)
            bar.advance()


def resamplers(tests: Tests) -> None:
    """Boosted trees on training rows of a few lists, rebalanced by every method; the heavy ones on fewer."""
    for methods, lists, plain in ((LIGHT, RESAMPLED, PLAIN), (HEAVY, FEW, f"{PLAIN}, fewer rows")):
        part = tests.parts["train"].some(lists)
        with Bar(f"ads: resampling {len(part.labels)} rows of {len(part)} lists", 1 + len(methods)) as bar:
            against = _resampled(tests, part, PLAIN, plain, None, "")
            bar.advance()
            for method in methods:
                _resampled(tests, part, method, method, against, plain)
                bar.advance()


def _resampled(tests: Tests, part: Part, method: str, name: str, against: Measured | None, plain: str) -> Measured | None:
    labels = np.asarray(part.labels)
    start = perf_counter()
    try:
        made = resample(method, np.asarray(part.x), labels, strength=strength(method), seed=SEED, options=GENERATORS.get(method))
    except ValueError as error:  # methods say in words what they lack, such as neighbours
        tests.outcomes.append(Outcome(DATA, "resampler", name, {}, 0.0, plain, note=f"failed: {error}"))
        return None
    took = perf_counter() - start
    lists = np.where(made.source >= 0, part.owners()[made.source], NO_LIST)
    thinned = float(np.log(part.negatives_rate))
    trained = tests.keep(name, Rows(made.features, made.labels, made.weights, lists), VARIED, thinned + made.offset)
    tests.trained[name] = replace(trained, seconds=trained.seconds + took)
    classes = [[float(c), float((labels == c).sum()), float(made.weights[made.labels == c].sum())] for c in (0, 1)]
    corrected, raw = (_ratio(tests, tests.logits(name, "short") - shift) for shift in (0.0, made.offset))
    note = f"{len(labels)} rows; predicted over actual {raw:.2f} as trained, {corrected:.2f} with the prior put back"
    measured = outcome(tests, "resampler", name, against, plain=plain, note=note, classes=classes)
    tests.forget(name)
    return measured


def _member(tests: Tests, name: str, recipe: Recipe, plain: Measured, *, kind: Kind = "member") -> None:
    tests.train(name, recipe)
    used = [f"{recipe.lists} training lists"] * bool(recipe.lists) + [f"{len(tests.parts['short'])} test lists"]
    outcome(tests, kind, name, plain, plain=BASELINE, note=", ".join(used))


def _known(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """Those whose columns the schema has: the rule of discovery came with them."""
    return {name: r for name, r in recipes.items() if name in KNOWN and (name != "discovery" or name in MODEL_COLUMNS)}


def _ratio(tests: Tests, logits: FloatArray) -> float:
    return metrics.predicted_over_actual(sigmoid(logits), np.asarray(tests.parts["short"].labels))

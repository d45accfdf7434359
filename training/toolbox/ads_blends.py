"""Blends of the ads members, the choice among them, its calibration, and the list construction that keeps room for discovery.

Weights are fitted on weeks after those the members were trained on: out of time, though the households are the same; the members'
Platt maps, two numbers each, are of the same rows as the weights. The weighted average is searched on lists that kept a share of their
negatives, which makes near-ties nearer.

What is chosen is chosen on validation lists; the figures that marks are set for are those of the choice on test lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.blend import BlendSpec, blend
from ranking.calibrate import Calibrator, logit
from ranking.features import RELATIONS
from ranking.fuse import FUSIONS
from ranking.metrics import paired_bootstrap_interval
from ranking.types import TIERS, FloatArray
from training.blends import selection
from training.blends.weighing import BLENDS, Evidence, Weights
from training.progress import Bar
from training.release.policies import discovery, ordered
from training.toolbox.ads_figures import Measured, thinned_row
from training.toolbox.ads_methods import BASELINE, BLENDED, ENOUGH_NEW, SHARES
from training.toolbox.ads_trained import SEED, Tests, TierCalibrator, grouped, spans
from training.toolbox.outcome import GAIN, Outcome

FINAL = "the choice"
_HOLDS = 0.1  # what predicted over actual of a tier may be off
_ALIKE = 0.001  # normalised entropies that differ by less tell nothing apart
_DRAWS = 40  # weights tried by the weighted average


@dataclass(frozen=True, slots=True)
class Pool:
    """Members and what each counts: their pooled log-odds, not calibrated yet."""

    members: tuple[str, ...]
    weights: Weights
    calibrators: tuple[Calibrator, ...]

    def logits(self, tests: Tests, part: str) -> FloatArray:
        """(N,) pooled log-odds of a part, by `ranking.blend`, some lists at a time."""
        used = [i for i in range(len(self.members)) if any(self.weights[tier][i] for tier in TIERS)]  # the others need not score
        names, calibrators = (tuple(values[i] for i in used) for values in (self.members, self.calibrators))
        spec = BlendSpec(names, {tier: tuple(self.weights[tier][i] for i in used) for tier in TIERS}, calibrators)
        members = [tests.logits(name, part) for name in names]
        tiers, out = np.asarray(tests.parts[part].tiers), np.empty(len(tests.parts[part].labels))
        for rows in tests.parts[part].chunks():
            out[rows] = logit(blend(spec, np.stack([m[rows] for m in members]), tiers[rows]).probabilities)
        return out


def measure(tests: Tests, plain: Measured, plain_short: Measured, repeat_rule: Measured) -> dict[str, float]:
    """Add the outcomes of blends, calibrators, the choice and its list construction.

    Args:
        tests: with the members trained.
        plain: the yardstick on all test lists,
        plain_short: and on those that each method is measured on.
        repeat_rule: the household's repeat rule on all test lists.

    Returns:
        The ``ads_*`` figures.
    """
    pools = {name: Pool((name,), dict.fromkeys(TIERS, (1.0,)), (Calibrator(),)) for name in tests.trained if name in BLENDED}
    made = _pools(tests)
    with Bar("ads: blends", len(made) + 1) as bar:
        for name, pool in made.items():
            _blended(tests, name, pool, plain_short)
            bar.advance()
        _fused(tests, plain_short)
        bar.advance()
    pools |= made
    chosen = _chosen(tests, pools)
    kind, calibrator = _calibrated(tests, pools[chosen])
    return _final(tests, chosen, pools[chosen], kind, calibrator, plain, repeat_rule)


def valid_ndcg(tests: Tests, scores: FloatArray) -> float:
    """Mean NDCG@10 on the validation lists that methods are chosen on."""
    return float(np.nanmean(_ndcg(tests, "select", scores)))


def _chosen(tests: Tests, pools: Mapping[str, Pool]) -> str:
    """Of the pools that order validation lists as well as the best one, as far as can be told, that with the least normalised entropy."""
    part = tests.parts["select"]
    per_list, entropy = {}, {}
    for name, pool in pools.items():
        z = pool.logits(tests, "select")
        per_list[name] = _ndcg(tests, "select", z)
        calibrated = tests.calibrator(pool.logits(tests, "calibrate"))(z)
        entropy[name] = metrics.normalized_entropy(calibrated, np.asarray(part.labels))
    best = max(per_list, key=lambda name: float(np.nanmean(per_list[name])))
    alike = [n for n in pools if not paired_bootstrap_interval(per_list[best], per_list[n], SEED, n=1000, groups=part.households).low > 0.0]
    return min(alike, key=lambda name: entropy[name])


def _pools(tests: Tests) -> dict[str, Pool]:
    """One pool per way of weighing the members, from the first half of the calibration rows."""
    part, half = tests.parts["calibrate"], tests.first_half()
    names = tuple(name for name in BLENDED if name in tests.trained)
    raw = {name: tests.logits(name, "calibrate") for name in names}
    calibrators = tuple(tests.calibrator(raw[name]) for name in names)
    thinned = -float(np.log(part.negatives_rate))  # what dropping negatives added: weights are fitted on the rows as they are
    z = np.stack([logit(c(raw[name][half])) + thinned for name, c in zip(names, calibrators, strict=True)])
    labels, tiers = np.asarray(part.labels)[half], np.asarray(part.tiers)[half]
    evidence = Evidence(names, z, labels, lambda: z)  # out of time, see above
    configs = {
        "equal": {},
        "weighted": {"weights": _searched(tests, names, z)},
        "per_tier": {"tier_weights": _of_tiers(names, z, labels, tiers)},
        "stacking": {},
        "caruana": {},
    }
    return {name: Pool(names, BLENDS[name](evidence, config).weights, calibrators) for name, config in configs.items()}


def _searched(tests: Tests, names: tuple[str, ...], z: FloatArray) -> dict[str, float]:
    """The weights with the best NDCG@10 of some drawn at random, equal ones and each member alone among them."""
    part, half = tests.parts["calibrate"], tests.first_half()
    sizes = np.diff(part.offsets)[~np.asarray(part.second)]
    offsets, labels = np.concatenate(([0], np.cumsum(sizes))), np.asarray(part.labels, float)[half]
    drawn = np.random.default_rng(SEED).dirichlet(np.ones(len(names)), _DRAWS)
    tried = np.concatenate([np.eye(len(names)), np.full((1, len(names)), 1.0 / len(names)), drawn])
    found = [float(np.nanmean(metrics.ndcg_of_lists(w @ z, labels, offsets, k=10))) for w in tried]
    return dict(zip(names, tried[int(np.argmax(found))].tolist(), strict=True))


def _of_tiers(names: tuple[str, ...], z: FloatArray, labels: FloatArray, tiers: FloatArray) -> dict[str, dict[str, float]]:
    """Weights of each tier by forward selection on its rows."""
    out = {}
    for code, tier in enumerate(TIERS):
        rows = tiers == code
        shares = selection.forward(z[:, rows], labels[rows]) if labels[rows].any() else (1.0,) * len(names)
        out[tier] = dict(zip(names, shares, strict=True))
    return out


def _blended(tests: Tests, name: str, pool: Pool, plain: Measured) -> None:
    final = tests.calibrator(pool.logits(tests, "calibrate"))
    p = final(pool.logits(tests, "short"))
    measured = tests.yardsticks["short"].measure(p, calibrated=True, against=plain)
    measured.figures["all"]["ndcg10_validation"] = [round(valid_ndcg(tests, pool.logits(tests, "select")), 5), None, None]
    told = "; ".join(
        f"{tier}: "
        + ", ".join(f"{m} {w / sum(pool.weights[tier]):.2f}" for m, w in zip(pool.members, pool.weights[tier], strict=True) if w)
        for tier in (TIERS if name == "per_tier" else TIERS[:1])
    )
    seconds = sum(tests.trained[m].seconds for m in pool.members)
    curves = tests.yardsticks["short"].curves(p, calibrated=True)
    tests.outcomes.append(Outcome("ads", "blend", name, measured.figures, round(seconds, 2), BASELINE, curves, told))


def _fused(tests: Tests, plain: Measured) -> None:
    """Rank and score fusions: orders without probabilities."""
    names = [name for name in BLENDED if name in tests.trained]
    part = tests.parts["short"]
    z = np.stack([tests.logits(name, "short") for name in names])
    seconds = round(sum(tests.trained[m].seconds for m in names), 2)
    note = "an order only: it has no probabilities, so ads cannot use it alone"
    for name, fuse in FUSIONS.items():
        out = np.concatenate([fuse(z[:, rows]) for rows in spans(part)])
        measured = tests.yardsticks["short"].measure(out, calibrated=False, against=plain)
        tests.outcomes.append(Outcome("ads", "blend", name, measured.figures, seconds, BASELINE, {}, note))


def _calibrated(tests: Tests, pool: Pool) -> tuple[str, Calibrator | TierCalibrator]:
    """Compare calibrators of one pool and take one, fitted again on both halves.

    Of those whose predicted over actual holds in every tier on the households they were not fitted on, and whose normalised entropy on
    validation lists is as good as the least, the one whose sum is least off; where none holds, the one that is least off in its worst tier.
    """
    logits = {part: pool.logits(tests, part) for part in ("calibrate", "select", "short", "test_weeks")}
    kinds = ("platt", "isotonic", "temperature")
    made: dict[str, Calibrator | TierCalibrator] = {"none": Calibrator()}
    made |= {kind: tests.calibrator(logits["calibrate"], kind=kind) for kind in kinds}
    made["platt per tier"] = tests.by_tier(logits["calibrate"])
    entropy, off = {}, {}
    with Bar("ads: calibrators", len(made)) as bar:
        for name, calibrator in made.items():
            p = {part: grouped(calibrator, z, np.asarray(tests.parts[part].tiers)) for part, z in logits.items()}
            off[name] = _off(tests, p["calibrate"])
            entropy[name] = metrics.normalized_entropy(p["select"], np.asarray(tests.parts["select"].labels))
            figures = tests.yardsticks["short"].measure(p["short"], calibrated=True).figures
            _add_weeks(figures, thinned_row(p["test_weeks"], tests.parts["test_weeks"]))
            curves = {n: c for n, c in tests.yardsticks["short"].curves(p["short"], calibrated=True).items() if n.startswith("calibration")}
            tests.outcomes.append(Outcome("ads", "calibrator", name, figures, 0.0, "" if name == "none" else "none", curves))
            bar.advance()
    sound = [name for name in made if off[name][1] <= _HOLDS] or [min(made, key=lambda name: off[name][1])]
    least = min(entropy[name] for name in sound)
    best = min((name for name in sound if entropy[name] <= least + _ALIKE), key=lambda name: off[name][0])
    every = np.ones(len(tests.parts["calibrate"].labels), bool)
    if best == "none":
        return best, Calibrator()
    if best == "platt per tier":
        return best, tests.by_tier(logits["calibrate"], rows=every)
    return best, tests.calibrator(logits["calibrate"], kind=best, rows=every)


def _off(tests: Tests, p: FloatArray) -> tuple[float, float]:
    """How far predicted over actual is from 1, overall and in the worst tier, on the half of `calibrate` no calibrator was fitted on."""
    part, half = tests.parts["calibrate"], ~tests.first_half()
    labels, tiers = np.asarray(part.labels), np.asarray(part.tiers)
    weights = np.where(labels == 1, 1.0, 1.0 / part.negatives_rate)
    groups = [half, *(half & (tiers == code) for code in range(len(TIERS)))]
    ratios = [(p[rows] @ weights[rows]) / labels[rows].sum() for rows in groups if labels[rows].any()]
    distances = np.abs(np.array(ratios) - 1.0)
    return float(distances[0]), float(distances.max())


def _final(
    tests: Tests, name: str, pool: Pool, kind: str, calibrator: Calibrator | TierCalibrator, plain: Measured, repeat_rule: Measured
) -> dict[str, float]:
    p = {
        part: grouped(calibrator, pool.logits(tests, part), np.asarray(tests.parts[part].tiers))
        for part in ("select", "test", "test_weeks")
    }
    measured = tests.yardsticks["test"].measure(p["test"], calibrated=True, against=plain)
    weeks = thinned_row(p["test_weeks"], tests.parts["test_weeks"])
    _add_weeks(measured.figures, weeks)
    seconds = round(sum(tests.trained[m].seconds for m in pool.members), 2)
    note = (
        f"{name}, calibrated by {kind}: of what orders validation lists as well as the best, the least normalised entropy; of the "
        "calibrators that keep each tier's sum and do as well, the one that keeps the whole best"
    )
    curves = tests.yardsticks["test"].curves(p["test"], calibrated=True)
    tests.outcomes.append(Outcome("ads", "final", FINAL, measured.figures, seconds, f"{BASELINE}, all lists", curves, note))

    share, room = _room(tests, p["select"], p["test"], plain)
    told = f"first 10 of {FINAL}, then at least {share:.0%} of places 11 to 50 for what the household never bought; probabilities unchanged"
    tests.outcomes.append(Outcome("ads", "final", "discovery floor", room.figures, seconds, f"{BASELINE}, all lists", {}, told))

    ours, theirs = measured.per_list["ndcg10"], repeat_rule.per_list["ndcg10"]
    over_rule = paired_bootstrap_interval(ours, theirs, SEED, n=1000, groups=tests.parts["test"].households)
    row, gain = measured.figures["all"], measured.figures["all"]["ndcg10" + GAIN]
    found = {
        "ads_ndcg10": row["ndcg10"][0],
        "ads_ndcg10_gain": gain[0],
        "ads_ndcg10_gain_low": gain[1],
        "ads_ndcg10_over_repeat_rule_low": round(float(over_rule.low), 5),
        "ads_recall50_new": room.figures["all"]["recall50_new"][0],
        "ads_recall50_new_without_floor": row["recall50_new"][0],
        "ads_ne": row["ne"][0],
        **{
            f"ads_predicted_over_actual{'' if group == 'all' else f'_{group}'}": weeks.get(group, {}).get("predicted_over_actual", [None])[
                0
            ]
            for group in ("all", *TIERS)
        },
    }
    return {key: value for key, value in found.items() if value is not None}


def _room(tests: Tests, valid: FloatArray, test: FloatArray, plain: Measured) -> tuple[float, Measured]:
    """The least room that finds enough new positives on validation lists, measured on test lists, in the order of a served policy."""
    select, part = tests.parts["select"], tests.parts["test"]
    labels, new = np.asarray(select.labels, float), ~np.asarray(select.repeat)
    share = SHARES[-1]
    for tried in SHARES:
        if (
            float(np.nanmean(metrics.recall_of_lists(_with_room(valid, ~new, select.offsets, tried), labels * new, select.offsets, k=50)))
            >= ENOUGH_NEW
        ):
            share = tried
            break
    room = _with_room(test, np.asarray(part.repeat), part.offsets, share)
    return share, tests.yardsticks["test"].measure(room, calibrated=False, against=plain)


def _with_room(scores: FloatArray, repeat: NDArray[np.bool_], offsets: NDArray[np.int64], share: float) -> FloatArray:
    """Scores in the order of the policy `discovery`, with this share of the places behind the first ten for what is new."""
    policy = discovery(1.0 - share)
    relation = np.where(repeat, RELATIONS.index("own"), RELATIONS.index("other"))
    return ordered(policy, scores, offsets, {"relation": relation}, policy.page_length)


def _add_weeks(figures: dict[str, dict[str, list[float | None]]], weeks: dict[str, dict[str, list[float | None]]]) -> None:
    for group, row in weeks.items():
        figures.setdefault(group, {}).update({f"all_weeks_{metric}": value for metric, value in row.items() if metric != "positives"})


def _ndcg(tests: Tests, name: str, scores: FloatArray) -> FloatArray:
    part = tests.parts[name]
    return metrics.ndcg_of_lists(scores, np.asarray(part.labels, float), part.offsets, k=10)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ranking.metrics import ndcg_at_k
from training.imbalance import list_losses
from training.imbalance.losses import LOSSES, balanced_weights, deferred_weights, effective_number, focal, ldam
from training.imbalance.optimisers import OPTIMISERS, optimiser

COUNTS = torch.tensor([900, 90, 10])
BINARY_COUNTS = torch.tensor([90, 10])
RNG = np.random.default_rng(0)
ROWS = torch.from_numpy(RNG.normal(size=(7, 3)))
CLASSES = torch.tensor([0, 1, 2, 0, 0, 1, 2])
LOG_ODDS = torch.from_numpy(RNG.normal(size=6))
CLICKS = torch.tensor([0, 1, 0, 0, 1, 1])
LISTS = torch.from_numpy(RNG.normal(size=(3, 5)))
GAINS = torch.tensor([[2.0, 0, 1, 0, 0], [0, 0, 1, 3, 0], [0, 1, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], dtype=torch.bool)

CASES: dict[str, list[tuple[Tensor, Tensor, dict[str, Any]]]] = {
    "bce": [(LOG_ODDS, CLICKS, {})],
    "weighted_bce": [(LOG_ODDS, CLICKS, {"positive_weight": 7.0})],
    "focal": [(ROWS, CLASSES, {}), (LOG_ODDS, CLICKS, {"gamma": 0.5, "weights": torch.tensor([0.25, 0.75])})],
    "class_balanced": [(ROWS, CLASSES, {"counts": COUNTS}), (LOG_ODDS, CLICKS, {"counts": BINARY_COUNTS, "gamma": 2.0})],
    "logit_adjusted": [(ROWS, CLASSES, {"counts": COUNTS, "tau": 1.5}), (LOG_ODDS, CLICKS, {"counts": BINARY_COUNTS})],
    "balanced_softmax": [(ROWS, CLASSES, {"counts": COUNTS})],
    "ldam": [(ROWS, CLASSES, {"counts": COUNTS, "scale": 30.0}), (LOG_ODDS, CLICKS, {"counts": BINARY_COUNTS})],
    "list_cross_entropy": [(LISTS, torch.tensor([0, 3, 1]), {"mask": MASK})],
    "softmax": [(LISTS, GAINS, {"mask": MASK})],
    "pairwise": [(LISTS, GAINS, {"mask": MASK})],
    "lambda": [(LISTS, GAINS, {"mask": MASK}), (LISTS, GAINS, {"k": 2, "gains": "exponential"})],
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_finite_differences(name: str) -> None:
    """Every loss is a finite scalar whose slope in every logit is that of central differences."""
    for logits, targets, options in CASES[name]:
        loss: Callable[[Tensor], Tensor] = lambda z, t=targets, o=options: LOSSES[name](z, t, **o)  # noqa: E731 (a name for the type)
        z = logits.clone().requires_grad_()
        value = loss(z)
        assert value.ndim == 0
        assert torch.isfinite(value)
        value.backward()
        step = 1e-6
        for place in np.ndindex(*logits.shape):
            up, down = logits.clone(), logits.clone()
            up[place] += step
            down[place] -= step
            assert z.grad[place].item() == pytest.approx(((loss(up) - loss(down)) / (2 * step)).item(), abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_stay_finite(name: str, size: float) -> None:
    """Neither a loss nor its gradient overflows, however sure the model is."""
    for logits, targets, options in CASES[name]:
        z = (size * logits.float()).requires_grad_()
        value = LOSSES[name](z, targets, **options)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(z.grad).all()


def test_binary_losses_by_hand() -> None:
    """One positive at log-odds z: ln(1 + e^-z), times its weight, times (1 − p)^γ."""
    z, y = torch.tensor([0.7], dtype=torch.float64), torch.tensor([1])
    p = 1 / (1 + np.exp(-0.7))
    assert LOSSES["bce"](z, y).item() == pytest.approx(-np.log(p))
    assert LOSSES["weighted_bce"](z, y, positive_weight=4.0).item() == pytest.approx(-4 * np.log(p))
    assert focal(z, y, gamma=2.0).item() == pytest.approx(-((1 - p) ** 2) * np.log(p))
    assert focal(z, y * 0, gamma=2.0, weights=torch.tensor([0.25, 0.75])).item() == pytest.approx(-0.25 * p**2 * np.log(1 - p))


def test_focal_without_focus_is_cross_entropy() -> None:
    """With γ = 0 the focal loss is cross-entropy, of classes and of log-odds."""
    torch.testing.assert_close(focal(ROWS, CLASSES, gamma=0.0), torch.nn.functional.cross_entropy(ROWS, CLASSES))
    torch.testing.assert_close(focal(LOG_ODDS, CLICKS, gamma=0.0), LOSSES["bce"](LOG_ODDS, CLICKS))


@pytest.mark.parametrize("n", [10, 100, 1000, 5000])
def test_effective_numbers_are_the_sum_of_shrinking_rows(n: int) -> None:
    """(1 − βⁿ)/(1 − β) = 1 + β + … + βⁿ⁻¹: 9.9551 for 10 rows at β = .999."""
    want = sum(0.999**i for i in range(n))
    assert effective_number(torch.tensor([n])).item() == pytest.approx(want, rel=1e-9)
    published = {10: 9.9551, 100: 95.2079, 1000: 632.3045, 5000: 993.2789}
    assert want == pytest.approx(published[n], abs=1e-4)


def test_class_balanced_weights_run_from_equal_to_inverse_frequency() -> None:
    """Mean 1 always; β = 0 weighs classes alike, β near 1 by the inverse of their rows."""
    torch.testing.assert_close(balanced_weights(COUNTS, 0.0), torch.ones(3, dtype=torch.float64))
    inverse = 1 / COUNTS.double()
    torch.testing.assert_close(balanced_weights(COUNTS, 1 - 1e-9), 3 * inverse / inverse.sum(), rtol=1e-4, atol=0)
    weights = balanced_weights(COUNTS, 0.99)
    by_hand = -(weights[CLASSES] * torch.log_softmax(ROWS, 1)[torch.arange(7), CLASSES]).mean()
    torch.testing.assert_close(LOSSES["class_balanced"](ROWS, CLASSES, counts=COUNTS, beta=0.99), by_hand)


def test_balanced_softmax_weighs_classes_by_their_rows() -> None:
    """−ln(n_y e^f_y / Σ n_j e^f_j), and logit adjustment with τ = 1 is the same; for log-odds it moves z by ln(n₁/n₀)."""
    e = COUNTS * torch.exp(ROWS)
    want = -torch.log(e[torch.arange(7), CLASSES] / e.sum(dim=1)).mean()
    torch.testing.assert_close(LOSSES["balanced_softmax"](ROWS, CLASSES, counts=COUNTS), want)
    torch.testing.assert_close(LOSSES["logit_adjusted"](ROWS, CLASSES, counts=COUNTS), want)
    moved = LOSSES["bce"](LOG_ODDS + np.log(10 / 90), CLICKS)
    torch.testing.assert_close(LOSSES["logit_adjusted"](LOG_ODDS, CLICKS, counts=BINARY_COUNTS), moved)


def test_logit_adjustment_learns_scores_without_the_prior() -> None:
    """Minimised over one constant logit per class, what is left is the same for every class: the prior went into the adjustment."""
    classes = torch.repeat_interleave(torch.arange(3), COUNTS)
    f = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    LOSSES["logit_adjusted"](f.expand(len(classes), 3), classes, counts=COUNTS).backward()
    torch.testing.assert_close(f.grad, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_ldam_margins_fall_with_the_fourth_root() -> None:
    """Δ_j ∝ n_j^(−1/4), the rarest class at the largest margin: with it the loss is cross-entropy of the lowered logit."""
    margins = 0.5 * (10 / COUNTS.double()) ** 0.25
    lowered = ROWS.clone()
    for i, c in enumerate(CLASSES):
        lowered[i, c] -= margins[c]
    want = torch.nn.functional.cross_entropy(30 * lowered, CLASSES)
    torch.testing.assert_close(ldam(ROWS, CLASSES, counts=COUNTS, scale=30.0), want)


def test_reweighting_is_deferred() -> None:
    """Before its epoch all classes weigh alike, from then on by effective numbers; LDAM multiplies each row's loss by it."""
    torch.testing.assert_close(deferred_weights(COUNTS, epoch=3, start=4), torch.ones(3, dtype=torch.float64))
    later = deferred_weights(COUNTS, epoch=4, start=4)
    torch.testing.assert_close(later, balanced_weights(COUNTS, 0.9999))
    one = ldam(ROWS[:1], CLASSES[:1], counts=COUNTS)
    torch.testing.assert_close(ldam(ROWS[:1], CLASSES[:1], counts=COUNTS, weights=later), one * later[0])


@pytest.mark.parametrize(
    ("beta", "counts", "message"), [(1.0, COUNTS, "beta: must be in"), (0.9, torch.tensor([3, 0]), "counts: class 1 has no row")]
)
def test_weights_that_do_not_exist_are_refused(beta: float, counts: Tensor, message: str) -> None:
    """β = 1 and a class without rows are named."""
    with pytest.raises(ValueError, match=message):
        balanced_weights(counts, beta)


def test_list_losses_by_hand() -> None:
    """Two items, the second better: each loss is the formula's one term."""
    s, y = torch.tensor([[0.3, -0.2]], dtype=torch.float64), torch.tensor([[0.0, 1.0]])
    pair = np.log1p(np.exp(0.3 - -0.2))
    assert LOSSES["list_cross_entropy"](s, torch.tensor([1])).item() == pytest.approx(pair)
    assert LOSSES["softmax"](s, 3 * y).item() == pytest.approx(pair)
    assert LOSSES["pairwise"](s, y).item() == pytest.approx(pair)
    assert LOSSES["lambda"](s, y).item() == pytest.approx(pair * (1 - 1 / np.log2(3)))


@settings(max_examples=60)
@given(
    gains=st.lists(st.integers(0, 3), min_size=3, max_size=6).filter(lambda g: max(g) > 0),
    data=st.data(),
    k=st.one_of(st.none(), st.integers(1, 4)),
)
def test_lambda_weights_are_what_a_swap_costs(gains: list[int], data: st.DataObject, k: int | None) -> None:
    """Each pair weighs as much as NDCG@k, measured by the platform's own metric, changes when its two items swap places."""
    n = len(gains)
    order = data.draw(st.permutations(range(n)))
    scores, y = np.array(order, np.float64), np.array(gains, np.float64)
    want = 0.0
    for i in range(n):
        for j in range(n):
            if y[i] > y[j]:
                swapped = scores.copy()
                swapped[[i, j]] = swapped[[j, i]]
                change = abs(ndcg_at_k(scores, y, k=k or n) - ndcg_at_k(swapped, y, k=k or n))
                want += change * np.log1p(np.exp(scores[j] - scores[i]))
    got = LOSSES["lambda"](torch.from_numpy(scores)[None], torch.from_numpy(y)[None], k=k)
    assert got.item() == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("name", ["softmax", "pairwise", "lambda", "list_cross_entropy"])
def test_padding_says_nothing(name: str) -> None:
    """A list's loss is the same whatever stands in its padding, and the padding gets no gradient."""
    targets = torch.tensor([0, 3, 1]) if name == "list_cross_entropy" else GAINS
    noisy = LISTS.masked_fill(~MASK, torch.nan).requires_grad_()
    other = targets if name == "list_cross_entropy" else targets.masked_fill(~MASK, torch.nan)
    value = LOSSES[name](noisy, other, mask=MASK)
    each = [LOSSES[name](LISTS[i, m][None], targets[i][None] if targets.ndim == 1 else targets[i, m][None]) for i, m in enumerate(MASK)]
    torch.testing.assert_close(value, torch.stack(each).mean())
    value.backward()
    assert (noisy.grad[~MASK] == 0).all()
    assert torch.isfinite(noisy.grad).all()


@pytest.mark.parametrize("loss", [list_losses.softmax, list_losses.pairwise, list_losses.lambda_loss])
def test_a_list_with_nothing_to_teach_counts_nothing(loss: Callable[..., Tensor]) -> None:
    """Lists without a positive, or without an item, change neither loss nor gradient; a batch of only such lists gives 0."""
    one = loss(LISTS[:1], GAINS[:1])
    mask = torch.tensor([[True] * 5, [True] * 5, [False] * 5])
    gains = torch.stack([GAINS[0], torch.zeros(5), torch.ones(5)])
    z = LISTS.clone().requires_grad_()
    value = loss(z, gains, mask=mask)
    torch.testing.assert_close(value, one)
    value.backward()
    assert (z.grad[1:] == 0).all()
    assert loss(LISTS, torch.zeros(3, 5)).item() == 0.0


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_by_name_descend(name: str) -> None:
    """Each optimiser brings a simple loss down."""
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    steps = optimiser(name, [weight], learning_rate=0.1)
    for _ in range(50):
        steps.zero_grad()
        weight.square().sum().backward()
        steps.step()
    assert weight.abs().item() < 2.5


def test_adagrad_steps_are_the_rate_over_the_root_of_all_squares() -> None:
    """The second step of AdaGrad is lr·g₂/√(g₁² + g₂²)."""
    weight = torch.nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
    steps = optimiser("adagrad", [weight], learning_rate=0.5)
    for gradient in (3.0, 4.0):
        before = weight.item()
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        steps.step()
    assert before - weight.item() == pytest.approx(0.5 * 4 / np.sqrt(3**2 + 4**2))


def test_an_unknown_optimiser_is_named() -> None:
    """A name that is not known is refused with those that are."""
    with pytest.raises(ValueError, match="optimiser: 'sgdx' is not known; known: adamw, adagrad"):
        optimiser("sgdx", [], learning_rate=0.1)


@pytest.mark.parametrize("name", ["class_balanced", "logit_adjusted", "balanced_softmax", "ldam"])
def test_a_class_without_rows_is_refused(name: str) -> None:
    """Its prior, margin and weight would be infinite or no number."""
    with pytest.raises(ValueError, match="counts: class 1 has no row"):
        LOSSES[name](ROWS, CLASSES, counts=torch.tensor([900, 0, 10]))

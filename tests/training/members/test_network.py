from __future__ import annotations

import numpy as np
import pytest
import torch

from ranking.metrics import roc_auc
from tests.training.members.planted import QUICK, planted
from training.imbalance.losses import LOSSES
from training.imbalance.optimisers import OPTIMISERS
from training.members import network
from training.members.contract import Rows
from training.members.registry import train


def quick(rows: Rows, **options: object) -> np.ndarray:
    return train("neural", rows, seed=0, options=QUICK["neural"] | options).logits(planted(seed=1).features)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_it(loss: str) -> None:
    """Losses of rows and of lists alike put positives above negatives."""
    assert roc_auc(quick(planted(), loss=loss), planted(seed=1).labels) > 0.6


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_trains_it(name: str) -> None:
    """Adaptive optimisers by name; AdaGrad takes longer steps, as its shrink."""
    rate = {"adagrad": 0.1}.get(name, 1e-2)
    assert roc_auc(quick(planted(), optimiser=name, learning_rate=rate), planted(seed=1).labels) > 0.6


def test_deferred_weights_set_in_when_they_are_told_to() -> None:
    """LDAM without deferral, with it, and deferred past the end are three different trainings until the last equals no weights."""
    rows = planted()
    early, late, never = (quick(rows, loss="ldam", deferred=share) for share in (0.0, 0.5, 1.0))
    assert not np.allclose(early, late)
    assert not np.allclose(late, never)
    assert early.mean() > never.mean()  # balanced weights raise the rare class


def test_the_head_can_be_trained_again_on_balanced_embeddings() -> None:
    """Decoupled training changes the last layer and keeps predictions at the share of positives."""
    rows = planted(lists=100)
    plain, balanced = quick(rows), quick(rows, decoupled="random_over")
    assert not np.allclose(plain, balanced)
    assert (1 / (1 + np.exp(-balanced))).mean() == pytest.approx(rows.labels.mean(), rel=0.35)


def test_each_positive_is_chosen_among_the_negatives_of_its_list() -> None:
    """Multi-class cross-entropy over lists: a list with two positives is two choices, neither of which sees the other."""
    logits = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    of, chosen, shown = network._choices(logits, torch.tensor([[1, 0, 1, 0]]), torch.tensor([[True, True, True, False]]))
    assert of.tolist() == [[1.0, 2.0, 3.0, 0.0]] * 2
    assert chosen.tolist() == [0, 2]
    assert shown.tolist() == [[True, True, False, False], [False, True, True, False]]


def test_lists_that_teach_nothing_are_left_out_and_batches_stay_small() -> None:
    """Whole lists only, none without a positive or a negative, and no batch of more padded items than fit."""
    rows = planted(lists=300, length=30)
    taught = [i for i in range(300) if 0 < rows.labels[rows.lists == i].sum() < 30]
    seen: list[int] = []
    spans = network._lists(rows, "softmax", torch.zeros(len(rows.labels), 1))

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return x

    shares = [share for _, share in spans(Spy(), torch.Generator().manual_seed(0), {})]
    assert sum(seen) == 30 * len(taught)
    assert max(seen) <= network._BATCH_OF_LISTS
    assert sum(shares) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "neural.loss: 'hinge' is not known; known: bce"),
        ({"loss": "focal", "loss_options": {"gama": 1.0}}, "neural.loss_options.gama: unknown option of focal; known: gamma"),
        ({"optimiser": "sgd"}, "optimiser: 'sgd' is not known"),
        ({"decoupled": "smoot"}, "resampler: 'smoot' is not known"),
    ],
)
def test_unknown_names_are_named(options: dict[str, object], message: str) -> None:
    """A loss, a loss's option, an optimiser or a resampler nobody knows is named with those that are known."""
    with pytest.raises(ValueError, match=message):
        quick(planted(), **options)


def test_row_weights_go_with_one_loss_only() -> None:
    """Only the loss that divides by rows has a meaning for a row's weight; the others refuse it."""
    rows = planted()
    weighted = Rows(rows.features, rows.labels, np.where(rows.labels == 1, 4.0, 1.0).astype(np.float32), rows.lists)
    assert quick(weighted).mean() > quick(rows).mean()  # heavier positives, higher scores
    with pytest.raises(ValueError, match="neural with loss focal takes no row weights"):
        quick(weighted, loss="focal")

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from training.imbalance.decoupled import retrain_head
from training.imbalance.resample import RESAMPLERS


def _rare(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = (rng.random(n) < 0.02).astype(np.int8)
    return (rng.normal(size=(n, 16)) + 0.5 * y[:, None]).astype(np.float32), y


def _balanced_accuracy(head: Any, x: np.ndarray, y: np.ndarray) -> float:
    with torch.no_grad():
        said = head(torch.from_numpy(x)).reshape(-1).numpy() > 0
    return float((said[y == 1].mean() + (~said[y == 0]).mean()) / 2)


def test_a_head_on_balanced_embeddings_hears_the_minority() -> None:
    """Balanced accuracy at log-odds 0 is higher than of the head trained on the rows as they are; the offset goes with it."""
    x, y = _rare()
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 1)
    plain, none = retrain_head(head, x, y, resampler="none")
    balanced, offset = retrain_head(head, x, y, resampler="random_over")
    assert none == 0.0
    assert offset == pytest.approx(np.log(y.sum() / (y == 0).sum()))
    assert _balanced_accuracy(balanced, x, y) > _balanced_accuracy(plain, x, y) + 0.05


@pytest.mark.parametrize("name", RESAMPLERS)
def test_every_resampler_may_balance_the_embeddings(name: str) -> None:
    """Each resampler by name gives a head with finite weights; equal seeds give equal heads; the head given stays as it was."""
    x, y = _rare(300)
    options = {"steps": 2, "batch": 8} if name in ("gan", "wgan_gp") else None
    head = torch.nn.Linear(16, 1)
    before = head.weight.detach().clone()
    one, two = (retrain_head(head, x, y, resampler=name, strength=0.5, resampler_options=options, epochs=1, seed=3)[0] for _ in range(2))
    assert torch.isfinite(one.weight).all()
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(head.weight, before)


def test_losses_and_optimisers_are_chosen_by_name() -> None:
    """A focal loss with AdaGrad trains too; unknown or unfit names are refused."""
    x, y = _rare(300)
    head = torch.nn.Linear(16, 1)
    trained, _ = retrain_head(head, x, y, loss="focal", loss_options={"gamma": 1.0}, optimiser="adagrad", learning_rate=0.1)
    assert not torch.equal(trained.weight, head.weight)
    with pytest.raises(ValueError, match="loss: 'mse' is not known"):
        retrain_head(head, x, y, loss="mse")
    with pytest.raises(ValueError, match="loss: focal takes no row weights, which class_weight gives; use bce"):
        retrain_head(head, x, y, loss="focal", resampler="class_weight")

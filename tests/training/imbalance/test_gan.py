from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from training.imbalance.columns import HOT, Columns, Encoder
from training.imbalance.gan import MAX_WIDTH, Generator, critic_loss, fit_generator, generator_loss, gradient_penalty

MIXED = Columns(categorical=(3,), integer=(2,), scaling="quantile")


def _shop(rng: np.random.Generator, n: int) -> np.ndarray:
    """Correlated numbers, a count with a heavy tail and a category that depends on them."""
    z = rng.normal(size=n)
    price = np.exp(z + 0.3 * rng.normal(size=n))
    clicks = rng.poisson(3 * np.exp(0.8 * z))
    rows = [z + 0.3 * rng.normal(size=n), price, clicks, np.where(rng.random(n) < 1 / (1 + np.exp(-3 * z)), 7, 2)]
    return np.stack(rows, axis=1).astype(np.float32)


def _told_apart(real: np.ndarray, other: np.ndarray) -> float:
    """ROC-AUC with which a classifier tells rows from real ones on rows it did not see; .5: not at all (Lopez-Paz and Oquab 2017)."""
    from lightgbm import LGBMClassifier
    from sklearn.metrics import roc_auc_score

    x, y = np.concatenate([real, other]), np.repeat([0, 1], [len(real), len(other)])
    odd = np.arange(len(x)) % 2 == 1
    model = LGBMClassifier(n_estimators=50, num_leaves=15, n_jobs=1, verbose=-1, random_state=0).fit(x[odd], y[odd])
    return float(roc_auc_score(y[~odd], model.predict_proba(x[~odd])[:, 1]))


def test_the_gradient_penalty_equals_finite_differences() -> None:
    """The penalty is the mean of (‖∇D‖ − 1)² with ∇D by central differences, and so is its own slope in the critic's weights."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    at = torch.randn(5, 3, dtype=torch.float64)

    def by_differences() -> float:
        step = 1e-6
        with torch.no_grad():
            columns = [(critic(at + step * e) - critic(at - step * e)).squeeze(1) / (2 * step) for e in torch.eye(3, dtype=torch.float64)]
        return float(((torch.stack(columns, dim=1).norm(dim=1) - 1) ** 2).mean())

    penalty = gradient_penalty(critic, at)
    assert penalty.item() == pytest.approx(by_differences(), rel=1e-6)
    penalty.backward()
    weight = critic[0].weight
    for place in ((0, 0), (3, 1), (7, 2)):
        step, value = 1e-4, weight.data[place].item()
        around = []
        for moved in (value + step, value - step):
            weight.data[place] = moved
            around.append(by_differences())
        weight.data[place] = value
        assert weight.grad[place].item() == pytest.approx((around[0] - around[1]) / (2 * step), abs=1e-5)


def test_a_critic_of_slope_one_pays_nothing() -> None:
    """A linear critic with a weight vector of length L pays (L − 1)² wherever it is asked."""
    critic = nn.Linear(2, 1, bias=False)
    for length in (1.0, 3.0):
        critic.weight.data = torch.tensor([[0.6, 0.8]]) * length
        assert gradient_penalty(critic, torch.randn(4, 2)).item() == pytest.approx((length - 1) ** 2, abs=1e-5)


def test_the_losses_are_their_formulas() -> None:
    """With D the identity: the original losses are log-likelihoods of real and fake, the Wasserstein ones differences of means."""
    real, fake = torch.tensor([[2.0], [1.0]]), torch.tensor([[-1.0], [0.5]])

    def sigmoid(z: torch.Tensor) -> np.ndarray:
        return 1 / (1 + np.exp(-z.numpy()))

    want = -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean()
    assert critic_loss("gan", nn.Identity(), real, fake, penalty=10.0).item() == pytest.approx(want, rel=1e-5)
    assert generator_loss("gan", nn.Identity(), fake).item() == pytest.approx(-np.log(sigmoid(fake)).mean(), rel=1e-5)
    assert critic_loss("wgan_gp", nn.Identity(), real, fake, penalty=10.0).item() == pytest.approx(
        -0.25 - 1.5, abs=1e-5
    )  # slope 1: no penalty
    assert generator_loss("wgan_gp", nn.Identity(), fake).item() == pytest.approx(0.25)


def test_the_generator_has_three_layers_of_128_and_spans_embeddings() -> None:
    """Three hidden layers of 128; up to 1,024 columns out, and not one more."""
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(4, MAX_WIDTH)).astype(np.float32)
    fitted = fit_generator(wide, steps=1, batch=4)
    linear = [(m.in_features, m.out_features) for m in fitted.network.modules() if isinstance(m, nn.Linear)]
    assert [out for _, out in linear] == [128, 128, 128, 1024]
    assert fitted.sample(3, seed=0).shape == (3, 1024)
    with pytest.raises(ValueError, match="columns: 1025 after one column per category, more than 1024"):
        fit_generator(np.zeros((4, MAX_WIDTH + 1), np.float32))


def test_categories_are_drawn_as_shares_that_sum_to_one() -> None:
    """Each categorical block is a softmax scaled like a real row's, with a gradient into the generator."""
    rows = np.array([[0.0, 1], [1.0, 2], [2.0, 4]], np.float32)
    network = Generator(4, Encoder(rows, Columns(categorical=(1,))), temperature=0.5)
    out = network(torch.randn(6, 4))
    assert out.shape == (6, 1 + 3)
    torch.testing.assert_close(out[:, 1:].sum(dim=1), torch.full((6,), HOT))
    out[:, 1].sum().backward()
    assert network.body[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("scaling", ["standard", "quantile"])
def test_encoding_is_undone_by_decoding(scaling: Any) -> None:
    """Real rows survive the way through the continuous space: categories and whole numbers exactly, numbers to float32."""
    rows = _shop(np.random.default_rng(0), 500)
    encoder = Encoder(rows, Columns(categorical=(3,), integer=(2,), scaling=scaling))
    encoded = encoder.encode(rows)
    assert encoded.shape == (500, 3 + 2)
    back = encoder.decode(encoded)
    np.testing.assert_array_equal(back[:, 2:], rows[:, 2:])
    np.testing.assert_allclose(back[:, :2], rows[:, :2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", ["gan", "wgan_gp"])
def test_equal_seeds_give_equal_generators(loss: Any) -> None:
    """Training and sampling repeat by seed and leave torch's own generator where it was."""
    rows = _shop(np.random.default_rng(0), 50)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one, two = (fit_generator(rows, MIXED, loss=loss, seed=3, steps=3).sample(20, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert torch.equal(torch.get_rng_state(), state)


def test_real_rows_are_never_drawn() -> None:
    """Where there is nothing but a few categories, a row that was real is drawn again, and with none left it says so."""
    some = np.array([[0, 0], [0, 1], [1, 0]] * 5, np.float32)
    drawn = fit_generator(some, Columns(categorical=(0, 1)), steps=1).sample(10, seed=0)
    assert {tuple(r) for r in drawn} == {(1.0, 1.0)}
    every = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    with pytest.raises(ValueError, match="generator: 5 of 5 rows are missing after 20 draws"):
        fit_generator(every, Columns(categorical=(0, 1)), steps=1).sample(5, seed=0)


@pytest.mark.parametrize(("loss", "steps"), [("wgan_gp", 150), ("gan", 600)])
def test_drawn_rows_are_harder_to_tell_from_real_ones_than_noise(loss: Any, steps: int) -> None:
    """Against real rows it never saw, a classifier does worse on drawn rows than on noise with every column's own distribution."""
    rng = np.random.default_rng(0)
    seen, unseen = _shop(rng, 1000), _shop(rng, 1000)
    drawn = fit_generator(seen, MIXED, loss=loss, steps=steps, penalty=1.0, learning_rate=1e-3).sample(1000, seed=5)
    noise = np.stack([rng.permutation(column) for column in unseen.T], axis=1)
    assert not {r.tobytes() for r in drawn} & {r.tobytes() for r in seen}
    assert _told_apart(unseen, drawn) < _told_apart(unseen, noise)


def _modes_covered(loss: Any, **options: Any) -> tuple[int, float]:
    """On eight Gaussians on a circle: how many get at least twice what one wide Gaussian puts there, and the share within 3 deviations."""
    rng = np.random.default_rng(0)
    deviation, radius, count = 0.1, 2.0, 800
    angles = 2 * np.pi * np.arange(8) / 8
    centres = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows = (centres[rng.integers(0, 8, 1000)] + deviation * rng.normal(size=(1000, 2))).astype(np.float32)
    drawn = fit_generator(rows, loss=loss, seed=1, noise=8, **options).sample(count, seed=3)
    near = np.linalg.norm(drawn[:, None] - centres, axis=2) < 3 * deviation  # (n, 8)
    variance = radius**2 / 2 + deviation**2
    wide = np.exp(-(radius**2) / (2 * variance)) / (2 * np.pi * variance) * np.pi * (3 * deviation) ** 2
    return int((near.mean(axis=0) >= 2 * wide).sum()), float(near.any(axis=1).mean())


def test_the_wasserstein_generator_finds_the_modes() -> None:
    """At least seven of eight separate Gaussians are drawn; with the small penalty of the paper's toy experiments and longer steps."""
    assert _modes_covered("wgan_gp", steps=300, penalty=0.1, learning_rate=1e-3)[0] >= 7


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("loss", "options", "share"),
    [
        ("wgan_gp", {"steps": 800, "penalty": 0.1, "learning_rate": 5e-4}, 0.35),
        ("gan", {"steps": 3000}, 0.4),  # Adam at 1e-4
    ],
)
def test_longer_training_finds_all_modes(loss: Any, options: dict[str, Any], share: float) -> None:
    """Trained longer, both losses draw every mode, and many times more rows lie within three deviations of one than of a wide Gaussian."""
    modes, within = _modes_covered(loss, **options)
    assert modes == 8
    assert within >= share


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [({"loss": "lsgan"}, 3, "loss: 'lsgan' is not one of"), ({}, 1, "rows: a generator needs at least 2, got 1")],
)
def test_what_cannot_be_trained_is_refused(options: dict[str, Any], count: int, message: str) -> None:
    """An unknown loss or a single row is named."""
    with pytest.raises(ValueError, match=message):
        fit_generator(np.zeros((count, 2), np.float32), **options)

"""Generators of minority rows: trained on a few real rows, they draw as many more as asked, none equal to a real one.

Two losses over one pair of small networks: the original one (Goodfellow et al. 2014, with the generator's loss that does not
saturate, section 3) and the Wasserstein distance with gradient penalty (Gulrajani et al. 2017, algorithm 1). Rows may mix numbers and
categories (`columns.py`). Knows the rows it is given and nothing else: neither labels nor the rest of the fold.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.imbalance.columns import HOT, Columns, Encoder

Loss = Literal["gan", "wgan_gp"]

HIDDEN = 128
MAX_WIDTH = 1024  # the widest sentence embedding in common use; numbers and one column per category together
CRITIC_STEPS = 5  # per step of the generator, with the Wasserstein loss; the original loss takes 1
_SLOPE = 0.2
_AVERAGE = 0.99  # the generator kept is a moving average over some 100 steps: the last step alone swings with its batch
_DRAWS = 20  # attempts at rows that are not real ones before giving up


class Generator(nn.Module):
    """Noise to encoded rows: three hidden layers, numbers linear, each categorical column a softmax."""

    def __init__(self, noise: int, encoder: Encoder, temperature: float) -> None:
        super().__init__()
        self.noise, self.numeric, self.blocks, self.temperature = noise, encoder.numeric, encoder.blocks, temperature
        self.body = _layers(noise, encoder.width)

    def forward(self, z: Tensor) -> Tensor:
        """(n, e) of (n, noise). Categories are Gumbel-softmax samples (Jang et al. 2017): soft, so that gradients pass."""
        out = self.body(z)
        numbers = out[:, : self.numeric]
        soft = [HOT * functional.gumbel_softmax(out[:, a:b], tau=self.temperature) for a, b in self.blocks]
        return torch.cat([numbers, *soft], dim=1)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained generator and the way back to rows.

    Attributes:
        network: of the averaged weights.
        encoder: fitted on the real rows.
        real: digests of the rows it was trained on, which are never drawn.
    """

    network: Generator
    encoder: Encoder
    real: frozenset[bytes]

    def sample(self, count: int, *, seed: int) -> NDArray[np.float32]:
        """Draw (count, d) float32 rows, none of them equal to a real one.

        Raises:
            ValueError: the generator draws little else than real rows, as with few categories and no number.
        """
        found: list[NDArray[np.float32]] = []
        missing = count
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for _ in range(_DRAWS):
                if missing <= 0:
                    break
                rows = self.encoder.decode(self.network(torch.randn(missing, self.network.noise)).numpy())
                new = rows[[row.tobytes() not in self.real for row in rows]]
                found.append(new)
                missing -= len(new)
        if missing > 0:
            raise ValueError(f"generator: {missing} of {count} rows are missing after {_DRAWS} draws, the others were equal to real rows")
        return np.concatenate([np.empty((0, self.encoder.columns), np.float32), *found])


def fit_generator(
    rows: NDArray[np.float32],
    columns: Columns | None = None,
    *,
    loss: Loss = "wgan_gp",
    seed: int = 0,
    steps: int = 600,
    batch: int = 64,
    noise: int = 32,
    temperature: float = 0.5,
    penalty: float = 10.0,
    learning_rate: float = 1e-4,
    betas: tuple[float, float] = (0.0, 0.9),
) -> Fitted:
    """Train a generator on rows of one class.

    Args:
        rows: (n, d) real rows of the training fold, n ≥ 2.
        columns: their kinds; default: all continuous.
        loss: ``gan`` or ``wgan_gp``.
        seed: of weights, batches and noise; equal seeds give equal generators on one machine.
        steps: of the generator.
        batch: rows per step, drawn with replacement.
        noise: dimension of the generator's input.
        temperature: of the categorical columns' softmax; nearer 0 is nearer to true categories and to no gradient.
        penalty: λ of the gradient penalty, 10 in the paper; its experiments in two dimensions take .1, with which modes far apart part
            sooner.
        learning_rate: of Adam, for both networks.
        betas: of Adam; without momentum, as the penalised critic wants it.

    Raises:
        ValueError: unknown loss, fewer than 2 rows, more than `MAX_WIDTH` encoded columns, or values that are not finite.
    """
    if loss not in ("gan", "wgan_gp"):
        raise ValueError(f"loss: {loss!r} is not one of gan, wgan_gp")
    if len(rows) < 2:
        raise ValueError(f"rows: a generator needs at least 2, got {len(rows)}")
    encoder = Encoder(rows, columns or Columns())
    if encoder.width > MAX_WIDTH:
        raise ValueError(f"columns: {encoder.width} after one column per category, more than {MAX_WIDTH}")
    real = torch.from_numpy(encoder.encode(rows))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, critic = Generator(noise, encoder, temperature), _layers(encoder.width, 1)
        kept = torch.optim.swa_utils.AveragedModel(generator, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_AVERAGE))
        ours, theirs = (torch.optim.Adam(n.parameters(), lr=learning_rate, betas=betas, fused=True) for n in (generator, critic))
        for _ in range(steps):
            for _ in range(CRITIC_STEPS if loss == "wgan_gp" else 1):
                chosen = real[torch.randint(len(real), (batch,))]
                with torch.no_grad():
                    fake = generator(torch.randn(batch, noise))
                _step(theirs, critic_loss(loss, critic, chosen, fake, penalty=penalty))
            critic.requires_grad_(requires_grad=False)
            _step(ours, generator_loss(loss, critic, generator(torch.randn(batch, noise))))
            critic.requires_grad_(requires_grad=True)
            kept.update_parameters(generator)
    return Fitted(kept.module.eval(), encoder, frozenset(row.tobytes() for row in np.asarray(rows, np.float32)))


OPTIONS = tuple(
    name
    for name, parameter in inspect.signature(fit_generator).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in ("loss", "seed")
)
"""What a caller who named the loss and the seed may still choose."""


def critic_loss(loss: Loss, critic: nn.Module, real: Tensor, fake: Tensor, *, penalty: float) -> Tensor:
    """What the critic (discriminator) minimises.

    ``gan``: −log σ(D(real)) − log(1 − σ(D(fake))). ``wgan_gp``: D(fake) − D(real) + λ·`gradient_penalty`, at points drawn between
    real and fake rows.
    """
    on_real, on_fake = critic(torch.cat([real, fake])).split([len(real), len(fake)])  # one pass: small networks pay per call
    if loss == "gan":
        return functional.softplus(-on_real).mean() + functional.softplus(on_fake).mean()
    share = torch.rand(len(real), 1)
    return on_fake.mean() - on_real.mean() + penalty * gradient_penalty(critic, share * real + (1 - share) * fake)


def generator_loss(loss: Loss, critic: nn.Module, fake: Tensor) -> Tensor:
    """What the generator minimises: −log σ(D(fake)) or −D(fake)."""
    on_fake = critic(fake)
    return functional.softplus(-on_fake).mean() if loss == "gan" else -on_fake.mean()


def gradient_penalty(critic: nn.Module, at: Tensor) -> Tensor:
    """Mean of (‖∇D(x)‖ − 1)² over the rows of `at`, (n, e); differentiable in the critic's parameters."""
    at = at.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(at).sum(), at, create_graph=True)
    return ((slope.square().sum(dim=1) + 1e-12).sqrt() - 1).square().mean()  # the root has no slope at 0


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    sizes = [inputs, HIDDEN, HIDDEN, HIDDEN]
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.LeakyReLU(_SLOPE))]
    return nn.Sequential(*hidden, nn.Linear(HIDDEN, outputs))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()

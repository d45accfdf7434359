from __future__ import annotations

import numpy as np
import pytest
import torch

from ranking.metrics import roc_auc
from training.bert import styles
from training.bert.fusion import MODALITIES, Fusion
from training.bert.heads import binary

N, WIDTH, IMAGE = 800, 8, 6


def made(seed: int, *, missing: float = 0.0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Pairs of one token each whose truth is known: the odds are the sum of the texts' agreement and of one direction of the image."""
    rng = torch.Generator().manual_seed(seed)
    q, d = (torch.nn.functional.normalize(torch.randn(N, WIDTH, generator=rng), dim=1) for _ in range(2))
    image, feature = torch.randn(N, IMAGE, generator=rng), torch.randn(N, 1, generator=rng)
    odds = 6.0 * (q * d).sum(1) + 2.0 * image[:, 0] + 0.3 * feature[:, 0]
    labels = (odds + torch.randn(N, generator=rng) > 0).float()
    image[torch.rand(N, generator=rng) < missing] = torch.nan
    states = torch.stack([q, d], dim=1)
    kinds = torch.tensor([[0, 1]]).expand(N, 2)
    return {"states": states, "attention_mask": torch.ones(N, 2), "token_type_ids": kinds, "features": feature, "images": image}, labels


def trained(use: tuple[str, ...], *, gated: bool) -> Fusion:
    torch.manual_seed(0)
    head = Fusion(WIDTH, features=1, image=IMAGE, gated=gated, use=use).train()
    inputs, labels = made(1, missing=0.1)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(120):
        optimiser.zero_grad()
        binary(head(**inputs), labels, torch.arange(N)).backward()
        optimiser.step()
    return head.eval()


def auc(head: Fusion, *, missing: float = 0.0) -> float:
    inputs, labels = made(2, missing=missing)
    with torch.no_grad():
        return roc_auc(head(**inputs)[:, 0].numpy().astype(np.float64), labels.numpy())


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "concatenation"])
def test_fusion_finds_what_no_single_modality_can(gated: bool) -> None:
    """Where texts and images each tell half, both fusions rank clearly better than the best modality alone."""
    best = max(auc(trained((name,), gated=False)) for name in MODALITIES)
    assert auc(trained(MODALITIES, gated=gated)) > best + 0.05


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "concatenation"])
def test_fewer_images_cost_little_by_little(gated: bool) -> None:
    """With half of the images missing it ranks between all and none, and without any about as texts alone do."""
    head, texts = trained(MODALITIES, gated=gated), trained(("text",), gated=False)
    whole, half, none = (auc(head, missing=share) for share in (0.0, 0.5, 1.0))
    assert whole > half > none
    assert none > auc(texts) - 0.03


def test_no_images_at_all_is_the_same_as_all_missing() -> None:
    """A caller without images need not make up empty ones."""
    head = trained(MODALITIES, gated=True)
    inputs, _ = made(2, missing=1.0)
    with torch.no_grad():
        assert torch.equal(head(**inputs), head(**(inputs | {"images": None})))  # type: ignore[arg-type]


def test_an_untrained_fusion_orders_as_texts_do() -> None:
    """Before training, image and features change nothing."""
    inputs, _ = made(2)
    head = Fusion(WIDTH, features=1, image=IMAGE).eval()
    with torch.no_grad():
        scores = head(**inputs)[:, 0]
    similarity = (inputs["states"][:, 0] * inputs["states"][:, 1]).sum(1)
    assert torch.equal(scores.argsort(), similarity.argsort())


def test_an_image_that_is_missing_sends_no_gradient_of_nan() -> None:
    """Training on pairs without images keeps every gradient finite."""
    head = Fusion(WIDTH, features=1, image=IMAGE).train()
    inputs, labels = made(3, missing=1.0)
    torch.nn.init.normal_(head.score.weight)
    binary(head(**inputs), labels, torch.arange(N)).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def test_styles_are_seen_more_often_than_told() -> None:
    """The made-up lists say the style in four titles of ten, show it in every image that is there, and have the share missing asked for."""
    lists = styles.lists(60, missing=0.25)
    told = np.mean([tier == "head" for tier in lists.tiers])
    assert 0.3 < told < 0.5
    assert lists.pairs.images is not None
    assert 0.15 < np.isnan(lists.pairs.images[:, 0]).mean() < 0.35
    assert np.add.reduceat(lists.pairs.labels["list"], lists.pairs.offsets[:-1]).tolist() == [1.0] * 60


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "concatenation"])
def test_an_image_suits_one_query_and_not_another(gated: bool) -> None:
    """Where right means that the image shows what was asked, neither of the two tells anything alone, and a fusion learns it from both."""
    kinds = 4
    rng = torch.Generator().manual_seed(5)
    asked, shown = (torch.randint(0, kinds, (N,), generator=rng) for _ in range(2))
    labels = (asked == shown).float()
    query = torch.eye(WIDTH)[asked]
    inputs = {
        "states": torch.stack([query, torch.full_like(query, WIDTH**-0.5)], dim=1),
        "attention_mask": torch.ones(N, 2),
        "token_type_ids": torch.tensor([[0, 1]]).expand(N, 2),
        "images": torch.eye(IMAGE)[shown],
    }
    torch.manual_seed(0)
    head = Fusion(WIDTH, features=1, image=IMAGE, gated=gated).train()
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(120):
        optimiser.zero_grad()
        binary(head(**inputs), labels, torch.arange(N)).backward()
        optimiser.step()
    with torch.no_grad():
        found = head.eval()(**inputs)[:, 0].numpy().astype(np.float64)
    assert roc_auc(found, labels.numpy()) > 0.95


def test_a_projection_too_narrow_for_products_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden: 4"):
        Fusion(WIDTH, features=1, image=IMAGE, hidden=4)

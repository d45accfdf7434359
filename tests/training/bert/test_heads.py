from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ranking.errors import UnknownName
from tests.training.bert.tiny_bert import SPECIAL, pairs, tiny
from training.bert.data import Collator
from training.bert.heads import Task, binary, classes, listwise, squared, task
from training.bert.model import Heads
from training.members.bert import PairRanker

NAN = math.nan


def test_binary_loss_is_the_mean_over_what_is_known() -> None:
    """log(1 + e^-z) for a positive of logit z, log(1 + e^z) for a negative; a NaN label costs nothing."""
    outputs = torch.tensor([[2.0], [1.0], [9.0]])
    want = (math.log1p(math.exp(-2.0)) + math.log1p(math.exp(1.0))) / 2
    assert float(binary(outputs, torch.tensor([1.0, 0.0, NAN]), torch.arange(3))) == pytest.approx(want)


def test_squared_loss_is_the_mean_over_what_is_known() -> None:
    """((1 - 0)² + (0 - 2)²) / 2."""
    outputs = torch.tensor([[1.0], [0.0], [7.0]])
    assert float(squared(outputs, torch.tensor([0.0, 2.0, NAN]), torch.arange(3))) == pytest.approx((1 + 4) / 2)


def test_list_loss_is_the_cross_entropy_of_each_list() -> None:
    """Of scores (1, 0) with the first clicked: log(1 + e^-1); a list without a gain is left out, gains count as shares."""
    scores = torch.tensor([[1.0], [0.0], [3.0], [5.0], [0.0], [0.0]])
    gains = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.1, 0.3])
    lists = torch.tensor([0, 0, 1, 1, 2, 2])
    want = (math.log1p(math.exp(-1.0)) + math.log(2.0)) / 2  # of equal scores any shares cost log 2
    assert float(listwise(scores, gains, lists)) == pytest.approx(want, rel=1e-6)


def test_list_loss_takes_no_part_of_other_lists_or_unknown_rows() -> None:
    """A row without a label neither wins nor loses, and gradients stay finite."""
    scores = torch.tensor([[1.0], [0.0], [50.0]], requires_grad=True)
    loss = listwise(scores, torch.tensor([1.0, 0.0, NAN]), torch.tensor([0, 0, 0]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-1.0)), rel=1e-6)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert float(scores.grad[2, 0]) == 0.0


def test_class_loss_respects_weights_and_unknown_labels() -> None:
    """With weights (3, 1) two rows of equal logits cost log 2 each whatever the weights; unknown rows cost nothing."""
    outputs = torch.zeros(3, 2)
    assert float(classes((3.0, 1.0))(outputs, torch.tensor([0.0, 1.0, NAN]), torch.arange(3))) == pytest.approx(math.log(2.0))
    assert float(classes()(outputs, torch.full((3,), NAN), torch.arange(3))) == 0.0


def test_the_sum_of_the_tasks_is_what_is_trained() -> None:
    """Two tasks' loss is the weighted sum of what each alone would cost."""
    p = pairs(4, 3, click="", satisfaction="")
    batch = Collator(p, SPECIAL)(range(4))
    click, satisfied = task("click"), Task("satisfaction", task("satisfaction").head, binary, weight=0.25)
    model = Heads(tiny(), [click, satisfied]).eval()
    both = model(**batch)
    each = [model.split(both["logits"])[name] for name in ("click", "satisfaction")]
    want = binary(each[0], batch["labels"][:, 0], batch["lists"]) + 0.25 * binary(each[1], batch["labels"][:, 1], batch["lists"])
    torch.testing.assert_close(both["loss"], want)


def test_the_click_head_is_the_served_rankers() -> None:
    """On equal weights the click head gives the served ranker's log-odds, bit by bit."""
    encoder = tiny()
    model, served = Heads(encoder, [task("click")]).eval(), PairRanker(encoder, 32).eval()
    noise = torch.randn(served.head.weight.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        served.head.weight.copy_(noise)
        model.heads["click"].linear.weight.copy_(noise)  # type: ignore[union-attr, operator]
        batch = Collator(pairs(3), SPECIAL)(range(3))
        read = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        assert torch.equal(model(**read)["logits"][:, 0], served(**read)["logits"])


def test_an_unknown_head_is_answered_with_those_there_are() -> None:
    """The message names every task."""
    with pytest.raises(UnknownName, match="'mood' is not known; known: click, conversion"):
        task("mood")
    with pytest.raises(ValueError, match="tasks: need at least one and none twice"):
        Heads(tiny(), [task("click"), task("click")])


def test_scores_do_not_depend_on_the_batch() -> None:
    """Padding to a longer neighbour changes no score beyond rounding."""
    model, p = Heads(tiny(), [task("sentiment")]).eval(), pairs(6, 1, sentiment="")
    collate = Collator(p, SPECIAL)

    def scores(rows: list[int]) -> np.ndarray:
        batch = collate(rows)
        with torch.no_grad():
            return model(**{k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids")})["logits"].numpy()

    np.testing.assert_allclose(scores(list(range(6))), np.concatenate([scores([i]) for i in range(6)]), atol=1e-5)


def test_heads_start_by_their_seed() -> None:
    """Equal seeds give equal heads whatever was drawn before, and what is drawn after is as if none had been made."""
    encoder, tasks = tiny(), [task("sentiment"), task("stars")]
    torch.manual_seed(7)
    first = Heads.seeded(encoder, tasks, 0)
    after = torch.rand(3)
    again, other = Heads.seeded(encoder, tasks, 0), Heads.seeded(encoder, tasks, 1)
    assert all(torch.equal(a, b) for a, b in zip(first.heads.parameters(), again.heads.parameters(), strict=True))
    assert not torch.equal(first.heads["sentiment"].linear.weight, other.heads["sentiment"].linear.weight)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))

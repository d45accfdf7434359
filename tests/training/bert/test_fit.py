from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.bert.tiny_bert import SPECIAL, pairs, tiny
from training.bert import encoder
from training.bert.data import Pairs
from training.bert.fit import Fitted, Settings, fit, groups, outputs, steps_of
from training.bert.heads import task
from training.bert.model import Heads

FAST = Settings(batch=4, epochs=2, learning_rate=2e-3, head_rate=2.0)


@pytest.fixture(params=[False, True], ids=["fp32", "bf16"])
def bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The host computes in this precision, whatever it is: a processor without bfloat16 emulates it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(encoder, "fast_bf16", lambda: request.param)
    return bool(request.param)


def model() -> Heads:
    torch.manual_seed(5)
    return Heads(tiny(), [task("list")])


def weights(of: Heads) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in of.named_parameters()}


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def right(scores: NDArray[np.float32], p: Pairs) -> float:
    """Share of the lists whose clicked candidate scores highest; lists of three."""
    return float((scores.reshape(-1, 3).argmax(1) == p.labels["list"].reshape(-1, 3).argmax(1)).mean())


def test_it_learns_the_rule(tmp_path: Path) -> None:
    """After training, the candidate that shares a token with the query leads in most training lists; before, in a third."""
    m, p = model(), pairs(60)
    ran = fit(m, p, SPECIAL, tmp_path, settings=replace(FAST, epochs=12))
    assert right(outputs(m, p, SPECIAL)["list"], p) > 0.6
    assert ran.steps == steps_of(replace(FAST, epochs=12), 60) == 12 * 15
    assert ran.history[0][1] > ran.history[-1][1]


def test_a_trained_model_is_of_fp32_and_scores_in_it(tmp_path: Path, bf16: bool) -> None:
    """Autocast ends with the training: weights are float32, and the model scores as an untouched one that is given them."""
    m, p, seen = model(), pairs(8), []
    m.heads["list"].linear.register_forward_hook(lambda _module, _inputs, out: seen.append((torch.is_grad_enabled(), out.dtype)))
    fit(m, p, SPECIAL, tmp_path, settings=FAST)
    assert {dtype for learning, dtype in seen if learning} == {torch.bfloat16 if bf16 else torch.float32}
    assert {weight.dtype for weight in m.parameters()} == {torch.float32}
    untouched = model()
    untouched.load_state_dict(m.state_dict())
    np.testing.assert_array_equal(outputs(m, p, SPECIAL)["list"], outputs(untouched, p, SPECIAL)["list"])


@pytest.mark.parametrize("host", [False, True])
def test_the_precision_can_be_told(monkeypatch: pytest.MonkeyPatch, *, host: bool) -> None:
    """Told nothing, a run computes as the host does best; told, as told."""
    monkeypatch.setattr(encoder, "fast_bf16", lambda: host)
    assert [encoder.placement(told)["bf16"] for told in (None, False, True)] == [host, False, True]


def test_equal_seeds_give_equal_weights(tmp_path: Path, bf16: bool) -> None:
    """Two runs of one seed end bit-equal; another seed ends elsewhere."""
    runs = []
    for i, seed in enumerate((0, 0, 1)):
        m = model()
        fit(m, pairs(12), SPECIAL, tmp_path / str(i), settings=replace(FAST, seed=seed))
        runs.append(weights(m))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_run_that_was_interrupted_ends_like_one_that_was_not(tmp_path: Path, stop_at: int, bf16: bool) -> None:
    """Stopped in the first or in the second epoch and resumed from a checkpoint, the weights are bit-equal to an unbroken run's."""
    settings = replace(FAST, checkpoints=1)
    whole, broken, resumed = model(), model(), model()
    fit(whole, pairs(12), SPECIAL, tmp_path / "whole", settings=settings)
    fit(broken, pairs(12), SPECIAL, tmp_path / "broken", settings=settings, stop_at=stop_at)
    assert not same(weights(whole), weights(broken))
    ran = fit(resumed, pairs(12), SPECIAL, tmp_path / "broken", settings=settings, resume=True)
    assert ran.steps == 6
    assert same(weights(whole), weights(resumed))


def test_accumulated_batches_count_as_one(tmp_path: Path) -> None:
    """Without dropout, two batches of two lists make the step that one batch of four makes, up to rounding."""
    found = []
    for i, (batch, accumulate) in enumerate(((4, 1), (2, 2))):
        torch.manual_seed(5)
        quiet = tiny()
        for module in quiet.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        m = Heads(quiet, [task("list")])
        same_length = pairs(4)
        fit(m, same_length, SPECIAL, tmp_path / str(i), settings=replace(FAST, epochs=1, batch=batch, accumulate=accumulate, warmup=0.0))
        found.append(weights(m))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=2e-4, rtol=0.0)


def test_a_run_that_gets_no_better_stops_and_keeps_the_best(tmp_path: Path, bf16: bool) -> None:
    """With a metric that only falls the first evaluation is the best: it stops two later and has the first one's weights."""
    falling = iter(range(100, 0, -1))
    m = model()
    kept: list[dict[str, torch.Tensor]] = []

    def metric(scores: NDArray[np.float32], valid: Pairs) -> Mapping[str, float]:
        kept.append(weights(m))
        return {"quality": float(next(falling))}

    settings = replace(FAST, epochs=5, evaluate=15, patience=2, judge="quality")
    ran: Fitted = fit(m, pairs(12), SPECIAL, tmp_path, settings=settings, valid=pairs(4, seed=1), metric=metric)
    assert ran.steps == 3
    assert [value["quality"] for _, value in ran.evaluations] == [100.0, 99.0, 98.0]
    assert same(weights(m), kept[0])


def test_patience_without_a_metric_is_refused(tmp_path: Path) -> None:
    """Early stopping says what it needs."""
    with pytest.raises(ValueError, match="patience: needs validation lists"):
        fit(model(), pairs(4), SPECIAL, tmp_path, settings=replace(FAST, patience=1))


def test_labels_of_other_tasks_are_refused(tmp_path: Path) -> None:
    """A model that learns lists cannot be trained on clicks alone."""
    with pytest.raises(ValueError, match="labels: need those of list, got click"):
        fit(model(), pairs(4, click=""), SPECIAL, tmp_path, settings=FAST)


def test_lower_layers_learn_slower_and_frozen_ones_not_at_all(tmp_path: Path) -> None:
    """Rates: the top layer's is whole, each below has half of it, the head's is ten times; frozen layers are in no group."""
    m = model()
    rates = sorted({g["lr"] for g in groups(m, replace(FAST, learning_rate=1.0, layer_decay=0.5, head_rate=10.0))})
    assert rates == [0.25, 0.5, 1.0, 10.0]  # embeddings, layer 1, layer 2, head
    before = weights(m)
    fit(m, pairs(8), SPECIAL, tmp_path, settings=replace(FAST, frozen=1))
    after = weights(m)
    for name in before:
        low = name.startswith(("encoder.embeddings", "encoder.encoder.layer.0"))
        if low:
            assert torch.equal(before[name], after[name])
    assert not same(before, after)


def test_scores_come_in_the_order_of_the_pairs() -> None:
    """Reading in batches of like length changes no place."""
    m, p = model().eval(), pairs(10)
    whole = outputs(m, p, SPECIAL, batch=4)["list"]
    alone = [outputs(m, p.take(np.array([i])), SPECIAL)["list"] for i in range(10)]
    np.testing.assert_allclose(whole, np.concatenate(alone), atol=1e-5)

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ranking.text import PAIR_INPUTS
from tests.training.bert.tiny_bert import SPECIAL
from training.bert import compare, encoder, transfer, variants
from training.bert.data import Pairs, frame
from training.bert.examples import errors, examples
from training.bert.fit import Settings
from training.bert.heads import task
from training.bert.kept import NOTHING, Kept
from training.bert.lists import Lists, shop
from training.bert.model import Heads
from training.tables.tokens import Tokens

UNKNOWN = 100  # [UNK]
FAST = Settings(epochs=1, batch=4, learning_rate=1e-3)


def tiny() -> object:
    """The pretrained tokenizer's vocabulary under two small layers."""
    return encoder.untrained(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64)


@pytest.fixture(scope="module")
def lists() -> Lists:
    return shop(12, candidates=4)


def test_lists_of_the_shop_hold_one_click_and_what_is_known_of_it(lists: Lists) -> None:
    """Each list has its clicked item; satisfaction is known only of what was clicked and reviewed; departments can be chosen."""
    clicks = lists.pairs.labels["click"].reshape(12, 4)
    assert (clicks.sum(axis=1) == 1).all()
    known = ~np.isnan(lists.pairs.labels["satisfaction"])
    assert (lists.pairs.labels["click"][known] == 1).all()
    assert set(shop(20, candidates=3, departments=("garden", "toys")).groups) == {"garden", "toys"}


def test_a_table_of_heads_and_methods_holds_each_against_full_tuning(lists: Lists) -> None:
    """Full tuning comes first and is held against nothing; the others name fewer trained parameters and a paired gain."""
    rows = compare.rankers(tiny, "shop", lists, lists, SPECIAL, heads=("click+satisfaction",), methods=("lora", "head"), settings=FAST)
    assert [(r.head, r.method) for r in rows] == [("click+satisfaction", m) for m in ("full", "lora", "head")]
    for row in rows:
        assert (row.gain is None) == (row.method == "full")
        assert row.quality[1] <= row.quality[0] <= row.quality[2]
    full, lora, head = rows
    assert full.trainable == full.total > lora.trainable > head.trainable == 0


def test_a_row_of_several_seeds_is_of_each_list_s_mean_over_them(lists: Lists) -> None:
    """Two seeds have two qualities whose mean is the row's; the first seed is that of a row with one."""
    two, one = (
        compare.rankers(tiny, "shop", lists, lists, SPECIAL, heads=("list",), methods=(), settings=FAST, seeds=seeds)[0] for seeds in (2, 1)
    )
    assert two.quality[0] == pytest.approx(sum(two.seeds) / 2, abs=1e-4)
    assert two.seeds[0] == pytest.approx(one.quality[0], abs=1e-4)
    assert one.seeds == []


def test_a_part_that_was_stopped_makes_no_training_twice(lists: Lists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept of an interrupted table is read, the rest is trained, and the table is that of an unbroken run."""
    made: list[str] = []

    def table(methods: tuple[str, ...], kept: Kept) -> list[dict[str, object]]:
        rows = compare.rankers(tiny, "shop", lists, lists, SPECIAL, heads=("list",), methods=methods, settings=FAST, kept=kept)
        return [row.to_json() | {"seconds": None} for row in rows]

    unbroken = table(("head", "lora"), NOTHING)
    table(("head",), Kept(tmp_path))
    monkeypatch.setattr(compare, "trained", partial(_counted, compare.trained, made))
    assert table(("head", "lora"), Kept(tmp_path)) == unbroken
    assert made == ["lora"]
    assert table(("head", "lora"), Kept(tmp_path)) == unbroken
    assert made == ["lora"]


def _counted(trained: Callable[..., object], made: list[str], *args: object, **options: object) -> object:
    made.append(str(options["method"]))
    return trained(*args, **options)


@pytest.mark.parametrize("native", [True, False])
def test_training_in_bf16_is_held_against_fp32_where_the_host_has_it(
    lists: Lists, monkeypatch: pytest.MonkeyPatch, *, native: bool
) -> None:
    """Both precisions are trained as told, whatever the host's own choice; without bfloat16 in hardware there is nothing to compare."""
    told: list[bool | None] = []

    def spied(*args: object, settings: Settings, **options: object) -> object:
        told.append(settings.bf16)
        return compare.trained(*args, settings=settings, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(variants, "fast_bf16", lambda: native)
    monkeypatch.setattr(variants, "trained", spied)
    rows = variants.training(tiny, lists, lists, SPECIAL, settings=FAST, seeds=2)
    assert [row.name for row in rows] == ["fp32", "bf16"][: 1 + native]
    assert told == [False, True, False, True] if native else [False, False]
    assert rows[0].loss == (0.0, 0.0, 0.0)
    assert all(row.seconds > 0 and len(row.seeds) == 2 for row in rows)


def test_readers_are_compared_by_macro_f1() -> None:
    """The sentiment head has a row per method, full tuning first."""
    rng = np.random.default_rng(0)
    lists = shop(12, candidates=4)
    labels = {"sentiment": rng.integers(0, 3, len(lists.pairs.first)).astype(np.float32)}
    pairs = Pairs.alone(lists.pairs.first, lists.pairs.second, labels)
    rows = compare.readers(tiny, pairs, pairs, pairs, SPECIAL, methods=("head",), settings=FAST)
    assert [row.method for row in rows] == ["full", "head"]
    assert all(row.metric == "macro-F1" and 0.0 <= row.quality[0] <= 1.0 for row in rows)


def test_transfer_has_a_curve_of_every_start(lists: Lists) -> None:
    """Three starts by sizes up to the pool, each with its gains over the others; gains of two starts mirror each other."""
    points = transfer.curves(
        ("a", "b"), lists, lists, lists, SPECIAL, pretrained=tiny, untrained=tiny, settings=FAST, sizes=(4, 8, 100), seeds=1
    )
    assert {(p.start, p.lists) for p in points} == {(s, n) for s in ("transferred", "pretrained", "from scratch") for n in (0, 4, 8)}
    by = {(p.start, p.lists): p for p in points}
    assert by["transferred", 4].gains["pretrained"][0] == pytest.approx(-by["pretrained", 4].gains["transferred"][0])
    assert by["pretrained", 4].ndcg10 == by["from scratch", 4].ndcg10  # here both start from the same weights


def test_every_variant_scores_as_fp32_does(lists: Lists, tmp_path: Path) -> None:
    """A trained head is exported as the served ranker: equal scores in fp32 on both runtimes, small errors in bf16 and int8."""
    torch.manual_seed(0)
    model = Heads(tiny(), [task("list")]).eval()
    torch.nn.init.normal_(model.heads["list"].linear.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    ranker = variants.served(model)
    feed = frame(lists.pairs.first[:5], lists.pairs.second[:5], SPECIAL)
    with torch.no_grad():
        assert torch.equal(ranker(*(feed[name] for name in PAIR_INPUTS))["logits"], model(**feed)["logits"][:, 0])
    rows = variants.measure(ranker, tmp_path, lists, SPECIAL, threads=1)
    assert [(row.name, row.runtime) for row in rows] == [
        ("fp32", "onnxruntime"),
        ("fp32", "openvino-f32"),
        ("bf16", "openvino-bf16"),
        ("int8", "onnxruntime"),
    ]
    assert rows[0].loss == (0.0, 0.0, 0.0)
    assert rows[1].error < 1e-3
    assert max(row.error for row in rows) < 0.5
    assert rows[3].megabytes < rows[0].megabytes
    with pytest.raises(ValueError, match="task: sentiment has no head that compares two texts"):
        variants.served(Heads(tiny(), [task("sentiment")]), "sentiment")


def test_examples_show_what_changed_and_errors_by_group_and_tier(lists: Lists) -> None:
    """Reversed scores change places; a list's first example is the one that gained most; every group and tier is counted."""
    perfect = lists.gains.astype(np.float64)
    shown = examples(lists, -perfect, perfect)
    assert shown[0]["change"] == max(one["change"] for one in shown) > 0
    assert shown[0]["items"][0]["was"] == 4  # first by the truth, last by its reverse
    found = errors(lists, -perfect, perfect)
    assert sum(e["count"] for e in found if e["by"] == "group") == 12
    assert sum(e["count"] for e in found if e["by"] == "tier") == 48
    assert all(e["after"] == 1.0 for e in found if e["by"] == "group")


def test_lists_with_chinese_titles_are_ranked() -> None:
    """No script breaks a ranking; characters the vocabulary knows count, and those it does not are all alike to the encoder."""
    tokens = Tokens()
    known, unknown = tokens(["日 本 女", "红 裙 鞋"], 24)
    assert UNKNOWN not in known
    assert set(unknown.tolist()) == {UNKNOWN}
    titles = tokens(["日 本 女 大 小", "山 川 水 火 土", "红 裙 鞋 绿 篮"], 24)
    model = Heads(encoder.load(), [task("list")])
    for query, best in ((known, 0), (unknown, 2)):
        pairs = Pairs([query] * 3, titles, {"list": np.zeros(3, np.float32)}, np.array([0, 3]))
        found = Lists(pairs, np.array([0.0, 1.0, 0.0]), ["?"], ["", "", ""], ["tail"] * 3, ["zh"])
        scores = compare.ranked(model, found, SPECIAL)
        assert np.isfinite(scores).all()
        assert scores.argmax() == best

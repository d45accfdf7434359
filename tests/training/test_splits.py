from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.splits import RATIO, Parts, by_group, by_time, stratified

lists_of_rows = st.lists(st.integers(0, 30), min_size=1, max_size=150)
ratios = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def _stratum(list_id: int) -> int:
    return list_id % 3


@given(lists_of_rows, ratios, st.integers(0, 5))
def test_every_stratum_is_split_within_one_list_of_its_quota(lists: list[int], ratio: list[int], seed: int) -> None:
    """Part p of a stratum of m lists has more than m · ratio_p / Σ ratio − 1 of them and fewer than one more."""
    parts = stratified(lists, [_stratum(i) for i in lists], ratio, seed=seed)
    of_list = dict(zip(lists, parts.tolist(), strict=True))
    for stratum in {_stratum(i) for i in lists}:
        mine = [part for i, part in of_list.items() if _stratum(i) == stratum]
        for p, weight in enumerate(ratio):
            assert abs(mine.count(p) - len(mine) * weight / sum(ratio)) < 1.0 + 1e-9


@given(lists_of_rows, st.integers(0, 5), st.randoms(use_true_random=False))
def test_no_list_is_torn_and_the_order_of_rows_is_nothing(lists: list[int], seed: int, random: object) -> None:
    """All rows of a list are in one part, the same part when the rows come in another order."""
    shuffled = list(lists)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ways: list[Callable[[list[int]], Parts]] = [
        lambda x: stratified(x, [_stratum(i) for i in x], seed=seed),
        lambda x: by_group(x, seed=seed),
        lambda x: by_time(x, np.array(x) // 2),
    ]
    for split in ways:
        one, two = ({i: set() for i in lists}, {i: set() for i in lists})
        for found, order in ((one, lists), (two, shuffled)):
            for i, part in zip(order, split(order).tolist(), strict=True):
                found[i].add(part)
        assert one == two
        assert all(len(parts) == 1 for parts in one.values())


@given(st.lists(st.integers(0, 40), min_size=1, max_size=100), ratios)
def test_parts_by_time_follow_each_other(times: list[int], ratio: list[int]) -> None:
    """Every instant of a part is before every instant of the next one that has any."""
    parts = by_time(np.arange(len(times)), np.array(times), ratio)
    spans = [[t for t, p in zip(times, parts, strict=True) if p == part] for part in range(len(ratio))]
    spans = [span for span in spans if span]
    assert all(max(a) < min(b) for a, b in itertools.pairwise(spans))


def test_the_reference_case_is_split_five_two_three() -> None:
    """1,000 lists of a head give 500, 200 and 300; ten of a tail 5, 2 and 3; one alone goes to training."""
    strata = np.repeat(["head", "tail", "lone"], [1000, 10, 1])
    parts = stratified(np.arange(len(strata)), strata, RATIO)
    counts = {name: np.bincount(parts[strata == name], minlength=3).tolist() for name in ("head", "tail", "lone")}
    assert counts == {"head": [500, 200, 300], "tail": [5, 2, 3], "lone": [1, 0, 0]}


def test_a_seed_is_a_split() -> None:
    """The same seed splits alike, in another process too; another seed splits differently."""
    ids = [f"list {i}" for i in range(200)]
    first = by_group(ids, seed=1)
    assert np.array_equal(first, by_group(ids, seed=1))
    assert not np.array_equal(first, by_group(ids, seed=2))
    hashes = {name: hashlib.blake2b(f"3:{name}".encode(), digest_size=8).digest()[::-1] for name in "abcdefgh"}
    earliest = sorted(hashes, key=lambda name: hashes[name])[:4]
    assert by_group(list("abcdefgh"), (1, 1), seed=3).tolist() == [int(name not in earliest) for name in "abcdefgh"]


def test_weeks_can_be_cut_where_one_says() -> None:
    """A cut is the first instant of the next part, whatever the ratio."""
    weeks = np.array([30, 40, 41, 46, 47, 53])
    assert by_time(np.arange(6), weeks, cuts=[41, 47]).tolist() == [0, 0, 1, 1, 2, 2]
    instants = np.array(["2026-01-01", "2026-01-02"], "datetime64[us]")
    assert by_time(["a", "b"], instants, cuts=[instants[1]]).tolist() == [0, 1]


def test_lists_of_one_instant_stay_together() -> None:
    """A cut among equals moves before them: the earlier part is smaller rather than the instant on both sides."""
    assert by_time(range(4), np.array([1, 2, 2, 3]), (1, 1)).tolist() == [0, 1, 1, 1]


def test_nothing_is_split_into_nothing() -> None:
    """No rows, no parts, no error."""
    for parts in (stratified([], []), by_group([]), by_time([], np.array([], np.int64))):
        assert parts.shape == (0,)


def test_as_many_parts_as_an_int8_can_number() -> None:
    """The last of 128 parts is 127, and none is below 0."""
    assert np.unique(by_group(range(1280), (1,) * 128)).tolist() == list(range(128))
    assert by_time(range(128), np.arange(128), cuts=range(1, 128)).tolist() == list(range(128))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda: stratified([1, 1], ["a", "b"]), "strata: list 1 is in more than one stratum"),
        (lambda: stratified([1, 2], ["a"]), "strata: 1 rows, lists has 2"),
        (lambda: stratified([1], ["a"], (1, 0)), "ratio: must be positive numbers"),
        (lambda: by_group([1], ()), "ratio: must be positive numbers"),
        (lambda: by_group([1], (1, float("nan"))), "ratio: must be positive numbers"),
        (lambda: by_time([1, 1], np.array([1, 2])), "times: list 1 is at more than one time"),
        (lambda: by_time([1], np.array([1, 2])), "times: 2 rows, lists has 1"),
        (lambda: by_time([1], np.array([1]), cuts=[5, 5]), "cuts: must ascend"),
        (lambda: by_group(range(300), (1,) * 200), "ratio: at most 128 parts, got 200"),
        (lambda: by_time(range(300), np.arange(300), cuts=range(1, 129)), "cuts: at most 127, got 128"),
        (lambda: by_time(["a", "b"], np.array(["2026-01-01", "NaT"], "datetime64[D]")), "times: list 'b' has no time in row 1"),
        (lambda: by_time([1, 2], np.array([np.nan, 1.0])), "times: list 1 has no time in row 0"),
        (lambda: by_time([1, 2], np.array([3, None])), "times: list 2 has no time in row 1"),
        (lambda: stratified(["a", None], [0, 0]), "lists: row 1 has none"),
        (lambda: stratified([None], [0]), "lists: row 0 has none"),
        (lambda: by_group([1.0, np.nan]), "lists: row 1 has none"),
        (lambda: by_time([None, 2], np.array([1, 2])), "lists: row 0 has none"),
        (lambda: stratified([1, 2], ["a", None]), "strata: row 1 has none"),
        (lambda: stratified(np.array([1, "a"], object), [0, 0]), "lists: must be of one kind"),
        (lambda: stratified([(1, 2), (3, 4)], [0, 0]), r"lists: need one value per row, got shape \(2, 2\)"),
    ],
)
def test_a_wrong_split_is_refused(split: Callable[[], Parts], message: str) -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match=message):
        split()

"""Bootstrap intervals over users with several lists each; those over lists stand beside the metrics they are of."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.metrics import bootstrap_interval, list_draws


def test_groups_are_drawn_whole() -> None:
    """With every user's lists alike, drawing users gives the interval of one list per user; drawing lists a narrower one."""
    rng = np.random.default_rng(3)
    of_user = rng.normal(size=60)
    users = np.repeat(np.arange(60), 4)
    whole = bootstrap_interval(of_user[users], 7, groups=users)
    assert whole == pytest.approx(bootstrap_interval(of_user, 7))
    apart = bootstrap_interval(of_user[users], 7)
    assert apart.high - apart.low < 0.6 * (whole.high - whole.low)  # half, were there no chance in it: four lists of one opinion


def test_draws_of_groups_name_all_lists_of_a_group_equally_often() -> None:
    """A draw of users counts each of a user's lists as often as the user; as many users are drawn as there are."""
    users = np.array([5, 9, 5, 7, 9, 9])
    draws = list_draws(len(users), 1, n=50, groups=users)
    for user in (5, 7, 9):
        assert (draws[:, users == user] == draws[:, [np.flatnonzero(users == user)[0]]]).all()
    firsts = [int(np.flatnonzero(users == u)[0]) for u in (5, 7, 9)]
    assert (draws[:, firsts].sum(axis=1) == 3).all()


@pytest.mark.parametrize(
    ("lists", "groups", "message"),
    [
        (0, None, "lists: need at least 1"),
        (-2, None, "lists: need at least 1"),
        (2, np.array([1]), "groups: need one per list, got 1 for 2"),
    ],
)
def test_nothing_cannot_be_drawn_from(lists: int, groups: np.ndarray | None, message: str) -> None:
    """Draws need a list, and every list a group where there are groups."""
    with pytest.raises(ValueError, match=message):
        list_draws(lists, 1, groups=groups)

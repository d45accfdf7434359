"""The judge of `longtail evaluate --source clothing_reviews`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ranking.layout import Layout
from training.sentiment import folder
from training.sentiment import judge as judging


def judge(layout: Layout, *, reviews: Path, ranker: str = "bert") -> dict[str, Any]:
    """Figures of the stored model on labelled reviews.

    Args:
        layout: the state directory, with a model in it.
        reviews: as `training.sentiment.judge.judge` reads them.
        ranker: whose figures stand at the top: `bert`, `words` or `blend`.

    Raises:
        FileNotFoundError, UnknownName, ValueError: as there.
    """
    return judging.judge(reviews, folder(layout), method=ranker)

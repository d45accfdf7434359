"""What buyers wrote, read as negative, neutral or positive: the model, its judgement on reviews kept apart, and what it says of items.

`reviews` reads the file, `train` makes the model, `model` holds it, `words` is the one without BERT that it is held against, `judge`
measures, `items` turns reviews into a feature and into complaints. The command is ``python -m training.sentiment``.
"""

from __future__ import annotations

from pathlib import Path

from ranking.layout import Layout

MODELS = 2
"""Encoders, tuned from different seeds, that read as one."""


def folder(layout: Layout) -> Path:
    """Where the state directory has the model."""
    return layout.sentiment.parent / "model"


def complaints_file(layout: Layout) -> Path:
    """Where it has complaints by department and by class, as JSON."""
    return layout.sentiment.parent / "complaints.json"

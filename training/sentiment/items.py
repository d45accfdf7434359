"""What reviews say of items: a row per review for the feature tables, and complaints by category for people.

The feature `review_sentiment` is made of the first by `training.tables` (mean over an item's reviews before the snapshot); this module
only leaves the file. A value is the model's, not the stars': text without stars is valued alike, and stars that contradict the words
are not followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.types import FloatArray
from training.sentiment.reviews import Reviews
from training.sentiment.words import texts_of

_PRIOR = 0.01  # of the background's counts, as pseudo-counts (Monroe, Colaresi and Quinn 2008, section 3.3.2)
_FEWEST = 8  # reviews with the term among the category's complaints
_STOP = (  # words without a complaint in them; "not" and "no" are none of these
    "a am an and are as at be been but by did do for from had has have he her i if im in into is it its ive just me my of on or our "
    "she so than that the their them then there these they this to was we were what when which who will with would you your"
)


def write(path: Path, items: Sequence[str], times: Sequence[datetime], values: NDArray[np.float32]) -> int:
    """Write one row per review that names its item: `item_id`, `at` (UTC), `value` from -1 to 1 and `reviews`, 1; returns the rows.

    Raises:
        ValueError: no review names an item, or a value is out of bounds.
    """
    if not (np.isfinite(values).all() and (np.abs(values) <= 1.0).all()):
        raise ValueError("value: must be from -1 to 1")
    rows = [i for i, item in enumerate(items) if item]
    if not rows:
        raise ValueError("Clothing ID: no review names its item")
    table = pa.table(
        {
            "item_id": pa.array([items[i] for i in rows], pa.string()),
            "at": pa.array([times[i] for i in rows], pa.timestamp("us", tz="UTC")),
            "value": pa.array(values[rows].astype(np.float32)),
            "reviews": pa.array(np.ones(len(rows), np.int64)),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_suffix(".building")
    pq.write_table(table, building, compression="zstd")
    building.replace(path)
    return len(rows)


@dataclass(frozen=True, slots=True)
class Complaint:
    """A term that complaints about a category use more than other reviews of it do.

    Attributes:
        category: department or class.
        term: a word or two.
        complaints: negative reviews of the category with the term.
        others: its other reviews with the term.
        z: see `telling`; above 2 it is no accident.
    """

    category: str
    term: str
    complaints: int
    others: int
    z: float


def complaints(reviews: Reviews, negative: NDArray[np.bool_], categories: Sequence[str], *, most: int = 8) -> list[Complaint]:
    """The most telling terms of each category's negative reviews, most telling first; largest category first.

    Args:
        reviews: all of them, the negative ones among them.
        negative: (n,) read as negative.
        categories: (n,) department or class; reviews without one are left out.
        most: terms per category.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(ngram_range=(1, 2), min_df=min(_FEWEST, max(1, len(reviews) // 4)), binary=True, stop_words=_STOP.split())
    try:
        counts = vectorizer.fit_transform(texts_of(reviews)).tocsr()
    except ValueError:  # no term is left
        return []
    terms, named = vectorizer.get_feature_names_out(), np.array(categories)
    background = np.asarray(counts.sum(axis=0)).ravel().astype(np.float64)
    sizes = {category: int((named == category).sum()) for category in sorted(set(categories) - {""})}
    found = []
    for category in sorted(sizes, key=lambda c: -sizes[c]):
        ours, rest = (named == category) & negative, (named == category) & ~negative
        if not ours.any():
            continue
        with_term, without = (np.asarray(counts[rows].sum(axis=0)).ravel().astype(np.float64) for rows in (ours, rest))
        z = telling(with_term, without, background)
        fit = np.flatnonzero(with_term >= min(_FEWEST, ours.sum()))
        best = fit[np.argsort(-z[fit], kind="stable")][:most]
        found += [Complaint(category, str(terms[i]), int(with_term[i]), int(without[i]), round(float(z[i]), 2)) for i in best if z[i] > 0]
    return found


def telling(ours: FloatArray, others: FloatArray, background: FloatArray) -> FloatArray:
    """(v,) z-scores of the log-odds ratio of each term in one body of text against another (Monroe et al. 2008, eqs. 16, 20 and 22).

    Args:
        ours: (v,) counts of the terms in the one.
        others: (v,) in the other.
        background: (v,) in all text: the prior, of which a hundredth is added to both.
    """
    prior = _PRIOR * background
    a, b = ours + prior, others + prior
    odds_a, odds_b = a / (a.sum() - a), b / (b.sum() - b)
    score: FloatArray = (np.log(odds_a) - np.log(odds_b)) / np.sqrt(1.0 / a + 1.0 / b)
    return score

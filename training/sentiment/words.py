"""The model without BERT: TF-IDF of words and pairs of words, and logistic regression with balanced classes. Kept without pickling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import sigmoid
from ranking.types import FloatArray
from training.sentiment.reviews import Reviews

_MOST = 60_000  # terms


@dataclass(frozen=True, slots=True)
class Words:
    """A trained model of words.

    Attributes:
        vocabulary: term of each column.
        idf: (v,) weights of the terms.
        coefficients: (4, v): of the three classes, and of "recommended".
        intercepts: (4,).
    """

    vocabulary: tuple[str, ...]
    idf: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    intercepts: NDArray[np.float32]

    def scores(self, reviews: Reviews) -> tuple[FloatArray, FloatArray]:
        """(n, 3) log-probabilities of the classes, and (n,) probability of "recommended"."""
        vectorizer = _vectorizer(vocabulary={term: i for i, term in enumerate(self.vocabulary)})
        vectorizer.idf_ = self.idf.astype(np.float64)
        logits = np.asarray(vectorizer.transform(texts_of(reviews)) @ self.coefficients.T.astype(np.float64), np.float64)
        logits += self.intercepts
        classes = logits[:, :3] - np.logaddexp.reduce(logits[:, :3], axis=1, keepdims=True)
        return classes, sigmoid(logits[:, 3])

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        np.savez_compressed(folder / "words.npz", idf=self.idf, coefficients=self.coefficients, intercepts=self.intercepts)
        (folder / "vocabulary.json").write_text(json.dumps(self.vocabulary, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Words:
        """Read what `save` wrote."""
        vocabulary = tuple(json.loads((folder / "vocabulary.json").read_text(encoding="utf-8")))
        with np.load(folder / "words.npz", allow_pickle=False) as kept:
            return cls(vocabulary, kept["idf"], kept["coefficients"], kept["intercepts"])


def train(reviews: Reviews, *, seed: int = 0, balanced: bool = True) -> Words:
    """Fit on these reviews."""
    from sklearn.linear_model import LogisticRegression

    vectorizer = _vectorizer()
    x = vectorizer.fit_transform(texts_of(reviews))
    terms = vectorizer.get_feature_names_out()
    weights = "balanced" if balanced else None
    three = LogisticRegression(max_iter=1000, C=1.0, class_weight=weights, random_state=seed).fit(x, reviews.classes)
    two = LogisticRegression(max_iter=1000, C=1.0, random_state=seed).fit(x, reviews.recommended)
    return Words(
        tuple(map(str, terms)),
        vectorizer.idf_.astype(np.float32),
        np.concatenate([three.coef_, two.coef_]).astype(np.float32),
        np.concatenate([three.intercept_, two.intercept_]).astype(np.float32),
    )


def texts_of(reviews: Reviews) -> list[str]:
    """Title and text as one."""
    return [f"{title}. {text}" if title else text for title, text in zip(reviews.titles, reviews.texts, strict=True)]


def _vectorizer(vocabulary: Mapping[str, int] | None = None) -> Any:
    """One that learns its terms, or one that knows them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    learns = {"min_df": 2, "max_features": _MOST} if vocabulary is None else {}
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, vocabulary=vocabulary, **learns)

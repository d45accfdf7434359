"""The sentiment model, on disk and reading: encoders with three heads each, offsets of the classes, and the model of words beside them.

Encoders that were tuned alike from different seeds read as one: the mean of their probabilities. Files: for each of them `bert-0/encoder/`
(transformers' layout, safetensors) and `bert-0/heads.safetensors`; `sentiment.json`, `seen.npz`, and those of `words`. Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import sigmoid
from ranking.errors import UnknownName
from ranking.features import MAX_QUERY_TOKENS
from ranking.text import SpecialTokens
from ranking.types import FloatArray
from training.artefacts import write_text
from training.bert import encoder as encoders
from training.bert.data import FRAME, Pairs
from training.bert.fit import outputs
from training.bert.heads import task
from training.bert.model import Heads
from training.seen import Keys, among, keys
from training.sentiment.decide import decide
from training.sentiment.reviews import Reviews
from training.sentiment.words import Words, texts_of
from training.tables.tokens import Tokens, tokenizer_file

METHODS = ("bert", "words", "blend")
TASKS = ("sentiment", "stars", "recommended")
SEEN = "seen.npz"
_BERT, _FACTS = "bert-{}", "sentiment.json"
LENGTH = 128
"""Tokens of a review, framed: what the encoder was trained on. A longer one keeps its title and its first words."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What belongs to the weights.

    Attributes:
        offsets: of the classes' log-odds, found on validation reviews.
        blend: share of BERT in the log-probabilities of the blend with words.
        blend_offsets: the same offsets for the blend.
        words_offsets: and for words alone.
        seed: of the split and the first encoder's training.
        models: encoders that read as one.
        length: `LENGTH` at training.
        training: how it was trained, and what validation and test said then.
    """

    offsets: tuple[float, ...] = (0.0, 0.0, 0.0)
    blend: float = 0.5
    blend_offsets: tuple[float, ...] = (0.0, 0.0, 0.0)
    words_offsets: tuple[float, ...] = (0.0, 0.0, 0.0)
    seed: int = 0
    models: int = 1
    length: int = LENGTH
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Read:
    """What a model makes of reviews.

    Attributes:
        scores: (n, 3) log-probabilities of negative, neutral, positive.
        classes: (n,) the class decided on.
        recommended: (n,) probability that the buyer recommends the piece.
    """

    scores: FloatArray
    classes: NDArray[np.int64]
    recommended: FloatArray

    @property
    def value(self) -> NDArray[np.float32]:
        """(n,) from -1 (negative) to 1 (positive): the difference of the two classes' probabilities."""
        p = np.exp(self.scores)
        found: NDArray[np.float32] = (p[:, 2] - p[:, 0]).astype(np.float32)
        return found

    def take(self, rows: NDArray[np.int64]) -> Read:
        """What it makes of these reviews."""
        return Read(self.scores[rows], self.classes[rows], self.recommended[rows])


@dataclass(frozen=True, slots=True)
class Seen:
    """Keys of the reviews that made a model.

    Attributes:
        training: those its weights were learnt from.
        validation: those its thresholds were found on.
    """

    training: Keys
    validation: Keys

    @classmethod
    def of(cls, training: Reviews, validation: Reviews) -> Seen:
        """Of the reviews themselves."""
        return cls(keys(texts_of(training)), keys(texts_of(validation)))

    def of_training(self, reviews: Reviews) -> NDArray[np.bool_]:
        """(n,) which reviews taught the model."""
        return among(texts_of(reviews), self.training)

    def of_validation(self, reviews: Reviews) -> NDArray[np.bool_]:
        """(n,) which reviews moved its thresholds."""
        return among(texts_of(reviews), self.validation)


@dataclass(frozen=True, slots=True)
class Sentiment:
    """A trained model; `seen` is None for one that was stored before models kept it."""

    models: tuple[Heads, ...]
    words: Words
    facts: Facts
    seen: Seen | None = None

    def read(self, reviews: Reviews, *, methods: Sequence[str] = METHODS, batch: int = 64) -> dict[str, Read]:
        """Reviews as `bert` reads them, as `words` does, and as the `blend` of both.

        Raises:
            UnknownName: one of the methods is none of these.
        """
        for name in methods:
            if name not in METHODS:
                raise UnknownName("method", name, list(METHODS))
        facts, found = self.facts, {}
        if set(methods) - {"words"}:
            pairs = tokenised(reviews)
            told = [outputs(model, pairs, special(), batch=batch) for model in self.models]
            classes = np.logaddexp.reduce([log_softmax(one["sentiment"]) for one in told], axis=0) - np.log(len(told))
            yes = np.mean([sigmoid(one["recommended"][:, 0].astype(np.float64)) for one in told], axis=0)
            found["bert"] = (classes, yes, facts.offsets)
        if set(methods) - {"bert"}:
            found["words"] = (*self.words.scores(reviews), facts.words_offsets)
        if "blend" in methods:
            (bert, yes, _), (lexical, yes_by_words, _) = found["bert"], found["words"]
            both = log_softmax(facts.blend * bert + (1.0 - facts.blend) * lexical)
            found["blend"] = (both, facts.blend * yes + (1.0 - facts.blend) * yes_by_words, facts.blend_offsets)
        read = {name: Read(scores, decide(scores, np.array(offsets)), yes) for name, (scores, yes, offsets) in found.items()}
        return {name: read[name] for name in methods}

    def save(self, folder: Path, *, weights: bool = True) -> None:
        """Write into the folder, which is made; a folder in which this was not done to its end holds no model.

        Args:
            folder: of the model.
            weights: False: those that are there are this model's, and stay.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if weights:
            (folder / _FACTS).unlink(missing_ok=True)
            for left in folder.glob(_BERT.format("*")):  # of a model that had more of them
                shutil.rmtree(left)
            for i, model in enumerate(self.models):
                save_heads(model, folder / _BERT.format(i))
            self.words.save(folder)
        if self.seen is not None:
            np.savez_compressed(folder / SEEN, training=self.seen.training, validation=self.seen.validation)
        facts = replace(self.facts, models=len(self.models))
        write_text(folder / _FACTS, json.dumps(asdict(facts), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Sentiment:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no model; the message names the command that makes one.
        """
        if not (folder / _FACTS).is_file() or not (folder / _BERT.format(0)).is_dir():
            raise FileNotFoundError(f"{folder}: no sentiment model; `python -m training.sentiment train FILE` makes it")
        read = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in read.items()}
        facts = Facts(**known)
        models = tuple(load_heads(folder / _BERT.format(i)) for i in range(facts.models))
        return cls(models, Words.load(folder), facts, _seen(folder / SEEN))


def save_heads(model: Heads, folder: Path) -> None:
    """Write an encoder and its heads into a folder, which is made."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.encoder.save_pretrained(folder / "encoder", safe_serialization=True)
    save_file({k: v.contiguous() for k, v in model.heads.state_dict().items()}, str(folder / "heads.safetensors"))


def load_heads(folder: Path) -> Heads:
    """Read what `save_heads` wrote."""
    from safetensors.torch import load_file

    model = Heads(encoders.load(folder / "encoder"), [task(name) for name in TASKS])
    model.heads.load_state_dict(load_file(str(folder / "heads.safetensors")))
    return model.eval()


def _seen(path: Path) -> Seen | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return Seen(kept["training"], kept["validation"])


def tokenised(reviews: Reviews, tokens: Tokens | None = None) -> Pairs:
    """Reviews as pairs of title and text, with labels: cut at `LENGTH` together, the text at its end."""
    read = tokens or Tokens()
    titles = read(reviews.titles, MAX_QUERY_TOKENS)
    texts = [text[: LENGTH - FRAME - len(title)] for title, text in zip(titles, read(reviews.texts, LENGTH), strict=True)]
    labels = {
        "sentiment": reviews.classes.astype(np.float32),
        "stars": ((reviews.ratings - 3) / 2).astype(np.float32),
        "recommended": reviews.recommended.astype(np.float32),
    }
    return Pairs.alone(titles, texts, labels)


def log_softmax(scores: NDArray[Any]) -> FloatArray:
    """(n, c) log-probabilities of (n, c) logits."""
    x = scores.astype(np.float64)
    normal: FloatArray = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    return normal


def special() -> SpecialTokens:
    """The framing ids of the pretrained tokenizer."""
    from tokenizers import Tokenizer

    return encoders.special_tokens(Tokenizer.from_file(str(tokenizer_file())))

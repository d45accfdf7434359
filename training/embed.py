"""Texts of items to embeddings, when asked: read with the sentence encoder, written as a feature table, loaded into the online store."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tokenizers import Tokenizer

from ranking.features import ITEM_EMBEDDING, ITEM_PROFILE
from ranking.layout import Layout
from training import online
from training.progress import Bar
from training.tables import embeddings
from training.tables.tokens import tokenizer_file


@dataclass(frozen=True, slots=True)
class Embedded:
    """What `run` did."""

    texts_read: int  # new ones
    items: int  # with an embedding
    seconds: float  # of reading


def run(layout: Layout) -> Embedded:
    """Read texts nobody has read, write the table, and load the online store where there is one.

    Raises:
        FileNotFoundError: there are no feature tables.
        FeastError: Feast could not load them.
    """
    from training.members import bert, bi_encoder  # torch: a second nobody else should wait for

    special = bert.special_tokens(Tokenizer.from_file(str(tokenizer_file())))
    encoder = bi_encoder.load()
    started, told = time.perf_counter(), 0
    with Bar("texts read, percent", 100) as bar:

        def advance(read: int, new: int) -> None:
            nonlocal told
            bar.advance(100 * read // new - told)
            told = 100 * read // new

        profile = layout.features / f"{ITEM_PROFILE.name}.parquet"
        read = embeddings.read_texts(profile, layout.embeddings, lambda texts: bi_encoder.encode(encoder, texts, special), advance)
    seconds = time.perf_counter() - started
    items = embeddings.of_items(layout.features, layout.embeddings)
    if (layout.feast / "registry.db").exists():
        online.bring(layout, online.serving_time(layout), [ITEM_EMBEDDING])  # the view may be newer than what was applied last
    return Embedded(read, items, seconds)

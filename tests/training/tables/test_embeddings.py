"""What items' texts mean: each text is read once, whoever cut a run short; items whose text nobody read have no row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranking.features import EMBEDDING_WIDTH
from training.tables import embeddings

KNOWN_AT = datetime(2020, 1, 1, tzinfo=UTC)


class Encoder:
    """One that any text makes a vector of, and remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def __call__(self, texts: list[np.ndarray]) -> np.ndarray:
        self.seen += [text.tolist() for text in texts]
        vectors = np.stack([np.random.default_rng(int(text.sum())).standard_normal(384) for text in texts]).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _profile(folder: Path, digests: list[int]) -> Path:
    path = folder / "item_profile.parquet"
    rows = {
        "item_id": [f"i{n}" for n in range(len(digests))],
        "event_timestamp": pa.array([KNOWN_AT] * len(digests), pa.timestamp("us", tz="UTC")),
        "token_ids": pa.array([[d, 7] if d else [] for d in digests], pa.list_(pa.int64())),
        "text_digest": pa.array(digests, pa.int64()),
    }
    pq.write_table(pa.table(rows), path)
    return path


def test_each_text_is_read_once(tmp_path: Path) -> None:
    """Two items of one text are one text, an item without text is none, and a later run reads what is new only."""
    kept, encoder = tmp_path / "kept" / "texts.parquet", Encoder()
    assert embeddings.read_texts(_profile(tmp_path, [5, 3, 5, 0]), kept, encoder) == 2
    assert encoder.seen == [[3, 7], [5, 7]]
    assert embeddings.read_texts(_profile(tmp_path, [5, 3, 9]), kept, encoder) == 1
    assert encoder.seen[2:] == [[9, 7]]
    assert embeddings.read_texts(_profile(tmp_path, [3]), kept, encoder) == 0


def test_the_table_has_a_row_per_item_whose_text_was_read(tmp_path: Path) -> None:
    """Of its text, as of when the text is known; items of one text have one vector, of length 1."""
    kept = tmp_path / "texts.parquet"
    embeddings.read_texts(_profile(tmp_path, [5, 3]), kept, Encoder())
    profile = _profile(tmp_path, [3, 4, 5, 3])  # of 4 nothing was read
    assert embeddings.write_item_embedding(profile, kept, tmp_path) == 3
    rows = pq.read_table(tmp_path / "item_embedding.parquet").to_pylist()
    assert [(row["item_id"], row["embedding_of"], row["event_timestamp"]) for row in rows] == [
        ("i0", 3, KNOWN_AT),
        ("i2", 5, KNOWN_AT),
        ("i3", 3, KNOWN_AT),
    ]
    assert rows[0]["embedding"] == rows[2]["embedding"] != rows[1]["embedding"]
    assert {len(row["embedding"]) for row in rows} == {EMBEDDING_WIDTH}
    assert np.linalg.norm(rows[0]["embedding"]) == pytest.approx(1.0)


def test_without_anything_read_the_table_is_there_and_empty(tmp_path: Path) -> None:
    """Feast reads it all the same."""
    profile = _profile(tmp_path, [3])
    for kept in (None, tmp_path / "absent.parquet"):
        assert embeddings.write_item_embedding(profile, kept, tmp_path) == 0
    assert pq.read_table(tmp_path / "item_embedding.parquet").column_names[2:] == ["embedding", "embedding_of"]


def test_a_run_cut_short_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before is kept, and only the rest is read."""
    monkeypatch.setattr(embeddings, "_AT_ONCE", 2)
    profile, kept, encoder = _profile(tmp_path, [1, 2, 3, 4, 5]), tmp_path / "texts.parquet", Encoder()

    def stop(read: int, new: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embeddings.read_texts(profile, kept, encoder, stop)
    assert embeddings.read_texts(profile, kept, encoder) == 3
    assert encoder.seen == [[n, 7] for n in range(1, 6)]


def test_what_another_encoder_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of two encoders must not be multiplied."""
    profile, kept, encoder = _profile(tmp_path, [1, 2]), tmp_path / "texts.parquet", Encoder()
    embeddings.read_texts(profile, kept, encoder)
    monkeypatch.setattr(embeddings, "_maker", lambda: b"another")
    assert embeddings.write_item_embedding(profile, kept, tmp_path) == 0
    assert embeddings.read_texts(profile, kept, encoder) == 2
    assert len(pq.read_table(kept)) == 2


def test_the_projection_keeps_products_nearly() -> None:
    """Cosines of 100 pairs, alike and not, differ by 0.06 at the root of the mean square; the width promises 1 / sqrt(128) at most."""
    random = np.random.default_rng(1)
    one, other = random.standard_normal((2, 100, 384)).astype(np.float32)
    other = one * np.linspace(0, 2, 100, dtype=np.float32)[:, None] + other
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))
    wrong = (embeddings.projected(one) * embeddings.projected(other)).sum(axis=1) - (one * other).sum(axis=1)
    assert np.sqrt(np.mean(wrong**2)) < 1 / np.sqrt(EMBEDDING_WIDTH)


def test_without_tables_there_is_nothing_to_read(tmp_path: Path) -> None:
    """The message says what to run."""
    with pytest.raises(FileNotFoundError, match="longtail features compute"):
        embeddings.read_texts(tmp_path / "item_profile.parquet", tmp_path / "kept", Encoder())

"""The log of what was served: one row per returned result, as Parquet files for training and offline evaluation.

The request path only appends a reference to a bounded queue; it never waits, and what finds the queue full is counted and not logged.
One thread turns references into columns and writes them. A user is known by a keyed digest only: whoever has the files but not the key
cannot tell whose they are, nor test a guess. Knows no protobuf, no gRPC and no Feast.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ranking.fairness.floors import rank_by_score
from ranking.features import MODEL_COLUMNS, stable_key
from ranking.privacy import user_digest
from ranking.types import Float32Array, FloatArray, IntArray, Ranking, RankRequest
from services.privacy.forgotten import Forgotten

log = logging.getLogger(__name__)
_KEY_BYTES = 32
_EVERY_S = 0.25  # how often the thread looks; it is not woken by calls, which would cost each of them a switch of threads
_STOP_S = 10.0  # longest a stop waits for the last file

_STRINGS = (
    "ranking_id",
    "request_id",
    "release",
    "surface",
    "query",
    "policy",
    "policy_version",
    "user",
    "feature_schema_hash",
    "session_id",
    "context",
)
SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", "UTC")),  # when the features were read
        ("as_of", pa.timestamp("us", "UTC")),  # what the features are of: `time`, unless historical data are replayed
        *((name, pa.string()) for name in _STRINGS),  # the same in all rows of a ranking; `context` is JSON
        ("item_id", pa.string()),
        ("position", pa.int32()),  # 1-based, as returned
        ("position_by_score", pa.int32()),  # 1-based, among the candidates that competed, without floors
        ("propensity", pa.float64()),  # of standing where it stands: 1, the policies are deterministic
        ("score", pa.float64()),
        ("probability", pa.float64()),
        ("logits", pa.map_(pa.string(), pa.float64())),  # by member, null where it could not score
        ("price_micros", pa.int64()),  # null where there is no price
        ("features", pa.list_(pa.float32(), len(MODEL_COLUMNS))),  # the models' input row
    ]
)


# Numbers hardly repeat: a dictionary of them makes files larger and takes several times as long.
_DICTIONARY = [*_STRINGS, "item_id", "logits.key_value.key"]


@dataclass(frozen=True, slots=True)
class Served:
    """One answer and what it was made of: references, nothing is copied. Not to be changed by anyone."""

    time: float  # seconds since 1970, when the features were read: what was pushed later is not in them
    as_of: float  # the same, of the features
    request_id: str  # of the call, as in the log's lines and the trailing metadata; lists of a batch share it
    request: RankRequest
    ranking: Ranking
    members: Sequence[str]  # (m,)
    logits: FloatArray  # (m, n)
    matrix: Float32Array  # (n, len(MODEL_COLUMNS))
    kept: IntArray  # (c,) candidates that competed
    key: FloatArray  # (c,) what they were sorted by


@dataclass(frozen=True, slots=True)
class Part:
    """What the log keeps of one answer with k results until its file is written."""

    time: float
    as_of: float
    same: Mapping[str, str]  # column -> value in every row
    members: Sequence[str]  # (m,)
    user_id: str  # never written; a file is not to have users who were forgotten before it was
    item_ids: Any  # (k,) Arrow strings
    by_score: IntArray  # (k,)
    scores: FloatArray  # (k,)
    probabilities: FloatArray  # (k,)
    logits: FloatArray  # (k · m,) row after row
    prices: IntArray | None  # (k,)
    features: Float32Array  # (k, len(MODEL_COLUMNS))


class ServedLog:
    """The queue and its writer."""

    def __init__(
        self, directory: Path, key: Path, forgotten: Forgotten, *, share: float, queue: int, rows: int, seconds: float, files: int
    ) -> None:
        """Start the writer thread; directory and key are made when the first answer is written.

        Args:
            directory: where the files go.
            key: file with the key of the user digests, made with mode 0600 where there is none.
            forgotten: users whose answers are not written.
            share: of the users, in (0, 1]; a stable hash chooses them, so that a chosen user's answers are all there. Requests
                without a user are chosen by session, then by request id.
            queue: answers waiting beyond which new ones are dropped.
            rows: a file is written once it has as many.
            seconds: or once its first answer has waited so long.
            files: most files kept.
        """
        self._directory = directory
        self._key = key
        self._forgotten = forgotten
        self._digest_key: bytes | None = None
        self._below = int(share * 2**63)
        self._limit = queue
        self._rows = rows
        self._seconds = seconds
        self._files = files
        self._waiting: deque[Served] = deque()
        self._parts: list[Part] = []  # of the next file
        self._rows_held = 0  # in them
        self._began = 0.0  # monotonic time of its first one
        self._dropped = 0
        self._dropped_logged = 0
        self._failed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="served-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Answers that found the queue full."""
        return self._dropped

    @property
    def failed(self) -> int:
        """Answers that could not be written."""
        return self._failed

    def offer(self, served: Served) -> None:
        """Take an answer to be written, or count it as dropped; answers of users not chosen are left alone. Called from one thread."""
        request = served.request
        if abs(stable_key(request.user_id or request.session_id or request.request_id)) >= self._below:
            return
        if len(self._waiting) < self._limit:
            self._waiting.append(served)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Write what is waiting and end the thread."""
        self._stop.set()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            log.error("served_log_stuck", extra={"waiting": len(self._waiting)})

    def _run(self) -> None:
        stopping = False
        while not stopping or self._waiting:
            stopping = self._stop.wait(_EVERY_S)
            try:
                self._drain()
                if self._parts and (stopping or time.monotonic() - self._began >= self._seconds):
                    self._write()
            except Exception:  # the boundary of the thread: a full disk must not end the log for good
                log.exception("served_log_failed", extra={"lost_rows": self._rows_held})
                self._failed += len(self._parts)
                self._forget()
            if self._dropped != self._dropped_logged:
                log.warning("served_log_full", extra={"dropped": self._dropped - self._dropped_logged})
                self._dropped_logged = self._dropped

    def _drain(self) -> None:
        while self._waiting:
            one = self._waiting.popleft()
            if self._digest_key is None:
                self._digest_key = digest_key(self._key)
            part = taken(one, self._digest_key)
            if not len(part.scores):
                continue  # a row is a result: a file of such answers alone would have none
            if not self._parts:
                self._began = time.monotonic()
            self._parts.append(part)
            self._rows_held += len(part.scores)
            if self._rows_held >= self._rows:
                self._write()

    def _write(self) -> None:
        parts = [part for part in self._parts if part.user_id not in self._forgotten]
        if not parts:
            self._forget()
            return
        rows = table(parts)
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{time.time_ns():020d}-{os.getpid()}.parquet"  # names sort by age, and two processes never share one
        draft = path.with_suffix(".part")
        try:
            pq.write_table(rows, draft, compression="zstd", use_dictionary=_DICTIONARY)
            draft.replace(path)  # a reader never meets half a file
        finally:
            draft.unlink(missing_ok=True)
        self._forget()
        for old in sorted(self._directory.glob("*.parquet"))[: -self._files]:
            old.unlink(missing_ok=True)

    def _forget(self) -> None:
        self._parts = []
        self._rows_held = 0


def taken(served: Served, key: bytes) -> Part:
    """The results' part of everything, copied, so that the rest of the answer can be forgotten. About 0.1 ms for 100 results.

    Args:
        served: the answer.
        key: of the user digests.
    """
    order, ranking = served.ranking.order, served.ranking
    return Part(
        served.time,
        served.as_of,
        _same(served, key),
        served.members,
        served.request.user_id,
        pa.array(ranking.item_ids, pa.string()),
        _by_score(served),
        ranking.scores,
        ranking.probabilities,
        served.logits[:, order].T.ravel(),
        ranking.price_micros,
        served.matrix[order],
    )


def table(parts: Sequence[Part]) -> Any:
    """A `SCHEMA` table with a row per result of each part, in their order; long columns at once, which Arrow makes beside other threads."""
    sizes = [len(p.scores) for p in parts]
    of = np.repeat(np.arange(len(parts)), sizes)  # row -> its part
    repeat = pa.array(of)
    columns = {
        **{name: pa.array([p.same[name] for p in parts], pa.string()).take(repeat) for name in _STRINGS},
        "time": _instants([p.time for p in parts]).take(repeat),
        "as_of": _instants([p.as_of for p in parts]).take(repeat),
        "item_id": pa.concat_arrays([p.item_ids for p in parts]),
        "position": pa.array(np.concatenate([np.arange(1, k + 1) for k in sizes]), pa.int32()),
        "position_by_score": pa.array(np.concatenate([p.by_score for p in parts]), pa.int32()),
        "propensity": pa.array(np.ones(len(of))),
        "score": pa.array(np.concatenate([p.scores for p in parts])),
        "probability": pa.array(np.concatenate([p.probabilities for p in parts])),
        "logits": _logits(parts, sizes),
        "price_micros": pa.concat_arrays(
            [pa.nulls(k, pa.int64()) if p.prices is None else pa.array(p.prices) for p, k in zip(parts, sizes, strict=True)]
        ),
        "features": pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate([p.features for p in parts]).ravel()), len(MODEL_COLUMNS)),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _instants(seconds: Sequence[float]) -> Any:
    return pa.array(np.round(np.array(seconds) * 1e6).astype(np.int64)).cast(pa.timestamp("us", "UTC"))


def digest_key(path: Path) -> bytes:
    """The key in the file, made on first use; processes that make it at once end up with the same.

    Raises:
        ValueError: the file does not hold a key.
        OSError: it can be neither read nor made.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            log.info("served_key_shared", extra={"path": str(path)})
        finally:
            draft.unlink()
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise ValueError(f"{path}: need a key of {_KEY_BYTES} bytes, got {len(key)}; remove it to have a new one made")
    return key


def _same(s: Served, key: bytes) -> dict[str, str]:
    """What is the same in every row of an answer."""
    return {
        "ranking_id": s.ranking.ranking_id,
        "request_id": s.request_id,
        "release": s.ranking.release,
        "surface": s.request.surface.value,
        "query": s.request.query,
        "policy": s.ranking.policy,
        "policy_version": s.ranking.policy_version,
        "user": user_digest(s.request.user_id, key),
        "feature_schema_hash": s.ranking.feature_schema_hash,
        "session_id": s.request.session_id,
        "context": json.dumps(dict(s.request.context), ensure_ascii=False, sort_keys=True),
    }


def _by_score(s: Served) -> IntArray:
    rank = np.zeros(len(s.matrix), np.int64)
    rank[s.kept[rank_by_score(s.key)]] = np.arange(1, len(s.kept) + 1)
    return rank[s.ranking.order]


def _logits(parts: Sequence[Part], sizes: Sequence[int]) -> Any:
    """(rows,) map of member to log-odds."""
    names = sorted({m for p in parts for m in p.members})
    codes = {name: code for code, name in enumerate(names)}
    keys = np.concatenate([np.tile([codes[m] for m in p.members], k) for p, k in zip(parts, sizes, strict=True)])
    offsets = np.append(0, np.cumsum(np.repeat([len(p.members) for p in parts], sizes)))
    values = pa.array(np.concatenate([p.logits for p in parts]), from_pandas=True)  # NaN becomes null
    return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(names, pa.string()).take(pa.array(keys)), values)

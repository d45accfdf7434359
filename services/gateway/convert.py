"""Between the wire and `ranking.types`: the only module of the gateway that knows both.

Every rule of the .proto file's comments is checked here, all violations of a request are reported at once, and each names the field as
the caller wrote it. The happy path is vectorised; a column is walked value by value only to name what is wrong in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.errors import InvalidField, InvalidFields
from ranking.types import Candidates, Explain, Float32Array, FloatArray, IntArray, RankRequest, Surface
from services.gateway.policy.objectives import COLUMNS as PROBABILITY_COLUMNS
from services.rpc.ids import new_id

MAX_CANDIDATES = 1000
MAX_ID_BYTES = 256
MAX_QUERY_BYTES = 1024
MAX_CONTEXT_ENTRIES = 32
MAX_COLUMNS = 64
MAX_BID_MICROS = 10**12
MAX_BATCH = 32
_NAMED = 20  # values of one column that are named: once so many are wrong the others say nothing new
MAX_EXPLANATIONS = 2000  # of all lists of a batch; the largest answer then stays within the transport's message limit

_SURFACES = {pb.SURFACE_SEARCH: Surface.SEARCH, pb.SURFACE_ADS: Surface.ADS}
_EXPLAIN = {
    pb.EXPLAIN_LEVEL_UNSPECIFIED: Explain.NONE,
    pb.EXPLAIN_LEVEL_NONE: Explain.NONE,
    pb.EXPLAIN_LEVEL_SCORES: Explain.SCORES,
    pb.EXPLAIN_LEVEL_FULL: Explain.FULL,
}


def to_request(message: pb.RankRequest) -> RankRequest:
    """The validated request with its defaults filled in.

    Raises:
        InvalidFields: with every violation found.
    """
    wrong: list[InvalidField] = []
    surface = _SURFACES.get(message.surface)
    if surface is None:
        known = ", ".join(pb.Surface.Name(s) for s in _SURFACES)
        wrong.append(InvalidField("surface", f"{message.surface} is not a surface; known: {known}"))
    explain = _EXPLAIN.get(message.explain)
    if explain is None:
        wrong.append(
            InvalidField("explain", f"{message.explain} is not a level; known: {', '.join(pb.ExplainLevel.Name(e) for e in _EXPLAIN)}")
        )
    for name in ("request_id", "user_id", "session_id", "policy", "release"):
        _check_size(wrong, name, getattr(message, name), MAX_ID_BYTES)
    _check_size(wrong, "query", message.query, MAX_QUERY_BYTES)
    context = _context(wrong, message)
    candidates = _candidates(wrong, message.candidates, surface)
    n = len(candidates)
    top_k = message.top_k if message.HasField("top_k") else n
    if message.HasField("top_k") and top_k < 1:
        wrong.append(InvalidField("top_k", f"must be at least 1, got {top_k}; leave it unset for all candidates"))
    if wrong or surface is None or explain is None:
        raise InvalidFields(wrong)
    return RankRequest(
        request_id=message.request_id or new_id(),
        surface=surface,
        query=message.query,
        user_id="" if message.opted_out else message.user_id,
        candidates=candidates,
        top_k=min(top_k, n),
        session_id="" if message.opted_out else message.session_id,
        context={} if message.opted_out else context,
        policy=message.policy,
        release=message.release,
        explain=explain,
        validate_only=message.validate_only,
    )


def surface_name(message: pb.RankRequest) -> str:
    """The surface, as metrics name it; empty where it is none."""
    surface = _SURFACES.get(message.surface)
    return surface.value if surface else ""


def to_batch(message: pb.BatchRankRequest) -> Sequence[pb.RankRequest]:
    """The batch's lists, each still to be validated on its own.

    Raises:
        InvalidField: there are none or too many, or together they ask for more explanations than one message can carry.
    """
    n = len(message.requests)
    if not 1 <= n <= MAX_BATCH:
        raise InvalidField("requests", f"need 1 to {MAX_BATCH} requests, got {n}")
    explained = sum(map(_explanations, message.requests))
    if explained > MAX_EXPLANATIONS:
        why = f"at most {MAX_EXPLANATIONS} explanations in one batch, these ask for {explained}: lower top_k, or set explain on fewer lists"
        raise InvalidField("requests", why)
    return message.requests


def _explanations(message: pb.RankRequest) -> int:
    """How many explanations the list's answer will carry; none where it will be an error or only a check."""
    n = len(message.candidates.item_ids)
    if _EXPLAIN.get(message.explain, Explain.NONE) is Explain.NONE or message.validate_only or n > MAX_CANDIDATES:
        return 0
    return min(max(message.top_k, 0), n) if message.HasField("top_k") else n


def _check_size(wrong: list[InvalidField], field: str, value: str, limit: int) -> None:
    if len(value) * 4 > limit and (size := len(value.encode())) > limit:  # a character takes at most 4 bytes
        wrong.append(InvalidField(field, f"at most {limit} bytes, got {size}"))


def _context(wrong: list[InvalidField], message: pb.RankRequest) -> dict[str, str]:
    if len(message.context) > MAX_CONTEXT_ENTRIES:
        wrong.append(InvalidField("context", f"at most {MAX_CONTEXT_ENTRIES} entries, got {len(message.context)}"))
        return {}
    context = dict(message.context)
    for key, value in context.items():
        shown = key if len(key) <= 64 else key[:64] + "…"
        _check_size(wrong, f"context[{shown!r}] key", key, MAX_ID_BYTES)
        _check_size(wrong, f"context[{shown!r}]", value, MAX_ID_BYTES)
    return context


def _candidates(wrong: list[InvalidField], message: pb.Candidates, surface: Surface | None) -> Candidates:
    n = len(message.item_ids)
    if n > MAX_CANDIDATES:  # of a list this long nothing else is looked at: it may be of any length
        wrong.append(InvalidField("candidates.item_ids", f"at most {MAX_CANDIDATES} candidates, got {n}"))
        return Candidates(())
    ids = tuple(message.item_ids)
    _check_ids(wrong, ids)
    scores: FloatArray | None = None
    if message.retrieval_scores:
        scores = np.fromiter(message.retrieval_scores, np.float64, len(message.retrieval_scores))
        _check_column(wrong, "candidates.retrieval_scores", scores, n)
    columns: dict[str, Float32Array] = {}
    if len(message.columns) > MAX_COLUMNS:
        wrong.append(InvalidField("candidates.columns", f"at most {MAX_COLUMNS} columns, got {len(message.columns)}"))
    for j, column in enumerate(message.columns[:MAX_COLUMNS]):
        path = f"candidates.columns[{j}]"
        if not column.name:
            wrong.append(InvalidField(f"{path}.name", "must not be empty"))
        elif column.name in columns:
            wrong.append(InvalidField(f"{path}.name", f"{column.name[:64]!r} is there twice"))
        _check_size(wrong, f"{path}.name", column.name, MAX_ID_BYTES)
        values = np.fromiter(column.values, np.float32, len(column.values))
        _check_column(wrong, f"{path}.values", values, n)
        if column.name in PROBABILITY_COLUMNS.values():
            _check_probabilities(wrong, f"{path}.values", values)
        columns[column.name] = values
    return Candidates(ids, scores, _bids(wrong, message, surface, n), columns)


def _check_ids(wrong: list[InvalidField], ids: tuple[str, ...]) -> None:
    n = len(ids)
    field = "candidates.item_ids"
    if n == 0:
        wrong.append(InvalidField(field, "need at least 1 candidate"))
        return
    if len(set(ids)) == n and "" not in ids and len(max(ids, key=len)) * 4 <= MAX_ID_BYTES:
        return
    first: dict[str, int] = {}
    for i, item in enumerate(ids):
        at = first.setdefault(item, i)
        if not item:
            wrong.append(InvalidField(f"{field}[{i}]", "must not be empty"))
        elif at != i:
            wrong.append(InvalidField(f"{field}[{i}]", f"{item[:64]!r} is already candidate {at}; ids must be unique"))
        _check_size(wrong, f"{field}[{i}]", item, MAX_ID_BYTES)


def _check_column(wrong: list[InvalidField], field: str, values: FloatArray | Float32Array, n: int) -> None:
    if len(values) != n:
        wrong.append(InvalidField(field, f"need one value per candidate ({n}), got {len(values)}"))
    finite = np.isfinite(values)
    if not finite.all():
        wrong.extend(InvalidField(f"{field}[{i}]", f"must be finite, got {values[i]}") for i in np.flatnonzero(~finite)[:_NAMED])


def _check_probabilities(wrong: list[InvalidField], field: str, values: Float32Array) -> None:
    out = (values < 0.0) | (values > 1.0)  # what is not finite is reported already
    if out.any():
        wrong.extend(
            InvalidField(f"{field}[{i}]", f"must be a probability within 0 and 1, got {values[i]}")
            for i in np.flatnonzero(out & np.isfinite(values))[:_NAMED]
        )


def _bids(wrong: list[InvalidField], message: pb.Candidates, surface: Surface | None, n: int) -> IntArray | None:
    field = "candidates.bid_micros"
    if not message.bid_micros:
        if surface is Surface.ADS and n:
            wrong.append(InvalidField(field, f"SURFACE_ADS needs one bid per candidate ({n}), got none"))
        return None
    bids = np.fromiter(message.bid_micros, np.int64, len(message.bid_micros))
    if len(bids) != n:
        wrong.append(InvalidField(field, f"need one bid per candidate ({n}), got {len(bids)}"))
    out = np.flatnonzero((bids < 0) | (bids > MAX_BID_MICROS))
    wrong.extend(InvalidField(f"{field}[{i}]", f"must be within 0 and {MAX_BID_MICROS}, got {bids[i]}") for i in out[:_NAMED].tolist())
    return bids

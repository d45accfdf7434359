"""A typed client of the ranking gateway: arrays in, `RankResponse` out. Thin on purpose: the contract is the proto."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2_grpc as rpc

from ranking.types import Explain, Surface

_SURFACES = {Surface.SEARCH: pb.SURFACE_SEARCH, Surface.ADS: pb.SURFACE_ADS}
_LEVELS = {Explain.NONE: pb.EXPLAIN_LEVEL_NONE, Explain.SCORES: pb.EXPLAIN_LEVEL_SCORES, Explain.FULL: pb.EXPLAIN_LEVEL_FULL}


def rank_request(
    surface: Surface,
    item_ids: Sequence[str],
    *,
    user_id: str = "",
    query: str = "",
    retrieval_scores: Sequence[float] = (),
    bid_micros: Sequence[int] = (),
    columns: Mapping[str, Sequence[float]] | None = None,
    top_k: int | None = None,
    policy: str = "",
    release: str = "",
    explain: Explain = Explain.NONE,
    request_id: str = "",
) -> pb.RankRequest:
    """Build a request; limits and errors are the gateway's, which names the field.

    Args:
        surface: where the list is shown.
        item_ids: (n,) candidates in retrieval order.
        user_id: empty or unknown: ranked with defaults.
        query: empty: matched with what the user buys.
        retrieval_scores: (n,) or empty.
        bid_micros: (n,) for ADS, empty for SEARCH.
        columns: request-time features by name, (n,) each.
        top_k: number of results; None: all.
        policy: fairness policy by name; empty: the surface's active one.
        release: pins a release; empty: the active one.
        explain: how much each result says about itself.
        request_id: echoed; empty: the gateway makes one.
    """
    return pb.RankRequest(
        request_id=request_id,
        surface=_SURFACES[surface],
        query=query,
        user_id=user_id,
        candidates=pb.Candidates(
            item_ids=item_ids,
            retrieval_scores=retrieval_scores,
            bid_micros=bid_micros,
            columns=[pb.FloatColumn(name=name, values=values) for name, values in (columns or {}).items()],
        ),
        top_k=top_k,
        policy=policy,
        release=release,
        explain=_LEVELS[explain],
    )


class RankClient:
    """One channel to a gateway; use it as a context manager, share it between threads."""

    def __init__(self, address: str) -> None:
        # A gateway that restarts is found again within a second instead of after gRPC's default back-off.
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = rpc.RankingServiceStub(self._channel)

    def __enter__(self) -> RankClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._channel.close()

    def rank(self, request: pb.RankRequest, *, timeout_s: float = 10.0) -> Any:
        """One ranked list.

        Raises:
            grpc.RpcError: as the proto says; INVALID_ARGUMENT carries the offending fields.
        """
        return self._stub.Rank(request, timeout=timeout_s)

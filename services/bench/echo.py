"""The yardstick: a bare grpc.aio server with the same messages that answers at once, so that a figure of the gateway can be read as a
share of what this machine's Python gRPC can do at all.

`python -m services.bench.echo` prints its address and serves until it is terminated.
"""

from __future__ import annotations

import asyncio
import sys
from functools import cache
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2_grpc as pb_grpc

STAGES = ("convert", "features", "assemble", "score", "score.bert", "score.trees", "blend", "fairness", "total")


@cache
def canned(n: int) -> pb.RankResponse:
    """An answer of the size the gateway gives to `n` candidates."""
    return pb.RankResponse(
        ranking_id="0" * 32,
        request_id="0" * 32,
        results=pb.Results(
            item_ids=[f"item-{i:07d}" for i in range(n)],
            candidate_indices=range(n),
            scores=[1 / (i + 2) for i in range(n)],
            probabilities=[1 / (i + 2) for i in range(n)],
        ),
        release="release",
        model_versions={"bert": "1", "trees": "1"},
        policy="policy",
        policy_version="1",
        feature_schema_hash="0" * 16,
        feature_freshness=pb.FeatureFreshness(fresh=2 * n + 2),
        exposure=[
            pb.GroupExposure(
                attribute="popularity_tier",
                group=g,
                candidates=n,
                target_share=0.3,
                ceiling=1.0,
                count=n,
                exposure=0.3,
                count_before=n,
                exposure_before=0.3,
                debt=0.3,
            )
            for g in ("head", "tail", "new")
        ],
        fairness=pb.Fairness(utility_before=0.3, utility=0.3),
        stage_durations={stage: Duration(nanos=1) for stage in STAGES},
    )


class Echo(pb_grpc.RankingServiceServicer):
    """Answers without looking."""

    async def Rank(  # noqa: N802 - the method's name on the wire
        self, request: pb.RankRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RankResponse:
        """The canned answer for as many candidates."""
        return canned(len(request.candidates.item_ids))

    async def BatchRank(  # noqa: N802
        self, request: pb.BatchRankRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchRankResponse:
        """One canned answer per list."""
        return pb.BatchRankResponse(outcomes=[pb.RankOutcome(response=canned(len(r.candidates.item_ids))) for r in request.requests])


async def serve() -> None:
    """Listen on a free port, say which, and answer until terminated."""
    server = grpc.aio.server()
    pb_grpc.add_RankingServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve()))

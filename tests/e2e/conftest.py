"""One platform for the whole room: real data, Feast, Ray, Triton and gateway, from raw transactions to a served release."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from longtail.ranking.v1 import ranking_service_pb2_grpc as rpc

from deploy import local
from ranking.layout import Layout
from ranking.release import Release
from tests.deploy.servers import use_installed
from training import pipeline
from training.lists.requests import SampleRequest
from training.profile import TINY

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Platform:
    layout: Layout
    release: Release
    address: str
    samples: tuple[SampleRequest, ...]

    def stub(self) -> rpc.RankingServiceStub:
        return rpc.RankingServiceStub(grpc.insecure_channel(self.address))


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = Path(os.environ.get("LONGTAIL_TEST_PLATFORM") or tmp_path_factory.mktemp("platform"))
    layout = Layout(home)
    use_installed(layout)
    result = pipeline.run(layout, TINY)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LONGTAIL_SERVED_SHARE", "1")  # every answer is in the served log, and soon
        environment.setenv("LONGTAIL_SERVED_S", "1")
        environment.setenv("LONGTAIL_BUDGET_MS", "20000")  # what is tested is what is answered, on a busy machine too
        environment.setenv("LONGTAIL_TRITON_TIMEOUT_S", "20")
        state = local.up(layout, ROOT / "feature_repo", release=result.release.id, address="127.0.0.1:0", triton_port=0)
    try:
        samples = tuple(SampleRequest(**r) for r in json.loads(result.requests.read_text()))
        yield Platform(layout, result.release, state["gateway"]["address"], samples)
    finally:
        local.down(layout)

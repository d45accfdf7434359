"""The releases of a platform elsewhere, through its `ReleaseService`: `deploy.operations.Releases` over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
from longtail.release.v1 import release_service_pb2 as pb
from longtail.release.v1 import release_service_pb2_grpc

from deploy.garbage import Freed
from deploy.operations import Described
from deploy.service import convert
from deploy.store import Listed
from ranking.errors import LongtailError, Unavailable
from ranking.trial import Mode, Trial

_QUICK_S, _LONG_S = 10.0, 600.0  # to look, and to load and verify a release


class CallRefused(LongtailError):  # noqa: N818  named after what happened, like its siblings in ranking.errors
    """The service answered, and said no; the message is the service's."""


class There:
    """A connection; close it by leaving the context."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._channel = grpc.insecure_channel(address)
        self._stub = release_service_pb2_grpc.ReleaseServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._channel.close()

    def listed(self) -> list[Listed]:
        return [convert.listed(row) for row in self._ask(self._stub.ListReleases, pb.ListReleasesRequest(), _QUICK_S).releases]

    def get(self, release_id: str) -> Described:
        return convert.described(self._ask(self._stub.GetRelease, pb.GetReleaseRequest(release=release_id), _QUICK_S).release)

    def verify(self, release_id: str) -> Described:
        return convert.described(self._ask(self._stub.VerifyRelease, pb.VerifyReleaseRequest(release=release_id), _LONG_S).release)

    def activate(self, release_id: str, *, instead_of: str | None = None) -> Described:
        request = pb.ActivateReleaseRequest(release=release_id, instead_of=instead_of)
        return convert.described(self._ask(self._stub.ActivateRelease, request, _LONG_S).release)

    def try_out(self, release_id: str, mode: Mode, share: float) -> Trial:
        request = pb.SetTrafficRequest(mode=convert.mode_to_proto(mode), release=release_id, share=share)
        return convert.trial(self._ask(self._stub.SetTraffic, request, _LONG_S).trial)

    def end_trial(self) -> Trial | None:
        answer = self._ask(self._stub.SetTraffic, pb.SetTrafficRequest(), _LONG_S)
        return convert.trial(answer.ended) if answer.HasField("ended") else None

    def promote(self) -> Described:
        return convert.described(self._ask(self._stub.PromoteRelease, pb.PromoteReleaseRequest(), _LONG_S).release)

    def rollback(self) -> Described:
        return convert.described(self._ask(self._stub.RollbackRelease, pb.RollbackReleaseRequest(), _LONG_S).release)

    def status(self) -> dict[str, Any]:
        return convert.status(self._ask(self._stub.GetStatus, pb.GetStatusRequest(), _QUICK_S))

    def collect(self, keep: int) -> list[Freed]:
        answer = self._ask(self._stub.CollectGarbage, pb.CollectGarbageRequest(keep=keep), _LONG_S)
        return [convert.freed(one) for one in answer.removed]

    def _ask(self, method: Callable[..., Any], request: Any, timeout_s: float) -> Any:
        try:
            return method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise Unavailable(f"{self._address}: {details}") from None
            raise CallRefused(f"{self._address}: {code.name}: {details}") from None

"""`ReleaseService`'s methods: let in, unwrap, do, wrap. What is done is `deploy.operations`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from longtail.release.v1 import release_service_pb2 as pb
from longtail.release.v1 import release_service_pb2_grpc

from deploy.operations import KEEP, Releases
from deploy.service import convert, credentials
from ranking.errors import InvalidField, InvalidRelease, LongtailError, Superseded, Unavailable, UnknownName

_log = logging.getLogger(__name__)
T = TypeVar("T")
Context = Any  # grpc.ServicerContext is generic in its stubs and not in the library

CODES: dict[type[Exception], grpc.StatusCode] = {
    credentials.Refused: grpc.StatusCode.UNAUTHENTICATED,
    InvalidField: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownName: grpc.StatusCode.NOT_FOUND,
    InvalidRelease: grpc.StatusCode.FAILED_PRECONDITION,
    Superseded: grpc.StatusCode.FAILED_PRECONDITION,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    OSError: grpc.StatusCode.UNAVAILABLE,
}


class ReleaseServicer(release_service_pb2_grpc.ReleaseServiceServicer):
    """The service over one platform's releases."""

    def __init__(self, releases: Releases, digest: Path) -> None:
        """`digest` is the file of the token's digest, see `credentials`."""
        self._releases, self._digest = releases, digest

    def ListReleases(self, request: pb.ListReleasesRequest, context: Context) -> pb.ListReleasesResponse:  # noqa: N802
        rows = self._do(context, self._releases.listed)
        return pb.ListReleasesResponse(releases=[convert.listed_to_proto(row) for row in rows])

    def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.GetReleaseResponse:  # noqa: N802
        found = self._do(context, lambda: self._releases.get(convert.release_id(request)))
        return pb.GetReleaseResponse(release=convert.described_to_proto(found))

    def VerifyRelease(self, request: pb.VerifyReleaseRequest, context: Context) -> pb.VerifyReleaseResponse:  # noqa: N802
        found = self._do(context, lambda: self._releases.verify(convert.release_id(request)))
        return pb.VerifyReleaseResponse(release=convert.described_to_proto(found))

    def ActivateRelease(self, request: pb.ActivateReleaseRequest, context: Context) -> pb.ActivateReleaseResponse:  # noqa: N802
        before = request.instead_of if request.HasField("instead_of") else None
        done = self._do(context, lambda: self._releases.activate(convert.release_id(request), instead_of=before))
        return pb.ActivateReleaseResponse(release=convert.described_to_proto(done))

    def SetTraffic(self, request: pb.SetTrafficRequest, context: Context) -> pb.SetTrafficResponse:  # noqa: N802
        return self._do(context, lambda: self._set_traffic(request))

    def _set_traffic(self, request: pb.SetTrafficRequest) -> pb.SetTrafficResponse:
        wanted = convert.traffic(request)
        if wanted is None:
            ended = self._releases.end_trial()
            return pb.SetTrafficResponse(ended=convert.trial_to_proto(ended) if ended else None)
        return pb.SetTrafficResponse(trial=convert.trial_to_proto(self._releases.try_out(*wanted)))

    def PromoteRelease(self, request: pb.PromoteReleaseRequest, context: Context) -> pb.PromoteReleaseResponse:  # noqa: N802
        done = self._do(context, self._releases.promote)
        return pb.PromoteReleaseResponse(release=convert.described_to_proto(done))

    def RollbackRelease(self, request: pb.RollbackReleaseRequest, context: Context) -> pb.RollbackReleaseResponse:  # noqa: N802
        done = self._do(context, self._releases.rollback)
        return pb.RollbackReleaseResponse(release=convert.described_to_proto(done))

    def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        return convert.status_to_proto(self._do(context, self._releases.status))

    def CollectGarbage(self, request: pb.CollectGarbageRequest, context: Context) -> pb.CollectGarbageResponse:  # noqa: N802
        gone = self._do(context, lambda: self._releases.collect(convert.kept(request, KEEP)))
        return pb.CollectGarbageResponse(removed=[convert.freed_to_proto(one) for one in gone])

    def _do(self, context: Context, work: Callable[[], T]) -> T:
        """Do what a caller with the token asks; anyone else, and every error, ends the call with its status."""
        try:
            shown = next((value for key, value in context.invocation_metadata() if key == "authorization"), "")
            credentials.check(self._digest, shown)
            return work()
        except (LongtailError, credentials.Refused, OSError) as problem:
            code = next((CODES[cls] for cls in type(problem).__mro__ if cls in CODES), grpc.StatusCode.INTERNAL)
            context.abort(code, str(problem)[:1000])
            raise AssertionError("abort raises") from problem
        except Exception:
            _log.exception("a bug: the caller gets INTERNAL")
            context.abort(grpc.StatusCode.INTERNAL, "internal error; the controller's log has the cause")
            raise

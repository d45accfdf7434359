"""Everything a release engineer does to the releases of this state directory, behind one small port.

The command line and `ReleaseService` both do it through here; `deploy.service.client` offers the same from afar. Knows no transport.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from deploy import garbage, lifecycle, standing, store, trials
from deploy.garbage import Freed
from deploy.store import Listed
from ranking.layout import Layout
from ranking.release import Member, Release
from ranking.trial import Mode, Trial
from ranking.variants import Parity

KEEP = 5  # releases beyond those that are needed


@dataclass(frozen=True, slots=True)
class DescribedMember:
    """What people want to know of a member; see `ranking.release.Member`."""

    name: str
    kind: str
    model: str
    version: int
    parity: Parity | None
    variants: tuple[tuple[str, Parity], ...]  # that may be served, in order of preference
    refused: tuple[tuple[str, Parity], ...]


@dataclass(frozen=True, slots=True)
class Described:
    """What people want to know of a release; see `ranking.release.Release`."""

    id: str
    created: str  # RFC 3339
    lineage: dict[str, str]
    feature_schema_hash: str
    members: tuple[DescribedMember, ...]
    policies: tuple[str, ...]


class Releases(Protocol):
    """The releases of one platform, here or elsewhere. Each raises what `deploy.lifecycle` and `deploy.trials` say of it."""

    def listed(self) -> list[Listed]: ...

    def get(self, release_id: str) -> Described: ...

    def verify(self, release_id: str) -> Described: ...

    def activate(self, release_id: str, *, instead_of: str | None = None) -> Described: ...

    def try_out(self, release_id: str, mode: Mode, share: float) -> Trial: ...

    def end_trial(self) -> Trial | None: ...

    def promote(self) -> Described: ...

    def rollback(self) -> Described: ...

    def status(self) -> dict[str, Any]:
        """As `deploy.standing.standing`; from afar without `gateway`, which is elsewhere."""
        ...

    def collect(self, keep: int) -> list[Freed]: ...


class Here:
    """The releases of a state directory on this machine."""

    def __init__(self, layout: Layout, triton: Callable[[], str]) -> None:
        """`triton` gives host:port of Triton's gRPC endpoint when a call needs it, or raises why there is none."""
        self._layout, self._triton = layout, triton

    def listed(self) -> list[Listed]:
        return store.list_releases(self._layout.releases)

    def get(self, release_id: str) -> Described:
        return described(store.read_manifest(self._layout.releases, release_id))

    def verify(self, release_id: str) -> Described:
        return described(lifecycle.check(self._layout, release_id, self._triton()))

    def activate(self, release_id: str, *, instead_of: str | None = None) -> Described:
        return described(lifecycle.activate(self._layout, release_id, self._triton(), instead_of=instead_of))

    def try_out(self, release_id: str, mode: Mode, share: float) -> Trial:
        return trials.start(self._layout, release_id, self._triton(), mode=mode, share=share)

    def end_trial(self) -> Trial | None:
        return trials.end(self._layout, self._triton())

    def promote(self) -> Described:
        return described(trials.promote(self._layout, self._triton()))

    def rollback(self) -> Described:
        return described(lifecycle.rollback(self._layout, self._triton()))

    def status(self) -> dict[str, Any]:
        return standing.standing(self._layout)

    def collect(self, keep: int) -> list[Freed]:
        return garbage.collect(self._layout, keep)


def described(release: Release) -> Described:
    """What people want to know of it."""
    return Described(
        release.id,
        release.created,
        dict(release.lineage),
        release.feature_schema_hash,
        tuple(_member(m) for m in release.members),
        tuple(release.policies),
    )


def _member(m: Member) -> DescribedMember:
    variants = tuple((v.name, v.parity) for v in m.variants.served)
    return DescribedMember(m.name, m.kind, m.model, m.version, m.parity, variants, tuple(m.variants.refused.items()))

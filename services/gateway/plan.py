"""What a request will be answered with: release, blends, policy. Nothing is fetched and nothing is scored yet."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from ranking.blend import BlendSpec
from ranking.errors import InvalidField, UnknownName
from ranking.fairness.policy import FairnessPolicy
from ranking.trial import Mode, key_of, tried
from ranking.types import RankRequest, Surface
from services.gateway.policy import objectives
from services.gateway.releases import LoadedRelease, OnTrial, Releases


@dataclass(frozen=True, slots=True)
class Plan:
    """What a valid request will be answered with."""

    loaded: LoadedRelease
    spec: BlendSpec
    policy: FairnessPolicy
    objectives: Mapping[str, BlendSpec]  # blends of further outcomes the policy weighs
    on_trial: OnTrial | None = None  # beside the active release, for a request that pins none
    meets: bool = False  # the request is among those that meet what is on trial


def plan(releases: Releases, request: RankRequest) -> Plan:
    """Which release, blends and policy answer.

    A canary that cannot answer what the active release can, because it lacks the policy for example, does not answer.

    Raises:
        NotReady: no release is active.
        UnknownName: the release, or its policy or surface, is not known.
        InvalidField: the policy is not for this surface, or there are bids it has no use for.
    """
    on_trial = releases.trial if not request.release else None
    if on_trial is None:
        return planned(request, releases.get(request.release))
    meets = tried(on_trial.trial, key_of(request))
    found: Plan | None = None
    if meets and on_trial.trial.mode is Mode.CANARY:
        with suppress(UnknownName, InvalidField):
            found = planned(request, on_trial.loaded)
    return replace(found or planned(request, releases.get("")), on_trial=on_trial, meets=meets)


def planned(request: RankRequest, loaded: LoadedRelease) -> Plan:
    """What one release answers a request with.

    Raises:
        UnknownName, InvalidField: as `plan`.
    """
    release, surface = loaded.release, request.surface
    if surface not in release.blends:
        raise UnknownName("surface", surface.value, [s.value for s in release.blends])
    name = request.policy or release.active_policy[surface]
    if name not in release.policies:
        raise UnknownName("policy", name, list(release.policies))
    policy = release.policies[name]
    if policy.surfaces and surface not in policy.surfaces:
        allowed = ", ".join(f"SURFACE_{s.name}" for s in policy.surfaces)
        raise InvalidField("policy", f"{name!r} is for {allowed} only, the request is for SURFACE_{surface.name}")
    if surface is Surface.SEARCH and request.candidates.bid_micros is not None and not policy.ad_slots:
        raise InvalidField("candidates.bid_micros", f"only allowed for SURFACE_ADS, or with a policy that has ad_slots; {name!r} has none")
    return Plan(loaded, release.blends[surface], policy, objectives.blends_for(policy, release.objectives.get(surface, {})))

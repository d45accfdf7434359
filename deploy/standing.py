"""What stands where: the pointer, what Triton serves, what the gateway says it answers with. Changes nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from deploy import local, store, told
from deploy.triton.client import TritonClient
from ranking.errors import InvalidRelease, LongtailError
from ranking.layout import Layout


def standing(layout: Layout) -> dict[str, Any]:
    """The release side of the platform as plain values; parts that do not run are None.

    Args:
        layout: the state directory.
    """
    now, problem = store.look(layout.releases)
    runs = local.status(layout)
    said = told.read_state(layout)  # whoever started the controller
    triton, gateway = asdict(said) if said else None, runs["gateway"]
    return {
        "active": now.release if now else None,
        "activated": now.activated if now else None,
        "previous": list(now.previous) if now else [],
        "trial": asdict(now.trial) if now and now.trial else None,
        "problems": [p for p in (problem, _trial_problem(layout), triton["error"] if triton else "") if p],
        "triton": {"address": triton["grpc"], "ready": triton["ready"], **_served(triton["grpc"])} if triton else None,
        "gateway": {key: gateway.get(key) for key in ("address", "ready", "release", "trial")} if gateway else None,
        "follows": _follows(now.release if now else None, asdict(now.trial) if now and now.trial else None, gateway),
    }


def _served(address: str) -> dict[str, Any]:
    """Versions Triton has, by model, and their state; an error where it does not answer."""
    try:
        with TritonClient(address) as client:
            index = client.index()
    except LongtailError as silent:
        return {"serves": None, "error": str(silent)}
    serves: dict[str, dict[str, str]] = {}
    for (model, version), seen in sorted(index.items()):
        if seen.state:
            serves.setdefault(model, {})[str(version)] = seen.state
    return {"serves": serves, "error": ""}


def _follows(release: str | None, trial: dict[str, Any] | None, gateway: dict[str, Any] | None) -> bool | None:
    """Whether the gateway answers with what the pointer names; None where none runs."""
    return (gateway.get("release"), gateway.get("trial")) == (release, trial) if gateway else None


def _trial_problem(layout: Layout) -> str:
    try:
        return store.trial_problem(layout.releases)
    except InvalidRelease:  # the pointer's own problem, said already
        return ""

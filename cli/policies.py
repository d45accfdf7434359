"""Fairness policies of the active release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.common import explained, layout, out, triton_address
from ranking.errors import UnknownName
from ranking.layout import Layout
from ranking.types import Surface

if TYPE_CHECKING:
    from ranking.release import Release

policy_app = typer.Typer(
    help="Fairness policies of the active release: look at them, change them without new models.", no_args_is_help=True
)


@policy_app.command("list")
def policy_list() -> None:
    """The policies of the active release."""
    from services.client.policies import table

    with explained():
        out.print(table(_active(layout())))


@policy_app.command("show")
def policy_show(name: Annotated[str, typer.Argument(help="policy name")]) -> None:
    """One policy as JSON: a starting point for a change."""
    with explained():
        release = _active(layout())
        if name not in release.policies:
            raise UnknownName("policy", name, list(release.policies))
        print(json.dumps(release.policies[name].to_json(), indent=1))


@policy_app.command("check")
def policy_check(file: Annotated[Path, typer.Argument(help="JSON: one policy or a list of them")]) -> None:
    """Say what is wrong with a file of policies, or nothing."""
    from deploy import policies

    with explained():
        found = policies.read(file)
    out.print(f"{escape(str(file))}: {', '.join(f'{p.name} version {p.version}' for p in found)}: in order")


@policy_app.command("apply")
def policy_apply(
    file: Annotated[Path, typer.Argument(help="JSON: one policy or a list of them; those of the same name are replaced")],
    default: Annotated[list[str] | None, typer.Option(help="SURFACE=NAME: what requests that name no policy get; may be repeated")] = None,
) -> None:
    """Publish the active release with these policies and activate it: no model is loaded, no request fails."""
    from deploy import policies

    with explained():
        state = layout()
        triton = triton_address(state)
        done = policies.apply(state, policies.read(file), _defaults(default or []), triton)
    out.print(f"release {done.id} is active; `longtail release rollback` goes back")


def _active(state: Layout) -> Release:
    """The active release's manifest."""
    from deploy import store

    active = store.active(state.releases)
    if active is None:
        raise FileNotFoundError(f"{state.releases}: no release is active; `longtail up` activates the newest")
    return store.read_manifest(state.releases, active)


def _defaults(pairs: list[str]) -> dict[Surface, str]:
    """SURFACE=NAME options as a mapping."""
    out: dict[Surface, str] = {}
    for pair in pairs:
        surface, _, name = pair.partition("=")
        if surface not in list(Surface) or not name:
            raise ValueError(f"--default: must be SURFACE=NAME with a surface of {', '.join(Surface)}, got {pair!r}")
        out[Surface(surface)] = name
    return out

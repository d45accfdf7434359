"""Bearer tokens for those who call the gateway."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import explained, layout, out

tokens_app = typer.Typer(help="Bearer tokens for those who call the gateway: made, looked at, taken back.", no_args_is_help=True)
_SCOPES = "rank (RankingService, OnlineFeatureService), feedback (FeedbackService), admin"


@tokens_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="who gets it; limits, metrics and errors call it so")],
    scope: Annotated[list[str], typer.Option(help=f"what it is good for, may be given again: {_SCOPES}")],
    days: Annotated[int | None, typer.Option(help="days it is good for; default: until revoked", min=1)] = None,
) -> None:
    """Make a token and print it: it cannot be shown again. With the first one the gateway asks every caller for one."""
    from services.rpc import tokens

    with explained():
        now = datetime.now(UTC)
        expires = None if days is None else now + timedelta(days=days)
        text = tokens.create(_file(), name, tokens.scopes(scope), now=now, expires=expires)
    print(text)


@tokens_app.command("list")
def list_() -> None:
    """Every token by name, without its secret, which is not kept."""
    from services.rpc import tokens

    with explained():
        table = Table("id", "name", "scopes", "created", "expires")
        for token in tokens.read(_file()).values() if _file().exists() else ():
            expires = "never" if token.expires is None else token.expires.isoformat()
            table.add_row(token.id, escape(token.name), ", ".join(sorted(token.scopes)), token.created.isoformat(), expires)
        out.print(table)


@tokens_app.command("revoke")
def revoke(which: Annotated[str, typer.Argument(help="id of one token, or the name whose tokens all go")]) -> None:
    """Take tokens back; running gateways know within a second."""
    from services.rpc import tokens

    with explained():
        gone = tokens.revoke(_file(), which)
    out.print(f"revoked {', '.join(f'{t.id} ({escape(t.name)})' for t in gone)}")


def _file() -> Path:
    """As the gateway finds it."""
    return Path(os.environ.get("LONGTAIL_TOKENS") or layout().tokens)

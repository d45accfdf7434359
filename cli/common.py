"""What all commands share: the state directory, the console, errors told in a line, and where the running parts listen."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from ranking.errors import LongtailError
from ranking.layout import Layout
from ranking.types import Surface

if TYPE_CHECKING:
    from services.client.client import RankingClient
    from training.lists.requests import SampleRequest

ROOT = Path(__file__).parents[1]
out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
progress = Console(stderr=True, highlight=False)
"""What is being done, of what takes longer than a few seconds."""


def layout() -> Layout:
    """The state directory: LONGTAIL_HOME, else .longtail in the working directory."""
    return Layout(Path(os.environ.get("LONGTAIL_HOME") or ".longtail").resolve())


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors people can act on are printed as one line; LONGTAIL_DEBUG=1 keeps the traceback."""
    try:
        yield
    except (LongtailError, ValueError, OSError, RuntimeError) as error:
        if os.environ.get("LONGTAIL_DEBUG"):
            raise
        Console(stderr=True, highlight=False).print(f"[red]longtail:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


def gateway_address(state: Layout) -> str:
    """Address of the running gateway."""
    from deploy import local

    part = local.status(state)["gateway"]
    if not part:
        raise FileNotFoundError(f"{state.run}: no gateway runs from this state directory; start it with `longtail up`")
    return str(part["address"])


def ranking_client(address: str) -> RankingClient:
    """A client of the running gateway. LONGTAIL_TOKEN has its token, LONGTAIL_TLS_CA the file of the authority it trusts."""
    from services.client.channel import Tls
    from services.client.client import RankingClient

    authority = os.environ.get("LONGTAIL_TLS_CA")
    tls = Tls(Path(authority).read_bytes()) if authority else None
    return RankingClient(address, timeout_s=30.0, tls=tls, token=os.environ.get("LONGTAIL_TOKEN", ""))


def triton_address(state: Layout) -> str:
    """Address of Triton: LONGTAIL_TRITON, as for the gateway, where somebody else runs it; else the one that runs here."""
    from deploy import local

    if given := os.environ.get("LONGTAIL_TRITON"):
        return given
    part = local.status(state)["triton"]
    if not part:
        raise FileNotFoundError(f"{state.run}: no Triton runs from this state directory; start it with `longtail up`")
    return str(part["grpc"])


def active_release(state: Layout) -> str:
    """Id of the active release."""
    from deploy import local

    release = local.status(state)["release"]
    if not release:
        raise FileNotFoundError(f"{state.releases}: no release is active; `longtail up` activates the newest")
    return str(release)


def clock(state: Layout) -> datetime:
    if not state.serving.exists():
        return datetime.now(UTC)
    return datetime.fromisoformat(json.loads(state.serving.read_text())["as_of"])


def prepared_samples(path: Path, *, all_of_them: bool = False) -> list[SampleRequest]:
    """The demo's requests: two lists per surface and one for somebody unknown; or all that were prepared."""
    from dataclasses import replace

    from training.lists.requests import SampleRequest

    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; `make demo` or `longtail train` makes it")
    samples = [SampleRequest(**r) for r in json.loads(path.read_text())]
    if all_of_them:
        return samples
    ads, search = ([s for s in samples if s.surface == kind] for kind in (Surface.ADS, Surface.SEARCH))
    strangers = [replace(s, name="ads, somebody unknown", user_id="nobody-we-know", bought=[]) for s in ads[:1]]
    return [*ads[:2], *strangers, *search[:2]]

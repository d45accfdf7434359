"""The offline tables into the online store, through Feast's own CLI: what `longtail features materialize`, `make demo` and `embed` do.

Knows no Feast but its command, and which windows the views' lifetimes leave to be read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ranking.features import FEATURE_SERVICES, FOREVER, SIDE_VIEWS, WEEKLY, View
from ranking.layout import Layout
from training.dataset import REPO, FeastError, settle
from training.progress import Bar

BATCH_VIEWS: tuple[View, ...] = (*dict.fromkeys(view for service in FEATURE_SERVICES.values() for view in service), *SIDE_VIEWS)
"""All that the batch computes."""


def bring(layout: Layout, as_of: datetime, views: Sequence[View] = BATCH_VIEWS) -> None:
    """Apply the declarations and materialise, having looked whether anything would be alive at `as_of` (aware).

    Raises:
        FileNotFoundError: there are no feature tables.
        ValueError: none of a view's rows would be alive.
        FeastError: Feast could not.
    """
    alive(layout, as_of, views)
    with Bar("feast apply, feast materialize", 2) as bar:
        apply(layout)
        bar.advance()
        materialize(layout, as_of, views)
        bar.advance()


def apply(layout: Layout) -> None:
    """Register the declarations of `feature_repo` in the state directory's registry.

    Raises:
        FeastError: Feast refused them.
    """
    layout.feast.mkdir(parents=True, exist_ok=True)
    settle(layout)
    _feast(layout, "apply")


def materialize(layout: Layout, as_of: datetime, views: Sequence[View] = BATCH_VIEWS) -> None:
    """Load the online store with every entity's newest row stamped at or before `as_of` (aware).

    Rows older than their view's ttl are worth nothing and are not read, so each lifetime is a run of its own.

    Args:
        layout: the state directory, with tables computed and declarations applied.
        as_of: the instant.
        views: of these only.

    Raises:
        FeastError: Feast could not.
    """
    for ttl in (FOREVER, WEEKLY):
        chosen = [view.name for view in views if view.ttl == ttl]
        if chosen:
            words = [word for name in chosen for word in ("--views", name)]
            _feast(layout, "materialize", *words, (as_of - ttl).isoformat(), as_of.isoformat())
            _remember(layout, chosen, as_of)


def _remember(layout: Layout, views: Sequence[str], as_of: datetime) -> None:
    """Write down that views were materialised just now: Feast's own stamp of a view is that of any later `apply`."""
    known = json.loads(layout.materialised.read_text()) if layout.materialised.exists() else {}
    now, until = time.time_ns() // 1000, round(as_of.timestamp() * 1e6)
    known |= {view: [now, until] for view in views}
    draft = layout.materialised.with_suffix(".part")
    draft.write_text(json.dumps(known, indent=1))
    draft.replace(layout.materialised)


def serving_time(layout: Layout) -> datetime:
    """The instant features are served as of: the wall clock, unless historical data are replayed."""
    return datetime.fromisoformat(json.loads(layout.serving.read_text())["as_of"]) if layout.serving.exists() else datetime.now(UTC)


def alive(layout: Layout, as_of: datetime, views: Sequence[View] = BATCH_VIEWS) -> None:
    """Refuse an instant at which none of the rows of the views that age would be alive.

    Raises:
        FileNotFoundError: there are no feature tables.
        ValueError: the tables end, or begin, too far from `as_of`.
    """
    for view in views:
        path = layout.features / f"{view.name}.parquet"
        if not path.exists():
            raise FileNotFoundError(f"{path}: there are no feature tables; run `longtail features compute`")
        if view.ttl == FOREVER:
            continue
        stamps = pq.read_table(path, columns=["event_timestamp"])["event_timestamp"]
        first, last = (end and end.astimezone(UTC) for end in pc.min_max(stamps).as_py().values())
        if first is None or (first <= as_of and as_of - last <= view.ttl):
            continue  # item_taste may well be empty: what has too few buyers has none
        raise ValueError(
            f"{view.name}: its rows are of {first:%Y-%m-%d} to {last:%Y-%m-%d} and live {view.ttl.days} days, so none is alive on "
            f"{as_of.astimezone(UTC):%Y-%m-%d}; compute later weeks, or name an earlier instant: --as-of {last:%Y-%m-%dT%H:%M:%S}"
        )


def _feast(layout: Layout, *words: str) -> None:
    command = [str(Path(sys.executable).with_name("feast")), "-c", str(REPO), *words]
    environment = os.environ | {"LONGTAIL_HOME": str(layout.home.resolve()), "PYTHONPATH": str(REPO.parent)}
    done = subprocess.run(command, cwd=REPO.parent, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FeastError(f"feast {' '.join(words)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")

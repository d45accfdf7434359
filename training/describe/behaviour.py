"""What users do, measured on the events of any source: who they are by recency, frequency and spend, what they buy, how often again, how
the tail fares over time, and how far what was shown gets.

Reads canonical tables, and the event log of this machine where there is one; knows no features and no page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from ranking.features import HEAD_SHARE
from training.tables.duck import connect, views

THIRDS = ("low", "middle", "high")
FUNNEL = ("impression", "click", "add_to_cart", "purchase")
CATEGORIES = 15  # shown by name
_LOG = "event log"


@dataclass(frozen=True, slots=True)
class Funnel:
    """How many of each stage's (user, item, day) went on; `counts` is as long as `FUNNEL`, 0 where a stage is not recorded."""

    source: str  # where the events stand
    surface: str  # empty: on no list of search or ads
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What `measure` found. R thirds stand for recency and F thirds for frequency, each from `THIRDS`: high is recent, and often.

    Attributes:
        source: its name.
        users, orders, lines: who bought, their baskets, and (basket, item) pairs.
        rfm_users: (3, 3) users by R and F third.
        rfm_spend: (3, 3) their share of all money spent; NaN without values.
        recency_days, frequency: (users,) days from a user's last order to the last event; orders.
        categories: the largest by lines, at most `CATEGORIES`.
        lift: (categories, 3) a category's share of the F third's lines over its share of all lines.
        repeat_by_category: (categories,) share of its lines that the user had bought before.
        weeks: (w,) start of each week.
        repeat_share: (w,) share of the week's lines whose item the user had bought before.
        head_share: (w,) share of the week's lines of items that were head by what was sold before the week; NaN in the first week.
        new_share: (w,) share of lines of items never sold before the week.
        gap_days: (g,) days between two purchases of an item by a user.
        funnels: by place and surface.
    """

    source: str
    users: int
    orders: int
    lines: int
    rfm_users: NDArray[np.int64]
    rfm_spend: NDArray[np.float64]
    recency_days: NDArray[np.float64]
    frequency: NDArray[np.int64]
    categories: tuple[str, ...]
    lift: NDArray[np.float64]
    repeat_by_category: NDArray[np.float64]
    weeks: NDArray[np.datetime64]
    repeat_share: NDArray[np.float64]
    head_share: NDArray[np.float64]
    new_share: NDArray[np.float64]
    gap_days: NDArray[np.float64]
    funnels: tuple[Funnel, ...]


# An order is what one user bought at one time: every source has that, few have basket ids.
_LINES = """
CREATE TABLE line AS
SELECT user_id, item_id, event_time AS bought_at, date_trunc('week', event_time) AS week, sum({value}) AS value,
       row_number() OVER (PARTITION BY user_id, item_id ORDER BY event_time) > 1 AS again,
       event_time - lag(event_time) OVER (PARTITION BY user_id, item_id ORDER BY event_time) AS gap
FROM events WHERE event_type = 'purchase' AND coalesce(user_id, '') <> ''
GROUP BY user_id, item_id, event_time
"""

# Thirds by rank, ties by id, so that each third has as many users.
_USERS = """
CREATE TABLE person AS
SELECT user_id, epoch((SELECT max(bought_at) FROM line) - max(bought_at)) / 86400 AS recency, count(DISTINCT bought_at) AS frequency,
       coalesce(sum(value), 0) AS spend,
       ntile(3) OVER (ORDER BY max(bought_at), user_id) - 1 AS r,
       ntile(3) OVER (ORDER BY count(DISTINCT bought_at), user_id) - 1 AS f
FROM line GROUP BY user_id
"""

_CATEGORY = """
WITH counted AS (
    SELECT {category} AS category, p.f, count(*) AS lines, count(*) FILTER (l.again) AS again
    FROM line l JOIN person p USING (user_id) LEFT JOIN items i USING (item_id) GROUP BY ALL
), largest AS (
    SELECT category FROM counted WHERE coalesce(category, '') <> '' GROUP BY category ORDER BY sum(lines) DESC, category LIMIT {limit}
)
SELECT category, f, lines, again, sum(lines) OVER (PARTITION BY f) AS of_third, sum(lines) OVER () AS of_all
FROM counted QUALIFY category IN (SELECT category FROM largest)
"""

# Head as everywhere: fewer than `HEAD_SHARE` of the items sold before sold more.
_WEEKS = f"""
WITH sold AS (SELECT week, item_id, count(*) AS lines, count(*) FILTER (again) AS again FROM line GROUP BY ALL),
weeks AS (SELECT DISTINCT week FROM line),
before AS (
    SELECT w.week, s.item_id, sum(s.lines) AS sold FROM weeks w JOIN sold s ON s.week < w.week GROUP BY ALL
), ranked AS (
    SELECT week, item_id, rank() OVER (PARTITION BY week ORDER BY sold DESC) - 1 < {HEAD_SHARE} * count(*) OVER (PARTITION BY week) AS head
    FROM before
)
SELECT week, sum(lines) AS lines, sum(again) AS again,
       coalesce(sum(lines) FILTER (head), 0) AS head, coalesce(sum(lines) FILTER (head IS NULL), 0) AS unsold
FROM sold LEFT JOIN ranked USING (week, item_id) GROUP BY week ORDER BY week
"""

_STAGES = """
SELECT coalesce(surface, '') AS surface, {stage} AS stage, count(DISTINCT (user_id, item_id, event_time::DATE)) AS n
FROM {table} WHERE coalesce(user_id, '') <> '' GROUP BY ALL
"""


STEPS = 6
"""How often `measure` says that a part of it is done."""


def measure(name: str, canonical: Path, events: Path, *, advance: Callable[[], None] = lambda: None) -> Behaviour:
    """Measure one prepared source.

    Args:
        name: the source's.
        canonical: its folder of canonical tables.
        events: the event log's SQLite file, which need not exist.
        advance: called after each of `STEPS` parts.

    Raises:
        ValueError: the source has no purchases of known users.
        FileNotFoundError: it was not prepared.
    """
    there = {path.stem for path in canonical.glob("*.parquet")}
    if not there:
        raise FileNotFoundError(f"{canonical}: run `longtail data prepare {name}` first")
    if "events" not in there:
        raise ValueError(f"{name}: has no events, and so nothing that users did")
    with connect(canonical) as db:
        views(db, canonical, *sorted(there & {"events", "items", "impressions", "promotions"}))
        columns = _columns(db, "events")
        db.execute(_LINES.format(value="value" if "value" in columns else "NULL::DOUBLE"))
        if not _all(db, "SELECT 1 FROM line LIMIT 1"):
            raise ValueError(f"{name}: has no purchases of known users")
        advance()
        db.execute(_USERS)
        people = db.execute("SELECT recency, frequency, spend, r, f FROM person ORDER BY user_id").fetchnumpy()
        advance()
        weekly = db.execute(_WEEKS).fetchnumpy()
        advance()
        categories, lift, repeats = _categories(db, "items" in there)
        advance()
        gaps = db.execute("SELECT epoch(gap) / 86400 AS days FROM line WHERE gap IS NOT NULL").fetchnumpy()["days"]
        total = _all(db, "SELECT count(*), count(DISTINCT (user_id, bought_at)) FROM line")[0]
        advance()
        funnels = [*_funnels(db, name, there, columns), *_logged(db, events)]
        advance()
    users, spend = np.zeros((3, 3), np.int64), np.zeros((3, 3))
    np.add.at(users, (people["r"], people["f"]), 1)
    np.add.at(spend, (people["r"], people["f"]), people["spend"])
    lines = weekly["lines"].astype(np.float64)
    head = np.where(np.arange(len(lines)) > 0, weekly["head"] / lines, np.nan)  # before the first week nothing was sold
    return Behaviour(
        source=name,
        users=len(people["r"]),
        orders=int(total[1]),
        lines=int(total[0]),
        rfm_users=users,
        rfm_spend=spend / spend.sum() if spend.sum() > 0 else np.full((3, 3), np.nan),
        recency_days=people["recency"].astype(np.float64),
        frequency=people["frequency"].astype(np.int64),
        categories=categories,
        lift=lift,
        repeat_by_category=repeats,
        weeks=weekly["week"].astype("datetime64[D]"),
        repeat_share=weekly["again"] / lines,
        head_share=head,
        new_share=weekly["unsold"] / lines,
        gap_days=gaps.astype(np.float64),
        funnels=tuple(funnels),
    )


def _categories(db: duckdb.DuckDBPyConnection, items: bool) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    if not items or "category" not in _columns(db, "items"):
        return (), np.zeros((0, 3)), np.zeros(0)
    rows = _all(db, _CATEGORY.format(category="i.category", limit=CATEGORIES))
    by_size: dict[str, int] = {}
    for category, _, lines, *_ in rows:
        by_size[category] = by_size.get(category, 0) + lines
    names = tuple(sorted(by_size, key=lambda c: (-by_size[c], c)))
    lift, again = np.zeros((len(names), 3)), np.zeros(len(names))
    for category, f, lines, repeated, of_third, of_all in rows:
        at = names.index(category)
        lift[at, f] = lines / of_third / (by_size[category] / of_all)
        again[at] += repeated / by_size[category]
    return names, lift, again


def _funnels(db: duckdb.DuckDBPyConnection, name: str, there: set[str], columns: Sequence[str]) -> list[Funnel]:
    """Of the source's own events, with what `impressions` has of the first two stages, and of promotions where it has those."""
    surface = "surface" if "surface" in columns else "NULL::VARCHAR"
    tables = [f"SELECT user_id, item_id, event_time, {surface} AS surface, event_type AS stage FROM events"]
    if "impressions" in there and {"user_id", "item_id", "event_time"} <= set(found := _columns(db, "impressions")):
        shown = "surface" if "surface" in found else "NULL::VARCHAR"
        tables.append(f"SELECT user_id, item_id, event_time, {shown} AS surface, 'impression' AS stage FROM impressions")
    out = _counted(name, _all(db, _STAGES.format(stage="stage", table=f"({' UNION ALL '.join(tables)})")))
    if "promotions" in there:
        out += _promoted(db, name)
    return out


# A household's week in a store is shown what is promoted there: counted per store and week, never pair by pair.
_PROMOTED = """
WITH visits AS (SELECT week, store_id, count(DISTINCT user_id) AS users FROM events GROUP BY ALL),
places AS (
    SELECT week, store_id, item_code, max(on_display) > 0 AS display, max(in_mailer) > 0 AS mailer FROM promotions GROUP BY ALL
), kinds AS (
    SELECT week, store_id, item_code,
           CASE WHEN display AND mailer THEN 'ads: display and mailer' WHEN display THEN 'ads: display' ELSE 'ads: mailer' END AS kind
    FROM places WHERE display OR mailer
), shown AS (
    SELECT kind, sum(users) AS n FROM kinds JOIN visits USING (week, store_id) GROUP BY kind
), bought AS (
    SELECT kind, count(DISTINCT (e.user_id, e.item_code, e.week)) AS n
    FROM events e JOIN kinds USING (week, store_id, item_code) WHERE e.event_type = 'purchase' GROUP BY kind
)
SELECT kind, shown.n, coalesce(bought.n, 0) FROM shown LEFT JOIN bought USING (kind) ORDER BY kind
"""


def _promoted(db: duckdb.DuckDBPyConnection, name: str) -> list[Funnel]:
    return [Funnel(f"{name}, promotions", kind, (int(shown), 0, 0, int(bought))) for kind, shown, bought in _all(db, _PROMOTED)]


def _logged(db: duckdb.DuckDBPyConnection, path: Path) -> list[Funnel]:
    """Of the event log: one SQLite file, table `event`."""
    if not path.exists():
        return []
    import sqlite3

    import pyarrow as pa

    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as log:
        rows = log.execute("SELECT user_id, item_id, event_time_ns / 1000, surface, type FROM event").fetchall()
    log.close()
    names = ("user_id", "item_id", "at_us", "surface", "stage")
    table = pa.table({n: pa.array([row[i] for row in rows], pa.int64() if n == "at_us" else pa.string()) for i, n in enumerate(names)})
    db.register("logged", table)
    found = "(SELECT user_id, item_id, make_timestamptz(at_us) AS event_time, surface, stage FROM logged)"
    return _counted(_LOG, _all(db, _STAGES.format(stage="stage", table=found)))


def _counted(source: str, rows: Sequence[tuple[str, str, int]]) -> list[Funnel]:
    stages = {"cart": "add_to_cart", **{name: name for name in FUNNEL}}
    by_surface: dict[str, list[int]] = {}
    for surface, stage, n in rows:
        if stage in stages:
            by_surface.setdefault(surface, [0] * len(FUNNEL))[FUNNEL.index(stages[stage])] += n
    return [Funnel(source, surface, tuple(counts)) for surface, counts in sorted(by_surface.items())]


def _columns(db: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [row[0] for row in _all(db, f"DESCRIBE {table}")]


def _all(db: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return db.execute(sql).fetchall()

"""`longtail release compare`: what the log of trials says of a release, joined with what users did on its rankings.

Reads files and the event log; asks no process.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranking.compare import LEAST_UNITS, TOO_LITTLE, Figure, paired, unpaired
from ranking.errors import InvalidRelease
from ranking.types import TIERS, FloatArray
from services.feedback.log.event_log import EventLog
from services.feedback.types import Event, EventType
from services.gateway.trials.log import TRIED, Answered, Line, Shadowed

_SEED = 20  # of the draws: the same log gives the same intervals
_EVENTS = 10_000  # read at a time


@dataclass(frozen=True, slots=True)
class Section:
    """What one way of trying says."""

    mode: str
    active: str
    tried: str
    requests: tuple[int, int]  # of the active release and of the one on trial
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]  # what a reader has to know of them

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not known is null."""
        return {
            "mode": self.mode,
            "active": self.active,
            "tried": self.tried,
            "requests": {"active": self.requests[0], "tried": self.requests[1]},
            "figures": {
                f.name: {
                    "active": _known(f.active),
                    "tried": _known(f.tried),
                    "difference": [_known(v) for v in f.difference],
                    "units": f.units,
                    "verdict": f.verdict,
                }
                for f in self.figures
            },
            "notes": list(self.notes),
        }


def compare(lines: Iterable[Line], events: EventLog | None, release: str = "") -> list[Section]:
    """What there is to say of one release on trial, a section for each way it was tried.

    Of several active releases it was tried beside, the latest counts; of several shares of a canary too, since days differ and the
    arms' parts of them would.

    Args:
        lines: of the log of trials.
        events: users' feedback; None: there is none.
        release: on trial; empty: the latest that was.

    Raises:
        InvalidRelease: the log has nothing of it.
    """
    known = sorted(lines, key=lambda line: line.time)
    mine = [line for line in known if line.tried == (release or known[-1].tried)]
    if not mine:
        raise InvalidRelease(release or "trial", "the log of trials has no line of it: no gateway answered while it was on trial")
    mine = [line for line in mine if line.active == mine[-1].active]
    shadowed = [line for line in mine if isinstance(line, Shadowed)]
    answered = [line for line in mine if isinstance(line, Answered)]
    answered = [line for line in answered if line.share == answered[-1].share]
    return [*([_shadow(shadowed)] if shadowed else []), *([_canary(answered, events)] if answered else [])]


def _shadow(lines: Sequence[Shadowed]) -> Section:
    units = np.array([line.unit for line in lines])

    def figure(name: str, active: Callable[[Shadowed], float], tried: Callable[[Shadowed], float]) -> Figure:
        return paired(name, _column(lines, active), _column(lines, tried), units, _SEED)

    figures = (
        figure("overlap_at_10", lambda _: 1.0, lambda line: line.overlap),
        figure("rank_correlation", lambda _: 1.0, lambda line: line.correlation),
        figure("abs_probability_difference", lambda _: 0.0, lambda line: line.probability),
        figure("probability_shift", lambda _: 0.0, lambda line: line.shift),
        *(
            figure(f"{tier}_share_at_10", lambda line, i=i: line.tiers_active[i], lambda line, i=i: line.tiers_tried[i])  # type: ignore[misc]
            for i, tier in enumerate(TIERS)
        ),
        figure("latency_ms", lambda line: line.ms_active, lambda line: line.ms_tried),
        figure("degraded_share", lambda line: line.degraded_active, lambda line: line.degraded_tried),
    )
    notes = ["both releases ranked the same requests; the active one beside itself has overlap and correlation 1, differences 0"]
    return Section("shadow", lines[0].active, lines[0].tried, (len(lines), len(lines)), figures, (*notes, *_too_little(figures)))


def _canary(lines: Sequence[Answered], events: EventLog | None) -> Section:
    arms = [line for line in lines if line.arm != TRIED], [line for line in lines if line.arm == TRIED]
    units = [np.array([line.unit for line in arm], np.int64) for arm in arms]
    did, attributed = _feedback({line.ranking_id for line in lines}, events)

    def figure(name: str, of: Callable[[Answered], float]) -> Figure:
        return unpaired(name, _column(arms[0], of), units[0], _column(arms[1], of), units[1], _SEED)

    figures = (
        *(
            (
                figure("click_rate", lambda line: float(did[EventType.CLICK, line.ranking_id] > 0)),
                figure("clicks_per_ranking", lambda line: float(did[EventType.CLICK, line.ranking_id])),
                figure("purchases_per_ranking", lambda line: float(did[EventType.PURCHASE, line.ranking_id])),
            )
            if attributed
            else ()
        ),
        *(figure(f"{tier}_share_at_10", lambda line, i=i: line.tiers[i]) for i, tier in enumerate(TIERS)),  # type: ignore[misc]
        figure("latency_ms", lambda line: line.ms),
        figure("degraded_share", lambda line: line.degraded),
    )
    notes = [f"answers at a share of {100 * lines[-1].share:g} %"]
    if not attributed:
        notes.append("no click or purchase names one of these rankings: what users made of them cannot be told")
    if stood_in := sum(line.release != line.tried for line in arms[1]):
        notes.append(f"{stood_in} requests of the release on trial it could not answer; the active one did, and they count as its own")
    return Section("canary", lines[0].active, lines[0].tried, (len(arms[0]), len(arms[1])), figures, (*notes, *_too_little(figures)))


def _feedback(rankings: set[str], events: EventLog | None) -> tuple[Counter[tuple[EventType, str]], int]:
    """(type, ranking) -> how often; and how many events that is."""
    did: Counter[tuple[EventType, str]] = Counter()
    offset, more = 0, events is not None
    while more and events is not None:
        rows = events.read(offset, _EVENTS)
        known = [row.event for row in rows if isinstance(row.event, Event)]
        did.update((event.type, event.ranking_id) for event in known if event.ranking_id in rankings)
        more = len(rows) == _EVENTS
        offset = rows[-1].offset if rows else offset
    return did, sum(did[EventType.CLICK, r] + did[EventType.PURCHASE, r] for r in rankings)


def _too_little(figures: Sequence[Figure]) -> list[str]:
    """What to say plainly where the trial has hardly begun."""
    if any(f.verdict != TOO_LITTLE for f in figures):
        return []
    most = max(f.units for f in figures)
    return [f"too little to tell anything: requests of {most} of the users' units, at least {LEAST_UNITS} are needed in each arm"]


def _column(lines: Sequence[Any], of: Callable[[Any], float]) -> FloatArray:
    return np.array([of(line) for line in lines], np.float64)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None

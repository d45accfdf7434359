"""What each caller may ask for: so many calls a second, with bursts, and so many a day. Read from a JSON file, checked key by key.

    {"default": {"calls_per_s": 50, "burst": 100},
     "callers": {"shop-backend": {"calls_per_s": 500, "burst": 1000, "calls_per_day": 20000000}}}

What is left out is not limited. Figures are for the callers of one machine's processes together: each process gets its share of them.
Counts are kept in memory: a restart begins a new day. Knows neither gRPC nor who a caller is.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ranking.errors import OverQuota
from services.rpc.settings import InvalidSettingError

_DAY_S = 86_400
_BACK_S = 3600.0  # a clock that is set back by less goes on with the day it had; by more, it was wrong before
_LEAST_RATE = 1e-9  # calls a second that are told from none
_MOST = 1e300  # of any figure; whole numbers beyond are none that can be counted with
_KEPT = 10_000  # callers remembered; of more than that the one not heard of for longest begins anew


@dataclass(frozen=True, slots=True)
class Allowance:
    """Of one caller. None: no limit."""

    calls_per_s: float | None = None
    burst: float | None = None  # calls at once after a pause; default: a second's worth, at least 1
    calls_per_day: float | None = None  # from midnight to midnight, UTC

    def share(self, of: int) -> Allowance:
        """What one of `of` processes may take of it."""
        burst = self.burst if self.burst is not None else self.calls_per_s
        return Allowance(
            None if self.calls_per_s is None else self.calls_per_s / of,
            None if burst is None else max(burst / of, 1.0),  # below one call nothing would ever pass
            None if self.calls_per_day is None else max(self.calls_per_day / of, 1.0),
        )


@dataclass(slots=True)
class _Account:
    allowance: Allowance
    tokens: float
    at: float  # monotonic seconds
    day: int = -1
    calls: int = 0  # of that day


@dataclass(frozen=True, slots=True)
class Plan:
    """What the file says."""

    default: Allowance = Allowance()
    callers: Mapping[str, Allowance] = field(default_factory=dict)

    def of(self, caller: str) -> Allowance:
        """The caller's own allowance, else the default."""
        return self.callers.get(caller, self.default)


class Quotas:
    """Token buckets and daily counts by caller; used on one event loop."""

    def __init__(self, plan: Plan, *, processes: int = 1, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        """Every bucket is full.

        Args:
            plan: of all processes together.
            processes: that share the callers evenly, as SO_REUSEPORT deals them connections.
            clock: monotonic seconds.
            wall: seconds since 1970.
        """
        self._plan = plan
        self._processes = processes
        self._clock = clock
        self._wall = wall
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one call.

        Raises:
            OverQuota: it is one too many; nothing was counted.
        """
        now = self._clock()
        account = self._account(caller, now)
        may = account.allowance
        if may.calls_per_s is not None and may.burst is not None:
            account.tokens = min(may.burst, account.tokens + (now - account.at) * may.calls_per_s)
            account.at = now
            if account.tokens < 1.0:
                why = f"caller {caller!r} is limited to {may.calls_per_s:g} calls per second in this process"
                wait_s = (1.0 - account.tokens) / max(may.calls_per_s, _LEAST_RATE)
                raise OverQuota(why, min(wait_s, _DAY_S))  # a wait of years has no place in a RetryInfo
        if may.calls_per_day is not None:
            wall = self._wall()
            today, second = divmod(wall, _DAY_S)
            if not account.day * _DAY_S - _BACK_S <= wall < (account.day + 1) * _DAY_S:
                account.day, account.calls = int(today), 0
            if account.calls >= int(may.calls_per_day):
                why = f"caller {caller!r} has used its quota of {int(may.calls_per_day)} calls a day in this process"
                raise OverQuota(why, _DAY_S - second)
            account.calls += 1
        account.tokens -= 1.0

    def _account(self, caller: str, now: float) -> _Account:
        account = self._accounts.get(caller)
        if account is None:
            may = self._plan.of(caller).share(self._processes)
            account = self._accounts[caller] = _Account(may, may.burst or 0.0, now)
            if len(self._accounts) > _KEPT:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(caller)
        return account


def read(path: Path) -> Plan:
    """The plan of a file.

    Raises:
        InvalidSettingError: naming the file and the key.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidSettingError(f"{path}: cannot be read as JSON: {error}") from None
    top = _object(path, "", found, ("default", "callers"))
    callers = top.get("callers", {})
    if not isinstance(callers, dict):
        raise InvalidSettingError(f"{path}: callers: must be an object")
    return Plan(
        _allowance(path, "default", top.get("default", {})),
        {name: _allowance(path, f"callers.{name}", of) for name, of in callers.items()},
    )


def _allowance(path: Path, at: str, found: Any) -> Allowance:
    known = tuple(f.name for f in fields(Allowance))
    values = _object(path, at, found, known)
    for key, value in values.items():
        number = not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= _MOST
        least = 0 if key == "calls_per_s" else 1
        if not number or value < least or value == 0:
            rule = "a number greater than 0" if least == 0 else "a number of at least 1"
            raise InvalidSettingError(f"{path}: {at}.{key}: must be {rule}, got {value!r}")
    if "burst" in values and "calls_per_s" not in values:
        raise InvalidSettingError(f"{path}: {at}.burst: means nothing without calls_per_s")
    return Allowance(**values)


def _object(path: Path, at: str, found: Any, known: tuple[str, ...]) -> dict[str, Any]:
    where = f"{at}: " if at else ""
    if not isinstance(found, dict):
        raise InvalidSettingError(f"{path}: {where}must be an object")
    for key in found:
        if key not in known:
            raise InvalidSettingError(f"{path}: {at + '.' if at else ''}{key}: is not known; known: {', '.join(known)}")
    return found

"""The policy's order, if it can be had in time, else the plain one: by score, every ad where it may stand, nothing promised.

Knows neither what an order is made of nor how; only that it can be late, or fail, and that some order is better than none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from ranking.fairness.policy import FairnessPolicy
from ranking.types import Degradation
from services.gateway.policy.arrange import Arranged

log = logging.getLogger(__name__)
_COMPONENT = "fairness"
_INSTEAD = "the list is by score, with nothing promised to anybody"


def plain(policy: FairnessPolicy) -> FairnessPolicy:
    """What is left of a policy when there is no time for it: who may compete and what may be sold stay, promises go."""
    return replace(policy, rules=(), mode="off", scope="list", free_places=0, pricing="gsp")


async def timely(
    make: Callable[[FairnessPolicy], Arranged], policy: FairnessPolicy, *, apart: bool, deadline: float
) -> tuple[Arranged, tuple[Degradation, ...]]:
    """Order a list.

    Args:
        make: orders it under a policy; may be called on another thread, and twice.
        policy: to follow.
        apart: it may take tens of milliseconds: on a thread, and no longer than there is time.
        deadline: monotonic seconds.

    Returns:
        The order, and what is to be said of it. An order made on the event loop is always waited for: it takes a millisecond or two.
    """
    try:
        if not apart:
            return make(policy), ()
        left_s = deadline - time.monotonic()
        if left_s > 0.0:  # none left: not even begun
            return await asyncio.wait_for(asyncio.to_thread(make, policy), left_s), ()
        late = Degradation(_COMPONENT, "DEADLINE", f"no time was left for the policy {policy.name!r}; {_INSTEAD}")
    except TimeoutError:
        late = Degradation(_COMPONENT, "DEADLINE", f"the policy {policy.name!r} took too long; {_INSTEAD}")
    except Exception:  # the boundary of the policy: a fault in it must not take the answer along
        log.exception("policy_failed", extra={"policy": policy.name})
        late = Degradation(_COMPONENT, "ERROR", f"the policy {policy.name!r} failed, see the server's log; {_INSTEAD}")
    return make(plain(policy)), (late,)

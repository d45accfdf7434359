"""Trials: a verified release beside the active one, for a share of the users (canary) or unseen by any (shadow), until promoted or ended.

What the pointer says of it is `deploy.store`'s, how a release comes to be loaded and verified `deploy.lifecycle`'s. What becomes of the
requests is the gateways'.
"""

from __future__ import annotations

import math
from dataclasses import replace

from deploy import lifecycle, store
from ranking.errors import InvalidRelease
from ranking.layout import Layout
from ranking.release import Release
from ranking.trial import Mode, Trial


def start(layout: Layout, release_id: str, address: str, *, mode: Mode, share: float) -> Trial:
    """Load `release_id` on the running Triton beside the active release, verify it, and put it on trial.

    For the release that is on trial already this changes its mode and share; whoever met it goes on meeting it while the share does not
    fall.

    Args:
        layout: the state directory.
        release_id: a release of the store; empty: the one that is on trial.
        address: host:port of Triton's gRPC endpoint.
        mode: what becomes of the requests that meet it.
        share: of the users, within [0, 1].

    Raises:
        ValueError: the share is none.
        UnknownName: the store holds no such release.
        InvalidRelease: naming what is wrong with it, or with trying it now; the active release and a running trial are untouched.
        Unavailable: Triton did not answer; as above.
    """
    if not (math.isfinite(share) and 0.0 <= share <= 1.0):
        raise ValueError(f"share: must be within 0 and 100 %, got {100 * share:g} %")
    with lifecycle.turn(layout, address) as client:
        now = store.pointer(layout.releases)
        running = now.trial if now else None
        if not release_id:
            if running is None:
                raise InvalidRelease(f"{store.POINTER}.trial", "no release is on trial: name the one to try")
            release_id = running.release
        store.check_trial(now, release_id)
        lifecycle.bring_up(layout, client, release_id)
        # The release's own salt: whoever met it meets it again, also in a later trial of it.
        trial = replace(running, mode=mode, share=share) if running else Trial(release_id, mode, share, release_id, store.now_utc())
        store.put_on_trial(layout.releases, trial)
    return trial


def promote(layout: Layout, address: str) -> Release:
    """Make the release on trial the active one, as `lifecycle.activate` does.

    Raises:
        InvalidRelease: no release is on trial, or it no longer verifies.
        UnknownName, Unavailable: as `lifecycle.activate`.
    """
    with lifecycle.turn(layout, address) as client:
        now = store.pointer(layout.releases)
        if now is None or now.trial is None:
            raise InvalidRelease(f"{store.POINTER}.trial", "no release is on trial")
        return lifecycle.make_active(layout, client, now.trial.release)


def end(layout: Layout, address: str) -> Trial | None:
    """End the trial, whether Triton answers or not; all requests are the active release's again.

    The release that was tried stays loaded until the pointer moves again.

    Returns:
        The trial that ended, None where there was none.

    Raises:
        InvalidRelease: nothing was ever activated.
    """
    with lifecycle.turn(layout, address) as client:
        now = store.pointer(layout.releases)
        store.end_trial(layout.releases)
        lifecycle.clear_away(layout, client)
    return now.trial if now else None

"""Which features made a member score the results as it did: exact tree SHAP, computed by LightGBM from the text published beside the model.

The only module of the gateway that knows LightGBM, which is imported when the first explanation asks for it. Everything happens in one
thread of its own. Nothing here raises: without attributions there is an answer and a degradation.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ranking.errors import Unavailable
from ranking.explain import Attributed
from ranking.release import Member, Release
from ranking.types import Degradation, Float32Array, FloatArray

log = logging.getLogger(__name__)
_CHUNK = 16  # results explained between two looks at the clock, about 50 ms with 150 trees of 31 leaves
_KEPT = 4  # explainers in memory: two surfaces of two releases, a few MB each


class Attributions:
    """Explains feature members; any number of calls at once on one event loop, worked off one by one."""

    def __init__(self, store: Path) -> None:
        """Nothing is read or imported before the first call.

        Args:
            store: the release store.
        """
        self._store = store
        self._thread = ThreadPoolExecutor(1, "attributions")
        self._boosters: OrderedDict[tuple[str, str], Any] = OrderedDict()  # (release, member) -> booster; touched by the thread only

    def close(self) -> None:
        """Drop what waits; what is being computed ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def warm(self, release: Release) -> None:
        """Import and read what the release's first explanation needs, so that no caller waits for it; a failure is left to the calls."""
        for member in release.members:
            if member.explainer is not None:
                with suppress(Exception):  # reported with the explanation it is missing in
                    await asyncio.get_running_loop().run_in_executor(self._thread, self._booster, release.id, member)

    async def of(
        self, release: Release, members: Sequence[str], rows: Float32Array, logits: FloatArray, deadline: float
    ) -> tuple[Attributed | None, tuple[Degradation, ...]]:
        """The log-odds of the first feature member that scored, split among the features.

        Args:
            release: whose models.
            members: (m,) names, as in the blend.
            rows: (K, len(MODEL_COLUMNS)) the models' input of the returned results.
            logits: (m, K) what the members said of them, NaN where they said nothing.
            deadline: monotonic seconds.

        Returns:
            None where no feature member scored (which is reported already), or, with a degradation, where its parts cannot be had. They
            are never given unless base and parts add up to what the member said.
        """
        for name, raw in zip(members, logits, strict=True):
            member = release.member(name)
            if member.kind == "features" and not np.isnan(raw).all():
                break
        else:
            return None, ()
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._explain, release.id, member, rows, raw, deadline)
        try:
            return await asyncio.wait_for(work, deadline - time.monotonic()), ()
        except TimeoutError:
            return None, (Degradation("attributions", "DEADLINE", f"{name}: not explained in time"),)
        except Unavailable as error:
            return None, (Degradation("attributions", "UNAVAILABLE", f"{name}: {error}"),)
        except Exception:  # the boundary of explaining: a fault in it must not take the answer along
            log.exception("attributions_failed", extra={"member": name})
            return None, (Degradation("attributions", "ERROR", f"{name}: unexpected error; the server's log has the cause"),)

    def _explain(self, release: str, member: Member, rows: Float32Array, raw: FloatArray, deadline: float) -> Attributed:
        booster = self._booster(release, member)
        chunks = []
        for start in range(0, len(rows), _CHUNK):
            if time.monotonic() > deadline:  # nobody waits any more, but others may wait for this thread
                raise TimeoutError
            chunks.append(booster.predict(rows[start : start + _CHUNK], pred_contrib=True, num_threads=1))
        parts: FloatArray = np.concatenate(chunks)  # (K, d + 1)
        apart = np.abs(parts.sum(axis=1) - raw)
        if (apart > member.golden.atol).any():  # an explanation of another model is worse than none
            raise Unavailable(f"the explainer's log-odds differ from the model's by {np.nanmax(apart):g}")
        return Attributed(member.name, parts[:, :-1], float(parts[0, -1]))

    def _booster(self, release: str, member: Member) -> Any:
        key = (release, member.name)
        if key in self._boosters:
            self._boosters.move_to_end(key)
            return self._boosters[key]
        booster = self._boosters[key] = _load(self._store / release, member)
        while len(self._boosters) > _KEPT:
            self._boosters.popitem(last=False)
        return booster


def _load(directory: Path, member: Member) -> Any:
    """The member's booster.

    Raises:
        Unavailable: there is none, its file is not what the manifest says, or LightGBM is not installed.
    """
    explainer = member.explainer
    if explainer is None:
        raise Unavailable("the release has no explainer for it")
    try:
        content = (directory / explainer.path).read_bytes()
    except OSError as error:
        raise Unavailable(f"{explainer.path} cannot be read: {error.strerror}") from None
    if (digest := hashlib.sha256(content).hexdigest()) != explainer.sha256:
        raise Unavailable(f"{explainer.path} has {digest}, the manifest says {explainer.sha256}")
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: a system library it needs is absent
        raise Unavailable(f"LightGBM cannot be loaded: {error}") from None
    try:
        return lightgbm.Booster(model_str=content.decode())
    except (ValueError, lightgbm.basic.LightGBMError) as error:
        raise Unavailable(f"{explainer.path} is no LightGBM model: {error}") from None

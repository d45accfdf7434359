"""Triton asked directly with what a list's members are asked: the models' own time, without a gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.release import Member
from ranking.text import pair_tensors, query_text
from ranking.types import Surface
from services.gateway.releases import LoadedRelease, load
from services.gateway.triton import Triton
from services.snapshot.errors import InvalidSnapshotError
from services.snapshot.snapshot import Snapshot

Call = tuple[Member, Mapping[str, NDArray[Any]]]


def snapshot_of(layout: Layout) -> Snapshot:
    """The item snapshot as it stands.

    Raises:
        RuntimeError: there is none that can be read.
    """
    try:
        return Snapshot.open(layout.item_snapshot)
    except (InvalidSnapshotError, OSError) as error:
        raise RuntimeError(f"{layout.item_snapshot}: no item snapshot to take items from ({error}); is the feature process up?") from None


class Direct:
    """The active release's members that the search blend gives weight, and the items' texts."""

    def __init__(self, layout: Layout, release: str, triton: str, *, chunk: int) -> None:
        """Read the release and the item snapshot; needs a running event loop.

        Raises:
            RuntimeError: there is no item snapshot to take texts from.
        """
        self._loaded: LoadedRelease = load(layout.releases, release)
        spec = self._loaded.release.blends[Surface.SEARCH]
        weights = spec.matrix().max(axis=0)
        self.members = [self._loaded.release.member(name) for name, w in zip(spec.members, weights, strict=True) if w > 0]
        self._snapshot = snapshot_of(layout)
        self._triton = Triton(triton)
        self._chunk = chunk
        self._rng = np.random.default_rng(0)

    @property
    def texts(self) -> int:
        """Members that read text."""
        return sum(m.kind == "text" for m in self.members)

    def calls(self, query: str, item_ids: Sequence[str]) -> list[Call]:
        """What a gateway that knows no score would send: each feature member's rows, the pairs of each text member in its chunks."""
        items, _, _ = self._snapshot.gather(item_ids)
        _, first = np.unique(items.text_digests, return_index=True)
        first = first[items.text_digests[first] != 0]
        first = first[np.argsort((items.token_ids[first] != 0).sum(axis=1), kind="stable")]
        tokens, special = self._loaded.tokens(query_text(query, "")), self._loaded.release.tokenizer.special
        out: list[Call] = []
        for member in self.members:
            if member.kind == "features":
                rows = self._rng.normal(size=(len(item_ids), len(MODEL_COLUMNS))).astype(np.float32)
                out.append((member, {member.inputs[0].name: rows}))
                continue
            for at in range(0, len(first), self._chunk):
                tensors = pair_tensors(tokens, items.token_ids[first[at : at + self._chunk]], special)
                out.append((member, {t.name: tensors[t.name] for t in member.inputs}))
        return out

    async def ask(self, calls: Sequence[Call]) -> float:
        """Milliseconds until all of them, sent at once, are answered."""
        began = time.perf_counter()
        await asyncio.gather(*(self._triton.infer(m.model, m.version, tensors, m.output, 300.0) for m, tensors in calls))
        return (time.perf_counter() - began) * 1e3

    async def close(self) -> None:
        """Close the channel."""
        await self._triton.close()

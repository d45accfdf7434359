"""Which releases answer: follows the pointer file of the release store to the active one and the one on trial, and keeps the last few
usable for pinned requests.

Only reads. A release is checked whole before it answers anything; one that cannot be trusted is refused, logged once, and the old one
keeps serving, or the active one what was to be tried.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ranking.errors import InvalidRelease, LongtailError, NotReady, UnknownName
from ranking.features import MAX_QUERY_TOKENS, schema_hash
from ranking.pointer import parse_pointer, read_pointer, read_trial
from ranking.release import MANIFEST, Release
from ranking.trial import Trial
from ranking.types import IntArray

log = logging.getLogger(__name__)
_TEXTS_KEPT = 10_000  # tokenised queries and interest texts per release, under 300 bytes each


class LoadedRelease:
    """A release and the parts of it that live in the gateway."""

    def __init__(self, release: Release, tokenizer: Tokenizer) -> None:
        """Take over `tokenizer`: its padding and truncation are switched off, `ranking.text` does both."""
        self.release = release
        self.schema_hash = release.feature_schema_hash
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._tokens: OrderedDict[str, IntArray] = OrderedDict()

    def tokens(self, text: str) -> IntArray:
        """(q,) int64 ids of `text` without special tokens, at most `MAX_QUERY_TOKENS`; each distinct text is tokenised once."""
        found = self._tokens.get(text)
        if found is None:
            found = np.array(self._tokenizer.encode(text, add_special_tokens=False).ids[:MAX_QUERY_TOKENS], np.int64)
            self._tokens[text] = found
            if len(self._tokens) > _TEXTS_KEPT:
                self._tokens.popitem(last=False)
        else:
            self._tokens.move_to_end(text)
        return found


@dataclass(frozen=True, slots=True)
class OnTrial:
    """A release on trial."""

    trial: Trial
    loaded: LoadedRelease
    beside: str  # the active release


def load(store: Path, release_id: str) -> LoadedRelease:
    """Read and check one release directory.

    Raises:
        InvalidRelease: naming the key or file that cannot be trusted.
    """
    directory = store / release_id
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
    except OSError as error:
        raise InvalidRelease(MANIFEST, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidRelease(MANIFEST, f"is not JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise InvalidRelease(MANIFEST, f"must be a JSON object, got {type(manifest).__name__}")
    release = Release.from_json(manifest)
    if release.id != release_id:
        raise InvalidRelease("id", f"{release.id!r} lies in the directory of {release_id!r}")
    if release.feature_schema_hash != schema_hash():
        raise InvalidRelease("feature_schema_hash", f"{release.feature_schema_hash} is not this gateway's {schema_hash()}")
    path = directory / release.tokenizer.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidRelease("tokenizer.path", f"{release.tokenizer.path} cannot be read: {error.strerror}") from None
    if (digest := hashlib.sha256(content).hexdigest()) != release.tokenizer.sha256:
        raise InvalidRelease("tokenizer.sha256", f"{release.tokenizer.path} has {digest}, expected {release.tokenizer.sha256}")
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception for a malformed file
        raise InvalidRelease("tokenizer.path", f"{release.tokenizer.path} is no tokenizer: {error}") from None
    return LoadedRelease(release, tokenizer)


class Releases:
    """The active release, the ones before it, and the one on trial."""

    def __init__(self, store: Path, pointer: Path, *, kept: int, on_active: Callable[[str], Awaitable[None]] | None = None) -> None:
        """Nothing is read before `poll`.

        Args:
            store: one directory per release.
            pointer: the file that names the active one.
            kept: how many releases stay usable, the active one included.
            on_active: told the id of each release that becomes active, and again when what is on trial beside it changes; one that
                raises is told again at the next poll.
        """
        self._store = store
        self._pointer = pointer
        self._kept = kept
        self._on_active = on_active
        self._loaded: OrderedDict[str, LoadedRelease] = OrderedDict()  # the active one last
        self._active: LoadedRelease | None = None
        self._trial: OnTrial | None = None
        self._told: tuple[LoadedRelease, OnTrial | None] | None = None
        self._seen: tuple[str, int, int] | None = None
        self._unreadable = False
        self._failure = ""

    @property
    def active(self) -> LoadedRelease | None:
        return self._active

    @property
    def trial(self) -> OnTrial | None:
        return self._trial

    def get(self, pin: str) -> LoadedRelease:
        """The active release, or the pinned one, which may be the one on trial.

        Raises:
            NotReady: no release is active.
            UnknownName: the pinned release is not loaded here.
        """
        if self._active is None:
            raise NotReady("no release is active yet")
        if not pin:
            return self._active
        found = self._held(pin)
        if found is None:
            raise UnknownName("release", pin, [*self._loaded, *([self._trial.trial.release] if self._trial else [])])
        return found

    async def poll(self) -> None:
        """Look at the pointer once and switch if it names another release that can be trusted.

        Raises:
            Exception: whatever `on_active` raises; the switch itself has happened then.
        """
        seen = await asyncio.to_thread(self._look)
        if seen is not None and seen != self._seen:
            self._seen = seen
            await self._follow(seen[0])
        if self._on_active is not None and self._active is not None and self._told != (self._active, self._trial):
            telling = (self._active, self._trial)
            await self._on_active(self._active.release.id)
            self._told = telling

    async def watch(self, every_s: float) -> None:
        """Poll forever; a failing poll is logged, once while it goes on failing alike, and the next one is made."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.poll()
            except Exception as error:  # the boundary of the task: ended, it would leave the gateway on an old release for good
                failure = repr(error)
                if failure != self._failure:
                    log.exception("release_poll_failed")
                self._failure = failure
            else:
                self._failure = ""

    async def _follow(self, text: str) -> None:
        try:
            loaded = await self._load(parse_pointer(text))
        except LongtailError as error:
            serving = self._active.release.id if self._active else None
            log.error("release_refused", extra={"pointer": text[:200], "detail": str(error), "serving": serving})
            self._trial = None  # it was to be tried beside another one
            return
        on_trial = await self._load_trial(text, loaded.release.id)
        # Nothing is awaited from here on: a request sees what was before or what is now, never a mixture.
        if on_trial != self._trial:
            log.info("trial", extra={"trial": asdict(on_trial.trial) if on_trial else None})
        self._trial = on_trial
        if loaded is self._active:
            return
        release_id = loaded.release.id
        self._loaded[release_id] = loaded
        self._loaded.move_to_end(release_id)
        while len(self._loaded) > self._kept:
            self._loaded.popitem(last=False)
        self._active = loaded
        log.info("release_active", extra={"release": release_id})

    async def _load_trial(self, text: str, active: str) -> OnTrial | None:
        """What the pointer's text has on trial; None where that is nothing, or cannot be trusted, which is logged."""
        try:
            trial = read_trial(text)
            return OnTrial(trial, await self._load(trial.release), active) if trial else None
        except LongtailError as error:
            log.error("trial_refused", extra={"pointer": text[:200], "detail": str(error)})
            return None

    async def _load(self, release_id: str) -> LoadedRelease:
        held = self._held(release_id)
        return await asyncio.to_thread(load, self._store, release_id) if held is None else held

    def _held(self, release_id: str) -> LoadedRelease | None:
        if self._trial is not None and self._trial.trial.release == release_id:
            return self._trial.loaded
        return self._loaded.get(release_id)

    def _look(self) -> tuple[str, int, int] | None:
        """The pointer's text and when the manifests of its releases last changed; None while there is no pointer to follow.

        Those make a refused release be looked at again once it has been mended.
        """
        try:
            text = self._pointer.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            if not self._unreadable:
                log.error("pointer_unreadable", extra={"path": str(self._pointer), "detail": str(error)})
            self._unreadable = True
            return None
        self._unreadable = False
        try:
            pointer = read_pointer(text)
        except LongtailError:
            return text, 0, 0
        return text, self._changed(pointer.release), self._changed(pointer.trial.release) if pointer.trial else 0

    def _changed(self, release_id: str) -> int:
        """When the release's manifest last changed, 0 where there is none."""
        try:
            return (self._store / release_id / MANIFEST).stat().st_mtime_ns
        except OSError:
            return 0

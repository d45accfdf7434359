"""Where everything lies under the state directory (`LONGTAIL_HOME`): names only, nothing is read or made here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The state directory. Safe to delete: `make demo` makes it again."""

    home: Path  # absolute

    def canonical(self, source: str) -> Path:
        """Canonical tables of one data source (items, users, events, impressions …)."""
        return self.home / "data" / source

    @property
    def features(self) -> Path:
        """One Parquet file per feature view: what Feast's offline store reads."""
        return self.home / "features"

    @property
    def history(self) -> Path:
        """Every purchase line the feature tables know, Parquet; `feature_meta` says up to when."""
        return self.features / "history.parquet"

    @property
    def first_shown(self) -> Path:
        """When each item was first promoted, as the feature tables know it, Parquet."""
        return self.features / "first_shown.parquet"

    @property
    def feature_meta(self) -> Path:
        """What the feature tables hold: rows by file, watermark, starts of weeks; JSON."""
        return self.features / "meta.json"

    @property
    def sentiment(self) -> Path:
        """What reviews say of items, a row per review (item_id, at, value), Parquet; left by whoever computes it, read by the batch."""
        return self.home / "reviews" / "sentiment.parquet"

    @property
    def embeddings(self) -> Path:
        """The embedding of every text read so far, by its digest, Parquet: a text is read once."""
        return self.home / "embeddings" / "texts.parquet"

    @property
    def feast(self) -> Path:
        """Feast's registry and SQLite online store."""
        return self.home / "feast"

    @property
    def materialised(self) -> Path:
        """When we materialised each view last, and up to which instant: JSON, view -> [µs since 1970, µs of the instant]."""
        return self.feast / "materialised.json"

    @property
    def item_snapshot(self) -> Path:
        """The item features that all gateways of this machine read: one memory-mapped file, made again from Feast."""
        return self.home / "snapshot" / "items"

    @property
    def feature_state(self) -> Path:
        """What the feature process remembers of purchases, and how far it has read the event log (SQLite); made again from both."""
        return self.home / "feature_state.db"

    @property
    def pushed(self) -> Path:
        """Empty tables of the views that events alone fill: Feast wants a batch source for each."""
        return self.home / "pushed"

    @property
    def pushed_rows(self) -> Path:
        """Rows made of events as they were pushed, a folder of Parquet files per view: what the online store had between two batches."""
        return self.home / "logs" / "pushed"

    @property
    def user_changes(self) -> Path:
        """Counters by which the gateways of this machine hear whose features changed: one memory-mapped file."""
        return self.home / "snapshot" / "users"

    @property
    def training(self) -> Path:
        """Frames, models and scores between the stages of training."""
        return self.home / "training"

    @property
    def rankers(self) -> Path:
        """Rankers of typed queries by source, trained apart from releases, and what their encoder read."""
        return self.home / "rankers"

    @property
    def serving(self) -> Path:
        """The clock that replayed, historical data are served at: JSON, key "as_of". Absent: the wall clock."""
        return self.home / "serving.json"

    @property
    def search(self) -> Path:
        """Ray Tune's storage path."""
        return self.home / "search"

    @property
    def releases(self) -> Path:
        """The release store: one directory per release."""
        return self.home / "releases"

    @property
    def pointer(self) -> Path:
        """The file that names the active release."""
        return self.releases / "ACTIVE"

    @property
    def triton_server(self) -> Path:
        """Where the wheel with Triton's binary is unpacked."""
        return self.home / "triton" / "server"

    @property
    def triton_repository(self) -> Path:
        """Triton's model repository."""
        return self.home / "triton" / "repository"

    @property
    def triton_target(self) -> Path:
        """What that repository is written for: backend, device, instances; JSON. Absent: the local server."""
        return self.home / "triton" / "target.json"

    @property
    def release_token(self) -> Path:
        """The SHA-256 of the token by which `ReleaseService` knows who may move traffic; absent: nobody may."""
        return self.home / "release_token.sha256"

    @property
    def exposure(self) -> Path:
        """Exposure owed and money spent, shared by the gateways of this machine (SQLite)."""
        return self.home / "exposure.db"

    @property
    def events(self) -> Path:
        """The event log: what users did, as the gateways of this machine were told (SQLite)."""
        return self.home / "events.db"

    @property
    def score_table(self) -> Path:
        """What text members said, shared by the gateways of this machine: one memory-mapped file; it knows digests, no texts."""
        return self.home / "scores"

    @property
    def served(self) -> Path:
        """What the gateways of this machine answered, with the features they did so by: Parquet files named by their age."""
        return self.home / "logs" / "served"

    @property
    def trials(self) -> Path:
        """How requests fared while a release was on trial: JSON lines in files named by their age; no line knows a user."""
        return self.home / "logs" / "trials"

    @property
    def served_key(self) -> Path:
        """The key by which those files know a user."""
        return self.home / "served.key"

    @property
    def forgotten(self) -> Path:
        """Tombstones of the users this machine's processes must not know again."""
        return self.home / "forgotten"

    @property
    def tokens(self) -> Path:
        """Digests of the bearer tokens that callers of this machine's gateways may show, JSON; absent: none is asked for."""
        return self.home / "tokens.json"

    @property
    def run(self) -> Path:
        """Process ids and ports of what `longtail up` started."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        """Log files of the background processes."""
        return self.home / "logs"

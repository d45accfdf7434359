"""Everything that can be set on the gateway: one frozen object from command line and environment, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from ranking.release import MOST_PAIRS
from services.rpc import settings, tls
from services.rpc.ports import is_address
from services.rpc.settings import MOST, InvalidSettingError, check_reach, check_redis, moment, variable

_LEAST_ITEMS = 2000


@dataclass(frozen=True, slots=True)
class Settings:
    """The gateway's settings. Times are in the unit their name ends in."""

    home: Path = field(default=Path(".longtail"), metadata={"help": "state directory; releases and the Feast registry are found under it"})
    address: str = field(default="127.0.0.1:50051", metadata={"help": "host:port to listen on; port 0 takes a free one"})
    triton: str = field(default="127.0.0.1:8001", metadata={"help": "host:port of Triton's gRPC endpoint"})
    feature_repo: Path = field(default=Path("feature_repo"), metadata={"help": "directory with Feast's feature_store.yaml"})
    as_of: str = field(
        default="", metadata={"help": "fixed clock for feature freshness, RFC 3339, when replaying historical data; empty: the wall clock"}
    )
    budget_ms: float = field(
        default=3000.0, metadata={"help": "most time a call may take before it answers with what it has; a nearer client deadline wins"}
    )
    margin_ms: float = field(default=5.0, metadata={"help": "kept free of the client's deadline for encoding the answer"})
    user_ttl_s: float = field(default=5.0, metadata={"help": "age at which a user's cached features are read again"})
    user_cache: int = field(default=20_000, metadata={"help": "users kept in memory"})
    item_refresh_s: float = field(
        default=60.0, metadata={"help": "age at which a cached item that the snapshot lacks is read again, in the background"}
    )
    item_cache: int = field(  # only fills up while there is no snapshot to believe
        default=200_000, metadata={"help": "items the snapshot lacks kept in memory, about 400 bytes each"}
    )
    snapshot_stale_s: float = field(
        default=1800.0,
        metadata={"help": "age beyond which the item snapshot is not believed and items are read from the feature store, in seconds"},
    )
    snapshot_poll_s: float = field(  # rows change in place; but a file full of updates is replaced, and then nobody sees the next ones here
        default=0.25, metadata={"help": "how often a new item snapshot is looked for"}
    )
    score_cache: int = field(
        default=1_000_000, metadata={"help": "text scores (query, text) kept, shared by the gateways of a machine; 24 bytes each"}
    )
    text_chunk: int = field(default=128, metadata={"help": "most text pairs sent to Triton in one request"})
    text_backlog: int = field(default=4096, metadata={"help": "text pairs waiting for Triton beyond which new ones are not sent"})
    triton_timeout_s: float = field(default=10.0, metadata={"help": "longest a Triton request may take; late scores still fill the cache"})
    poll_s: float = field(default=0.25, metadata={"help": "how often the release pointer is looked at"})
    releases_kept: int = field(  # more would be of no use: their models are gone from Triton
        default=2, metadata={"help": "releases usable for requests that pin one: the active one and, as in Triton, the one before"}
    )
    ledger: str = field(
        default="",
        metadata={
            "help": "where all gateways share what groups are owed and advertisers spent: redis://, rediss:// or unix:// URL; empty: "
            "exposure.db under the state directory, for gateways of one machine"
        },
    )
    ledger_sync_s: float = field(
        default=0.5,
        metadata={"help": "how often that is exchanged: so late a gateway hears of the others' lists, and so many of its own die with it"},
    )
    ledger_wait_s: float = field(default=2.0, metadata={"help": "longest a start waits to read it, and a stop to write it"})
    event_log: str = field(
        default="",
        metadata={
            "help": "where events are kept: redis://, rediss:// or unix:// URL of a Redis that persists; empty: events.db under the state "
            "directory, for gateways of one machine"
        },
    )
    event_wait_s: float = field(
        default=5.0, metadata={"help": "longest a call that records events waits for the event log; a nearer client deadline wins"}
    )
    online_wait_s: float = field(
        default=2.0, metadata={"help": "longest a call that reads features waits for the feature store; a nearer client deadline wins"}
    )
    metrics_address: str = field(  # free by default: gateways of one machine, and tests, must not meet; a scraper wants a fixed one
        default="127.0.0.1:0",
        metadata={"help": "host:port of Prometheus metrics over HTTP; port 0 takes a free one, named in run/gateway.json; off: none"},
    )
    served_log: bool = field(
        default=True, metadata={"help": "true: what was answered is written to logs/served/ under the state directory"}
    )
    served_share: float = field(
        default=0.1,
        metadata={"help": "share of the users whose answers are logged, all of a user's or none; all of them cost a third of throughput"},
    )
    served_queue: int = field(default=512, metadata={"help": "rankings waiting to be written beyond which new ones are not logged"})
    served_rows: int = field(default=100_000, metadata={"help": "rows after which a file of served results is written"})
    served_s: float = field(default=60.0, metadata={"help": "age at which a file of served results is written, however few rows it has"})
    served_files: int = field(default=100, metadata={"help": "files of served results kept; the oldest go"})
    shadows_at_once: int = field(
        default=2, metadata={"help": "lists ranked at a time with a release on trial in the shadow; requests that find as many are not"}
    )
    trial_queue: int = field(default=4096, metadata={"help": "lines of the log of trials waiting beyond which new ones are lost"})
    trial_lines: int = field(default=50_000, metadata={"help": "lines after which a file of the log of trials is closed"})
    trial_files: int = field(default=20, metadata={"help": "files of the log of trials kept; the oldest go"})
    max_concurrent_rpcs: int = field(
        default=256, metadata={"help": "calls of each service at once; those beyond it get RESOURCE_EXHAUSTED"}
    )
    min_concurrent_rpcs: int = field(
        default=8, metadata={"help": "Rank calls at once that an overloaded process still takes, unless it never takes as many"}
    )
    queue_calls: int = field(default=128, metadata={"help": "Rank calls waiting for their turn beyond which new ones are refused; 0: none"})
    queue_ms: float = field(default=100.0, metadata={"help": "longest such a call waits; never more than half of its deadline"})
    loop_wait_ms: float = field(  # two or three calls' work: what a machine that is merely busy makes of it stays below
        default=10.0,
        metadata={"help": "wait of a call that was let in for the event loop, beyond which fewer Rank calls are taken at once"},
    )
    caller_limits: str = field(default="", metadata={"help": "JSON file with calls per second and day by caller; empty: no limits"})
    caller_limits_split: int = field(
        default=1, metadata={"help": "processes that share those figures: each allows its callers that part of them"}
    )
    max_watchers: int = field(default=1000, metadata={"help": "streams open at once that watch health"})
    tls_cert: str = field(default="", metadata={"help": "PEM file of the certificate to listen with; empty: plain text"})
    tls_key: str = field(default="", metadata={"help": "PEM file of its key, without passphrase"})
    tls_client_ca: str = field(
        default="", metadata={"help": "PEM file of the authority whose certificates clients must have; empty: they need none"}
    )
    metrics_cert: str = field(default="", metadata={"help": "PEM file of the certificate to tell metrics with; empty: plain HTTP"})
    metrics_key: str = field(default="", metadata={"help": "PEM file of its key, without passphrase"})
    metrics_client_ca: str = field(
        default="", metadata={"help": "PEM file of the authority whose certificates scrapers must have; empty: they need none"}
    )
    tokens: str = field(
        default="",
        metadata={
            "help": "JSON file of bearer tokens that callers must show; empty: tokens.json under the state directory, if it is there"
        },
    )
    insecure_beyond_loopback: bool = field(
        default=False,
        metadata={"help": "true: what this process listens on may be reached from other machines without TLS, credentials or both"},
    )
    drain_s: float = field(default=1.0, metadata={"help": "seconds between NOT_SERVING and refusing new calls"})
    grace_s: float = field(default=5.0, metadata={"help": "seconds running calls have to finish when stopping"})
    reuse_port: bool = field(default=False, metadata={"help": "true: several gateway processes share the port"})
    log_level: str = field(default="INFO", metadata={"help": "least level logged: DEBUG, INFO, WARNING or ERROR"})
    workers: int = field(default=1, metadata={"help": "gateway processes on the port; more than one are kept by a parent"})
    worker: int = field(default=0, metadata={"help": "which of them this is; set by the parent, 0 where there is none"})
    worker_settled_s: float = field(default=10.0, metadata={"help": "a worker that lived so long did not die of its start, in seconds"})
    worker_crashes: int = field(
        default=5, metadata={"help": "deaths in a row within that time after which the parent gives up; they would not end"}
    )

    def __post_init__(self) -> None:
        for name in ("address", "triton", *(("metrics_address",) if self.metrics_address != "off" else ())):
            if not is_address(getattr(self, name)):
                self._refuse(name, "must be host:port")
        if self.triton.endswith(":0"):
            self._refuse("triton", "port must not be 0")
        for name in ("ledger", "event_log"):
            check_redis(name, getattr(self, name))
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            zero_ok = f.name in ("margin_ms", "drain_s", "grace_s", "user_ttl_s", "queue_calls", "queue_ms", "worker")
            if not 0 <= value <= MOST or (value == 0 and not zero_ok):
                self._refuse(f.name, "must be finite and " + ("not negative" if zero_ok else "greater than 0"))
        for prefix in ("tls", "metrics"):
            tls.named(self, prefix)
        guarded = bool(self.metrics_client_ca)
        check_reach("metrics_address", self.metrics_address, insecure=self.insecure_beyond_loopback, guarded=guarded)
        if self.item_cache < _LEAST_ITEMS:
            self._refuse("item_cache", f"must be at least {_LEAST_ITEMS}, so that two of the longest lists fit")
        if self.text_chunk > MOST_PAIRS:
            self._refuse("text_chunk", f"must be at most {MOST_PAIRS}, the most that a text model takes in one request")
        if self.served_share > 1:
            self._refuse("served_share", "must be at most 1")
        moment("as_of", self.as_of)
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            self._refuse("log_level", "must be DEBUG, INFO, WARNING or ERROR")

    def _refuse(self, name: str, why: str) -> None:
        raise InvalidSettingError(f"{variable(name)}: {why}, got {str(getattr(self, name))!r}")

    @property
    def fixed_time(self) -> float | None:
        """`as_of` in seconds since 1970, None for the wall clock."""
        return moment("as_of", self.as_of)


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """As `services.rpc.settings.load`."""
    return settings.load(Settings, "services.gateway", "The ranking gateway.", argv, environ)

"""Everything that can be set on the feature process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from services.rpc import settings, tls
from services.rpc.ports import is_address
from services.rpc.settings import MOST, InvalidSettingError, check_reach, check_redis, moment, variable


@dataclass(frozen=True, slots=True)
class Settings:
    """The feature process' settings. Times are in the unit their name ends in."""

    home: Path = field(default=Path(".longtail"), metadata={"help": "state directory; the snapshot and the Feast registry lie under it"})
    feature_repo: Path = field(default=Path("feature_repo"), metadata={"help": "directory with Feast's feature_store.yaml"})
    snapshot_refresh_s: float = field(
        default=600.0,
        metadata={"help": "age at which the item snapshot is made again although nothing says the store changed"},
    )
    snapshot_stale_s: float = field(
        default=1800.0,
        metadata={"help": "the gateways' age beyond which they do not believe the item snapshot: it is then made without pauses"},
    )
    registry_poll_s: float = field(
        default=5.0, metadata={"help": "how often Feast's registry is asked whether features were applied or materialised"}
    )
    event_log: str = field(
        default="",
        metadata={"help": "where events are kept, as for the gateway: URL of a Redis; empty: events.db under the state directory"},
    )
    event_wait_s: float = field(default=5.0, metadata={"help": "longest to wait for the event log"})
    event_poll_s: float = field(default=0.02, metadata={"help": "how often the event log is asked for news"})
    pushed_keep_days: float = field(
        default=30.0, metadata={"help": "how long rows made of events are kept in Parquet files, for verify and for looking back"}
    )
    feature_metrics_address: str = field(  # not the gateway's name: one environment starts both, and a port has one owner
        default="127.0.0.1:0",
        metadata={"help": "host:port of Prometheus metrics over HTTP; port 0 takes a free one, named in run/features.json; off: none"},
    )
    metrics_cert: str = field(default="", metadata={"help": "PEM file of the certificate to tell metrics with; empty: plain HTTP"})
    metrics_key: str = field(default="", metadata={"help": "PEM file of its key, without passphrase"})
    metrics_client_ca: str = field(
        default="", metadata={"help": "PEM file of the authority whose certificates scrapers must have; empty: they need none"}
    )
    insecure_beyond_loopback: bool = field(
        default=False, metadata={"help": "true: other machines may reach the metrics without a certificate"}
    )
    as_of: str = field(
        default="", metadata={"help": "what rows made of events are as of, RFC 3339, when replaying historical data; empty: the wall clock"}
    )
    read_batch: int = field(default=500, metadata={"help": "items read from the online store at once"})
    log_level: str = field(default="INFO", metadata={"help": "least level logged: DEBUG, INFO, WARNING or ERROR"})

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value <= MOST:
                raise InvalidSettingError(f"{variable(f.name)}: must be finite and greater than 0, got {value!r}")
        if self.feature_metrics_address != "off" and not is_address(self.feature_metrics_address):
            raise InvalidSettingError(f"{variable('feature_metrics_address')}: must be host:port, got {self.feature_metrics_address!r}")
        tls.named(self, "metrics")
        guarded = bool(self.metrics_client_ca)
        check_reach("feature_metrics_address", self.feature_metrics_address, insecure=self.insecure_beyond_loopback, guarded=guarded)
        check_redis("event_log", self.event_log)
        moment("as_of", self.as_of)
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise InvalidSettingError(f"{variable('log_level')}: must be DEBUG, INFO, WARNING or ERROR, got {self.log_level!r}")

    @property
    def fixed_time(self) -> float | None:
        """`as_of` in seconds since 1970, None for the wall clock."""
        return moment("as_of", self.as_of)


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """As `services.rpc.settings.load`."""
    description = "The feature process: keeps the item snapshot, and makes features of events."
    return settings.load(Settings, "services.features", description, argv, environ)

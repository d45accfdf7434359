"""Everything that can be set on the feature process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from services.rpc import settings
from services.rpc.settings import InvalidSettingError, variable


@dataclass(frozen=True, slots=True)
class Settings:
    """The feature process' settings. Times are in the unit their name ends in."""

    home: Path = field(default=Path(".longtail"), metadata={"help": "state directory; the snapshot and the Feast registry lie under it"})
    feature_repo: Path = field(default=Path("feature_repo"), metadata={"help": "directory with Feast's feature_store.yaml"})
    snapshot_refresh_s: float = field(
        default=600.0,
        metadata={"help": "age at which the item snapshot is made again although nothing says the store changed"},
    )
    registry_poll_s: float = field(
        default=5.0, metadata={"help": "how often Feast's registry is asked whether features were applied or materialised"}
    )
    read_batch: int = field(default=500, metadata={"help": "items read from the online store at once"})
    log_level: str = field(default="INFO", metadata={"help": "least level logged: DEBUG, INFO, WARNING or ERROR"})

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, int | float) and not (math.isfinite(value) and value > 0):
                raise InvalidSettingError(f"{variable(f.name)}: must be finite and greater than 0, got {value!r}")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise InvalidSettingError(f"{variable('log_level')}: must be DEBUG, INFO, WARNING or ERROR, got {self.log_level!r}")


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """As `services.rpc.settings.load`."""
    return settings.load(Settings, "services.features", "The feature process: keeps the item snapshot.", argv, environ)

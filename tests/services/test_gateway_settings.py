"""Settings are refused with the key named, before anything starts."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from services.gateway.settings import Settings, load
from services.rpc.log import JsonFormatter
from services.rpc.settings import InvalidSettingError


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("LONGTAIL_ADDRESS", "50051", "must be host:port"),
        ("LONGTAIL_ADDRESS", "localhost:http", "must be host:port"),
        ("LONGTAIL_TRITON", "127.0.0.1:99999", "must be host:port"),
        ("LONGTAIL_TRITON", "127.0.0.1:0", "port must not be 0"),
        ("LONGTAIL_BUDGET_MS", "0", "greater than 0"),
        ("LONGTAIL_BUDGET_MS", "soon", "must be a number"),
        ("LONGTAIL_BUDGET_MS", "nan", "must be finite"),
        ("LONGTAIL_DRAIN_S", "-1", "not negative"),
        ("LONGTAIL_TEXT_CHUNK", "1.5", "must be a whole number"),
        ("LONGTAIL_TEXT_CHUNK", "257", "must be at most 256"),
        ("LONGTAIL_ITEM_CACHE", "1000", "must be at least 2000"),
        ("LONGTAIL_REUSE_PORT", "maybe", "must be true or false"),
        ("LONGTAIL_AS_OF", "yesterday", "must be RFC 3339"),
        ("LONGTAIL_AS_OF", "2017-11-19T00:00:00", "must say its time zone"),
        ("LONGTAIL_LOG_LEVEL", "LOUD", "must be DEBUG"),
        ("LONGTAIL_LEDGER", "localhost:6379", "must be empty or begin with redis://"),
        ("LONGTAIL_LEDGER", "redis://localhost:port/0", "must name a port"),
        ("LONGTAIL_LEDGER_SYNC_S", "0", "greater than 0"),
        ("LONGTAIL_LEDGER_WAIT_S", "-1", "greater than 0"),
        ("LONGTAIL_EVENT_LOG", "localhost:6379", "must be empty or begin with redis://"),
        ("LONGTAIL_EVENT_LOG", "redis://localhost:port/0", "must name a port"),
        ("LONGTAIL_EVENT_WAIT_S", "0", "greater than 0"),
        ("LONGTAIL_METRICS_ADDRESS", "9464", "must be host:port"),
        ("LONGTAIL_ADDRESS", "127.0.0.1:²", "must be host:port"),
        ("LONGTAIL_TRITON", "127.0.0.1:" + "1" * 5000, "must be host:port"),
        ("LONGTAIL_WORKERS", "1" + "0" * 400, "must be finite"),
        ("LONGTAIL_GRACE_S", "1e+300", "must be finite"),
        ("LONGTAIL_SNAPSHOT_STALE_S", "0", "greater than 0"),
        ("LONGTAIL_SNAPSHOT_POLL_S", "-1", "greater than 0"),
    ],
)
def test_nonsense_is_refused_and_the_key_named(variable: str, value: str, why: str) -> None:
    """The message begins with the environment variable and ends with the value."""
    with pytest.raises(InvalidSettingError) as caught:
        load([], {variable: value})
    assert str(caught.value).startswith(f"{variable}: ")
    assert why in str(caught.value)
    assert value in str(caught.value)


def test_the_command_line_wins_over_the_environment() -> None:
    """Option, then variable, then default; relative paths become absolute."""
    settings = load(["--budget-ms", "10"], {"LONGTAIL_BUDGET_MS": "20", "LONGTAIL_POLL_S": "0.5", "LONGTAIL_HOME": "state"})
    assert (settings.budget_ms, settings.poll_s, settings.text_chunk) == (10.0, 0.5, Settings().text_chunk)
    assert settings.home == Path.cwd() / "state"
    assert load(["--reuse-port", "true"], {}).reuse_port is True


def test_a_password_is_not_shown() -> None:
    """What is refused is quoted without the credentials in it."""
    with pytest.raises(InvalidSettingError, match=r"LONGTAIL_LEDGER: .*//…@host:port/0") as caught:
        load([], {"LONGTAIL_LEDGER": "redis://user:secret@host:port/0"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pa/secret@host:1",
        "http://u:p@secret@host",
        "u:secret@host:1",
        "redis://:p@secret@h:99999",
        "http://h?password=secret",
        "redis://:p\n/secret@h",
    ],
)
def test_a_password_of_any_letters_is_not_shown(url: str) -> None:
    """A slash or an @ in it, no scheme before it, or as a parameter: typed wrongly it is no less a secret."""
    with pytest.raises(InvalidSettingError, match="LONGTAIL_LEDGER: ") as caught:
        load([], {"LONGTAIL_LEDGER": url})
    assert "secret" not in str(caught.value)


def test_metrics_can_be_off() -> None:
    """`off` stands for no address."""
    assert load([], {"LONGTAIL_METRICS_ADDRESS": "off"}).metrics_address == "off"


def test_as_of_is_a_moment() -> None:
    """Empty means the wall clock, anything else a fixed one in seconds since 1970."""
    assert Settings().fixed_time is None
    assert Settings(as_of="1970-01-02T00:00:00Z").fixed_time == 24 * 3600


def test_a_log_event_is_one_json_line() -> None:
    """Name, level and every extra key; a value JSON does not know is written as text."""
    record = logging.makeLogRecord(
        {"name": "x", "levelname": "INFO", "levelno": 20, "msg": "release_active", "release": "r1", "path": Path("a")}
    )
    entry = json.loads(JsonFormatter().format(record))
    assert (entry["event"], entry["level"], entry["release"], entry["path"]) == ("release_active", "info", "r1", "a")

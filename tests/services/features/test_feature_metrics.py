"""What Prometheus reads of the feature process is what happened: scraped over HTTP and parsed with its own parser."""

from __future__ import annotations

import json
import math
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ranking.errors import Unavailable
from services.features.metrics import FeatureMetrics
from services.features.settings import load
from services.gateway.stream_metrics import StreamMetrics
from services.rpc.ports import PortTakenError
from services.rpc.scraping import scraped
from services.rpc.settings import InvalidSettingError
from services.rpc.status import SILENT_S
from tests.services.features.stream_fakes import Shop, bought
from tests.services.features.test_stream_history import follow


def _scrape(metrics: FeatureMetrics) -> dict[tuple[str, str], float]:
    """(name, view) -> value."""
    with scraped("127.0.0.1:0", metrics.registry) as address, urlopen(f"http://{address}/metrics") as answer:
        text = answer.read().decode()
    return {(s.name, s.labels.get("view", "")): s.value for f in text_string_to_metric_families(text) for s in f.samples}


def test_events_and_pushes_are_counted(tmp_path: Path) -> None:
    """Two events and one beyond belief; a row pushed for each entity and view, each push with its duration."""
    with Shop(tmp_path) as shop:
        follower = follow(shop, bought("a", "ann", "i1"), bought("b", "bob", "i1"), bought("bad", "ann", "i1", value_micros=10**15))
        shop.metrics.follow(follower.status, lambda: 1.5)
        found = _scrape(shop.metrics)
        said = {name: found[f"longtail_{name}", ""] for name in ("features_events_applied_total", "features_events_refused_total")}
        assert said == {"features_events_applied_total": 2.0, "features_events_refused_total": 1.0}
        assert found["longtail_features_rows_pushed_total", "user_behaviour"] == 2.0
        assert found["longtail_features_rows_pushed_total", "item_windows"] == 1.0
        assert found["longtail_features_push_seconds_count", "user_behaviour"] >= 1.0
        assert found["longtail_features_offset", ""] == shop.log.last()
        assert [found[f"longtail_features_{name}", ""] for name in ("lag_seconds", "events_behind", "rows_waiting")] == [0.0, 0.0, 0.0]
        assert found["longtail_snapshot_age_seconds", ""] == 1.5


def test_a_failure_is_counted_and_what_waits_is_told(tmp_path: Path) -> None:
    """A store that is down: the follower tries again, and rows wait."""
    with Shop(tmp_path) as shop:
        shop.store.down = True
        follower = follow(shop, bought("a", "ann", "i1"))
        shop.metrics.follow(follower.status, lambda: math.nan)
        found = _scrape(shop.metrics)
        assert found["longtail_features_retries_total", ""] >= 1.0
        assert (found["longtail_features_events_behind", ""], found["longtail_features_rows_waiting", ""]) == (1.0, 0.0)
        assert math.isnan(found["longtail_snapshot_age_seconds", ""])
        with pytest.raises(Unavailable):
            shop.settle()


def test_who_has_not_caught_up_starts(tmp_path: Path) -> None:
    """Until the log's end was reached once; then it follows, whatever fails later."""
    with Shop(tmp_path) as shop:
        shop.store.down = True
        failing = follow(shop, bought("a", "ann", "i1")).status()
        assert (failing["state"], failing["error"]) == ("starting", "feature store: it is down")
        shop.store.down = False
        done = follow(shop).status()
        assert (done["state"], done["error"], done["lag_s"], done["refused"], done["notice"]) == ("following", "", 0.0, 0, "")


def test_a_gateway_tells_how_long_events_wait(tmp_path: Path) -> None:
    """What the process said, and the time since it said anything once that is long; no sample where nobody runs, or nothing is readable."""
    told = tmp_path / "features.json"

    def said(clock: float) -> list[float]:
        (gauge,) = StreamMetrics(told, clock=lambda: clock).collect()
        assert gauge.name == "longtail_events_wait_seconds"
        return [sample.value for sample in gauge.samples]

    assert said(0.0) == []
    told.write_text(json.dumps({"at": 1000.0, "stream": {"lag_s": 2.5}}))
    assert said(1000.0 + SILENT_S) == [2.5]
    assert said(1020.0) == [2.5 + 20.0]
    for text in ("", "[]", "{}", '{"stream": 1}'):
        told.write_text(text)
        assert said(1020.0) == []


def test_a_taken_address_and_one_that_is_none_are_named() -> None:
    """The process does not start, and says why."""
    with (
        scraped("127.0.0.1:0", FeatureMetrics().registry) as address,
        pytest.raises(PortTakenError, match=f"cannot listen on {address} for metrics"),
        scraped(address, FeatureMetrics().registry),
    ):
        pass
    with pytest.raises(InvalidSettingError, match="LONGTAIL_FEATURE_METRICS_ADDRESS: must be host:port, got 'here'"):
        load(["--feature-metrics-address", "here"], {})
    assert load(["--feature-metrics-address", "off"], {}).feature_metrics_address == "off"

"""Dashboards and alerts name what the processes export, labels included, and the alerts fire when they should and only then."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import promql_parser
import pytest
import yaml
from prometheus_client import ProcessCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from deploy import dashboards
from deploy.metrics import DeployMetrics
from services.features.metrics import FeatureMetrics
from services.gateway.event_metrics import EventMetrics
from services.gateway.metrics import Metrics
from services.gateway.model_metrics import MeasuredModels
from services.gateway.rank_metrics import RankMetrics
from services.gateway.snapshot_metrics import SnapshotMetrics
from services.gateway.stream_metrics import StreamMetrics
from services.gateway.trials.metrics import TrialMetrics
from services.rpc.call_metrics import CallMetrics
from tests.deploy import promql

FOLDER = Path(dashboards.__file__).parent / "observability"
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())
TESTS = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())
RULES = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
_SCRAPED = {"job", "instance"}  # added by Prometheus to everything
_PROCESS = ("process_resident_memory_bytes", "process_cpu_seconds_total")


def exported() -> dict[str, set[str]]:
    """Name -> labels of every series that our processes export, whether it has samples yet or not."""
    nothing = cast(Any, SimpleNamespace(exposure={}, spend={}, failures=0, stale_s=0.0, current=None, age_s=0.0, refused=0, counts=dict))
    features = FeatureMetrics()
    features.follow(dict, lambda: 0.0)
    deployed = DeployMetrics()
    collectors: list[Collector] = [
        CallMetrics(),
        RankMetrics({}, {}),
        MeasuredModels(nothing),
        Metrics(nothing, lambda: None),
        TrialMetrics(lambda: 0),
        EventMetrics(nothing),
        SnapshotMetrics(nothing),
        StreamMetrics(Path("/nowhere")),
        *_registered(features.registry),
        *_registered(deployed.registry),
    ]
    out: dict[str, set[str]] = {"up": set(), **{name: set() for name in _PROCESS}}
    for collector in collectors:
        own = [collector, *vars(collector).values()]
        wrapped = [m for m in own if isinstance(m, MetricWrapperBase)]
        for metric in wrapped:
            _add(out, metric._name, metric._type, metric._labelnames)
        if not isinstance(collector, MetricWrapperBase):
            told = {m._name for m in wrapped}
            for family in collector.collect():
                if family.name not in told:
                    _add(out, family.name, family.type, getattr(family, "_labelnames", ()))
    return out


def _registered(registry: Any) -> list[Collector]:
    return [c for c in registry._collector_to_names if not isinstance(c, ProcessCollector)]


def _add(out: dict[str, set[str]], name: str, kind: str, labels: Iterable[str]) -> None:
    if kind == "histogram":
        out |= {f"{name}_bucket": {*labels, "le"}, f"{name}_sum": set(labels), f"{name}_count": set(labels)}
    else:
        out[f"{name}_total" if kind == "counter" else name] = set(labels)


EXPORTED = exported()
PANELS = [
    (f"{name}: {panel['title']}", target["expr"])
    for name in dashboards.BOARDS
    for panel in json.loads(dashboards.board(name))["panels"]
    for target in panel["targets"]
]
EXPRESSIONS = [*((name, rule["expr"]) for name, rule in RULES.items()), *PANELS]


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_what_is_asked_is_exported(name: str, expression: str) -> None:
    """Every metric of a query is one of ours, and so is every label that it chooses or groups by."""
    text = expression.replace("$__rate_interval", "5m")
    for node in promql.walk(text):
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name in EXPORTED
            assert {m.name for m in node.matchers.matchers} <= EXPORTED[node.name] | _SCRAPED
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            below = [n.name for n in promql.walk(node.expr.prettify()) if isinstance(n, promql_parser.VectorSelector)]
            for metric in below:
                assert set(node.modifier.labels) <= EXPORTED[metric] | _SCRAPED


def test_names_follow_the_conventions() -> None:
    """Ours begin alike, counters end in `_total`, what is a time says seconds, and no name is of another base unit."""
    for name in EXPORTED:
        assert name.startswith(("longtail_", "process_", "up"))
        assert not name.endswith(("_ms", "_milliseconds", "_microseconds", "_kb", "_mb"))
        if "duration" in name or "lag" in name or "_age" in name:
            assert "_seconds" in name


@pytest.mark.parametrize("name", dashboards.BOARDS)
def test_a_dashboard_is_what_its_panels_say(name: str) -> None:
    """The file is as `python -m deploy.dashboards` writes it, panels have a place of their own, and no two have the same title."""
    text = (dashboards.FOLDER / f"{name}.json").read_text()
    assert text == dashboards.board(name)
    panels = json.loads(text)["panels"]
    assert len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}) == len(panels)
    assert len({p["title"] for p in panels}) == len(panels)
    assert {p.name for p in dashboards.FOLDER.glob("*.json")} == {f"{n}.json" for n in dashboards.BOARDS}


def test_every_alert_is_complete() -> None:
    """A known severity, words for who is woken, and only keys that Prometheus knows."""
    for name, rule in RULES.items():
        assert set(rule) <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}, name
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "description"}
    assert len(RULES) == sum(len(group["rules"]) for group in ALERTS["groups"])
    assert {key for group in ALERTS["groups"] for key in group} == {"name", "rules"}


def test_every_alert_is_tested() -> None:
    """Each is seen to fire in some test."""
    fired = {check["alertname"] for test in TESTS["tests"] for check in test["alert_rule_test"] if check["exp_alerts"]}
    assert fired == set(RULES)


@pytest.mark.parametrize("test", TESTS["tests"], ids=[test["name"] for test in TESTS["tests"]])
def test_alerts_fire_as_said(test: Any) -> None:
    """The unit tests of the rules, as promtool would run them."""
    seconds = promql_parser.parse_duration
    interval_s = seconds(test["interval"]).total_seconds()
    every_s = seconds(TESTS["evaluation_interval"]).total_seconds()
    series = promql.series(test["input_series"], interval_s)
    names = {dict(labels)["__name__"] for labels in series}
    assert names <= set(EXPORTED)
    for labels in series:
        own = dict(labels)
        assert own.keys() - {"__name__"} <= EXPORTED[own["__name__"]] | _SCRAPED
    for check in test["alert_rule_test"]:
        at = seconds(check["eval_time"]).total_seconds()
        found = promql.firing(RULES[check["alertname"]], series, at, every_s)
        assert found == sorted(check["exp_alerts"], key=promql.by_labels), (check["alertname"], check["eval_time"])


def test_rates_are_extrapolated_as_prometheus_does() -> None:
    """A counter that grows by 2 a second has the rate 2; over a window that reaches before its birth, less."""
    of = promql.series([{"series": "c_total", "values": "0+120x10"}], 60.0)
    assert promql.evaluate("rate(c_total[5m])", of, 600.0) == {frozenset(): pytest.approx(2.0)}
    assert promql.evaluate("rate(c_total[5m])", of, 60.0) == {frozenset(): pytest.approx(120.0 / 300.0)}
    assert promql.evaluate("increase(c_total[5m])", of, 600.0) == {frozenset(): pytest.approx(600.0)}


def test_prometheus_scrapes_what_is_there() -> None:
    """The rules' file is the one that compose mounts, and the jobs that rules name are scraped."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    named = {
        m.value
        for rule in RULES.values()
        for node in promql.walk(rule["expr"])
        if isinstance(node, promql_parser.VectorSelector)
        for m in node.matchers.matchers
        if m.name == "job"
    }
    assert named <= jobs
    assert [Path(p).name for p in config["rule_files"]] == ["alerts.yml"]

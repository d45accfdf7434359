"""Grafana's dashboards, written from lists of panels: ``python -m deploy.dashboards`` is the only writer of ``observability/dashboards/``.

A panel is a title, a unit and its queries; where it stands follows from its place in the list. Knows no metric but by name: a test holds
the names and labels against what the processes export.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "observability" / "dashboards"
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 24  # of Grafana's grid
_SOURCE = {"type": "prometheus", "uid": "prometheus"}
_RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph.

    Attributes:
        title: what it shows.
        unit: Grafana's name of it: s, reqps, percentunit, short, bytes.
        queries: PromQL and the legend of its series.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _quantiles(metric: str, by: str, legend: str) -> tuple[tuple[str, str], ...]:
    """Median and 99th percentile of a histogram."""
    return tuple(
        (f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket[{_RATE}])))", f"p{int(q * 100)} {legend}") for q in (0.5, 0.99)
    )


def _rate(metric: str, by: str, legend: str) -> tuple[tuple[str, str], ...]:
    return ((f"sum by ({by}) (rate({metric}[{_RATE}]))", legend),)


GATEWAY = (
    Panel("Calls", "reqps", _rate("longtail_rpc_calls_total", "method, surface", "{{method}} {{surface}}")),
    Panel("Calls by caller", "reqps", _rate("longtail_rpc_calls_total", "caller", "{{caller}}")),
    Panel(
        "Calls not OK",
        "reqps",
        ((f'sum by (method, code) (rate(longtail_rpc_calls_total{{code!="OK"}}[{_RATE}]))', "{{method}} {{code}}"),),
    ),
    Panel("Duration", "s", _quantiles("longtail_rpc_duration_seconds", "method, surface", "{{method}} {{surface}}")),
    Panel("Calls under way", "short", (("sum by (service) (longtail_rpc_in_flight)", "{{service}}"),)),
    Panel("Candidates of a list", "short", _quantiles("longtail_rank_candidates", "surface", "{{surface}}")),
    Panel("Stages", "s", _quantiles("longtail_rank_stage_seconds", "stage", "{{stage}}")),
    Panel("Until a member's scores were there", "s", _quantiles("longtail_rank_member_seconds", "member", "{{member}}")),
    Panel("Requests to models", "reqps", _rate("longtail_model_requests_total", "model, outcome", "{{model}} {{outcome}}")),
    Panel("Time of a request to a model", "s", _quantiles("longtail_model_request_seconds", "model", "{{model}}")),
    Panel("Rows of a request to a model", "short", _quantiles("longtail_model_batch_rows", "model", "{{model}}")),
    Panel(
        "Found in caches",
        "percentunit",
        (
            (
                f'sum by (cache) (rate(longtail_cache_lookups_total{{outcome="hit"}}[{_RATE}]))'
                f" / sum by (cache) (rate(longtail_cache_lookups_total[{_RATE}]))",
                "{{cache}}",
            ),
        ),
    ),
    Panel("Degradations", "reqps", _rate("longtail_rank_degradations_total", "component, reason", "{{component}} {{reason}}")),
    Panel(
        "Share of lists degraded",
        "percentunit",
        (
            (
                f"sum by (surface) (rate(longtail_rank_degraded_total[{_RATE}]))"
                f" / sum by (surface) (rate(longtail_rank_candidates_count[{_RATE}]))",
                "{{surface}}",
            ),
        ),
    ),
    Panel(
        "Mean probability by model",
        "percentunit",
        (
            (
                f"sum by (model, version) (rate(longtail_model_probability_sum_total[{_RATE}]))"
                f" / sum by (model, version) (rate(longtail_model_scores_total[{_RATE}]))",
                "{{model}} {{version}}",
            ),
        ),
    ),
    Panel("Candidates without a score", "reqps", _rate("longtail_model_scores_absent_total", "model", "{{model}}")),
    Panel("Trial: time to rank", "s", _quantiles("longtail_trial_seconds", "mode, arm", "{{mode}} {{arm}}")),
    Panel("Answers the served log lost", "reqps", _rate("longtail_served_log_lost_total", "reason", "{{reason}}")),
)
FAIRNESS = (
    Panel(
        "Share of exposure",
        "percentunit",
        (
            ("max by (surface, policy, attribute, group) (longtail_exposure_share)", "{{surface}} {{policy}} {{group}}"),
            ("max by (surface, policy, attribute, group) (longtail_exposure_target)", "promised {{surface}} {{policy}} {{group}}"),
        ),
    ),
    Panel(
        "Exposure owed, in lists",
        "short",
        (("max by (surface, policy, group) (longtail_exposure_debt_lists)", "{{surface}} {{policy}} {{group}}"),),
    ),
    Panel(
        "Price of a promise", "short", (("max by (surface, policy, group) (longtail_exposure_price)", "{{surface}} {{policy}} {{group}}"),)
    ),
    Panel(
        "Delivered per list",
        "percentunit",
        (
            (
                f"sum by (surface, policy, group) (rate(longtail_exposure_delivered_total[{_RATE}]))"
                f" / sum by (surface, policy, group) (rate(longtail_group_lists_total[{_RATE}]))",
                "{{surface}} {{policy}} {{group}}",
            ),
        ),
    ),
    Panel(
        "Places that could not be filled",
        "reqps",
        _rate("longtail_floor_shortfall_places_total", "surface, policy, group", "{{surface}} {{policy}} {{group}}"),
    ),
    Panel(
        "Share of utility given up",
        "percentunit",
        (
            (
                f"sum by (surface, policy) (rate(longtail_utility_given_up_total[{_RATE}])) / (sum by (surface, policy) "
                f"(rate(longtail_utility_total[{_RATE}])) + sum by (surface, policy) (rate(longtail_utility_given_up_total[{_RATE}])))",
                "{{surface}} {{policy}}",
            ),
        ),
    ),
    Panel(
        "Mean predicted probability by group",
        "percentunit",
        (
            (
                f"sum by (surface, group) (rate(longtail_predicted_probability_sum_total[{_RATE}]))"
                f" / sum by (surface, group) (rate(longtail_predicted_probability_count_total[{_RATE}]))",
                "{{surface}} {{group}}",
            ),
        ),
    ),
    Panel(
        "Predicted over actual when measured",
        "short",
        (("max by (surface, split, group) (longtail_calibration_ratio)", "{{surface}} {{split}} {{group}}"),),
    ),
    Panel(
        "Budget spent",
        "percentunit",
        (("max by (policy, advertiser) (longtail_budget_spent_micros / longtail_budget_daily_micros)", "{{policy}} {{advertiser}}"),),
    ),
    Panel("Shared accounts not exchanged for", "s", (("max by (instance) (longtail_ledger_stale_seconds)", "{{instance}}"),)),
)
PLATFORM = (
    Panel("Features read, by freshness", "reqps", _rate("longtail_feature_reads_total", "freshness", "{{freshness}}")),
    Panel("Age of the item snapshot", "s", (("max by (job, instance) (longtail_snapshot_age_seconds)", "{{job}} {{instance}}"),)),
    Panel(
        "Events wait to become features",
        "s",
        (("max(longtail_features_lag_seconds)", "feature process"), ("max(longtail_events_wait_seconds)", "as gateways hear")),
    ),
    Panel("Events", "reqps", _rate("longtail_feedback_events_total", "outcome", "{{outcome}}")),
    Panel(
        "Events made features",
        "reqps",
        (
            (f"sum(rate(longtail_features_events_applied_total[{_RATE}]))", "applied"),
            (f"sum(rate(longtail_features_events_refused_total[{_RATE}]))", "refused"),
        ),
    ),
    Panel("Push to the online store", "s", _quantiles("longtail_features_push_seconds", "view", "{{view}}")),
    Panel("Triton serves what it should", "short", (("min by (instance) (longtail_triton_ready)", "{{instance}}"),)),
    Panel("Reconciliations", "short", ((f"sum by (outcome) (increase(longtail_reconciles_total[{_RATE}]))", "{{outcome}}"),)),
    Panel(
        "Releases",
        "short",
        (
            ("count by (release) (longtail_release_info)", "gateways on {{release}}"),
            ("count by (release) (longtail_triton_release_info)", "Tritons on {{release}}"),
        ),
    ),
    Panel("Memory", "bytes", (("process_resident_memory_bytes", "{{job}} {{instance}}"),)),
    Panel("Processor", "short", ((f"rate(process_cpu_seconds_total[{_RATE}])", "{{job}} {{instance}}"),)),
    Panel(
        "Exchanges of shared accounts that failed",
        "short",
        ((f"sum by (instance) (increase(longtail_ledger_sync_failures_total[{_RATE}]))", "{{instance}}"),),
    ),
)
BOARDS = {
    "gateway": ("Longtail: gateway", GATEWAY),
    "fairness": ("Longtail: fairness", FAIRNESS),
    "platform": ("Longtail: platform", PLATFORM),
}


def board(name: str) -> str:
    """A dashboard's file."""
    title, panels = BOARDS[name]
    return (
        json.dumps(
            {
                "uid": f"longtail-{name}",
                "title": title,
                "tags": ["longtail"],
                "schemaVersion": 39,
                "version": 1,
                "timezone": "utc",
                "refresh": "30s",
                "time": {"from": "now-1h", "to": "now"},
                "panels": [_panel(i, panel) for i, panel in enumerate(panels)],
            },
            indent=1,
        )
        + "\n"
    )


def _panel(i: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(i, _COLUMNS // _WIDTH)
    return {
        "id": i + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0} if panel.unit == "percentunit" else {"unit": panel.unit},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + k), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
            for k, (expr, legend) in enumerate(panel.queries)
        ],
    }


def main(names: Sequence[str] = tuple(BOARDS)) -> None:
    """Write them all."""
    for name in names:
        (FOLDER / f"{name}.json").write_text(board(name), encoding="utf-8")


if __name__ == "__main__":
    main()

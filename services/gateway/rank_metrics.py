"""What a gateway tells Prometheus of the lists it ranked: where time went, what was missing, what the models said and what caches knew.

A model whose mean probability leaves what it was is the first sign of features or a model gone wrong, long before feedback comes: hence
the sums per model and version. They are of every score used for a list, cached or not. Knows neither gRPC nor Triton.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ranking.types import Ranking, RankRequest
from services.gateway.scoring import Scores
from services.rpc.tally import Counters, Histograms

_STAGE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_MEMBER = "score."  # how stage durations name a member's
_OWN_NAME = ("features", "member")  # components told apart by what follows the colon: known parts, no text of a caller

Looked = tuple[int, int]
"""Found and not found, so far."""


class RankMetrics(Collector):
    """Sums of this process; counted on the event loop, collected on any thread."""

    def __init__(self, caches: Mapping[str, Callable[[], Looked]], lost: Mapping[str, Callable[[], int]]) -> None:
        """Nothing is counted yet.

        Args:
            caches: by name, what each found and did not, so far.
            lost: by what happened to them, answers the served log does not have.
        """
        self._caches, self._lost = caches, lost
        surface, model = ("surface",), ("model", "version")
        self._stages = Histograms("longtail_rank_stage_seconds", "Part of a list's time", ("surface", "stage"), _STAGE_S)
        self._members = Histograms("longtail_rank_member_seconds", "Until a member's scores were there", ("member",), _STAGE_S)
        self._candidates = Histograms("longtail_rank_candidates", "Candidates of a list", surface, _SIZES)
        self._degradations = Counters("longtail_rank_degradations", "Parts that lists went without", ("surface", "component", "reason"))
        self._degraded = Counters("longtail_rank_degraded", "Lists that went without something", surface)
        self._reads = Counters("longtail_feature_reads", "Rows of views read for lists, by freshness", ("freshness",))
        self._scores = Counters("longtail_model_scores", "Scores used", model)
        self._absent = Counters("longtail_model_scores_absent", "Candidates it had no score for", model)
        self._sum = Counters("longtail_model_probability_sum", "Sum of the logistic function of those scores, not calibrated", model)

    def observe(self, request: RankRequest, ranking: Ranking, scored: Scores) -> None:
        """Count one answer: some 20 microseconds.

        Args:
            request: what was asked.
            ranking: the answer.
            scored: what the members said.
        """
        surface = request.surface.value
        for stage, ms in ranking.stage_ms.items():
            if stage.startswith(_MEMBER):
                self._members.observe((stage.removeprefix(_MEMBER),), ms / 1e3)
            else:
                self._stages.observe((surface, stage), ms / 1e3)
        self._candidates.observe((surface,), len(request.candidates.item_ids))
        for d in ranking.degradations:
            self._degradations.add((surface, _told(d.component), d.reason))
        if ranking.degradations:
            self._degraded.add((surface,))
        for freshness, rows in ranking.freshness.items():
            if rows:
                self._reads.add((freshness,), rows)
        n = scored.logits.shape[1]
        there = ~np.isnan(scored.logits)  # (m, n)
        odds = np.exp(np.minimum(scored.logits, 500.0))  # beyond, e^x / (1 + e^x) is 1
        sums, counts = np.add.reduce(odds / (1.0 + odds), axis=1, where=there).tolist(), np.add.reduce(there, axis=1).tolist()
        for name, total, count in zip(scored.members, sums, counts, strict=True):
            of = (name, ranking.model_versions[name])
            self._scores.add(of, count)
            self._sum.add(of, total)
            if count < n:
                self._absent.add(of, n - count)

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        for one in (
            self._stages, self._members, self._candidates, self._degradations, self._degraded, self._reads,
            self._scores, self._absent, self._sum,
        ):  # fmt: skip
            yield from one.collect()
        lookups = CounterMetricFamily("longtail_cache_lookups", "Looked up in a cache", labels=("cache", "outcome"))
        for name, looked in self._caches.items():
            for outcome, count in zip(("hit", "miss"), looked(), strict=True):
                lookups.add_metric((name, outcome), count)
        yield lookups
        lost = CounterMetricFamily("longtail_served_log_lost", "Answers that the served log should have and has not", labels=("reason",))
        for reason, count_of in self._lost.items():
            lost.add_metric((reason,), count_of())
        yield lost


def _told(component: str) -> str:
    """The component as a label: without what a caller may have written into it."""
    kind, _, _ = component.partition(":")
    return component if kind in _OWN_NAME else kind

"""The main job, end to end: what training computed is what a gRPC caller gets, whatever dies on the way."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from cli import app
from ranking.blend import blend
from ranking.fairness.policy import GroupRule, Share
from ranking.features import MODEL_COLUMNS
from ranking.types import TIERS, Explain, Surface
from ranking.variants import BOUNDS
from services.client.client import rank_request
from tests.e2e.conftest import Platform
from training.lists.requests import SampleRequest, for_user
from training.skew import verify

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]


def _request(sample: SampleRequest, **options: Any) -> pb.RankRequest:
    return rank_request(
        Surface(sample.surface),
        sample.item_ids,
        user_id=sample.user_id,
        query=sample.query,
        retrieval_scores=sample.retrieval_scores,
        bid_micros=sample.bid_micros,
        columns=sample.columns,
        **options,
    )


def test_every_sample_is_answered_whole(platform: Platform) -> None:
    """Known users on real lists: nothing degraded, the active release, one version per member, both surfaces."""
    stub = platform.stub()
    assert {s.surface for s in platform.samples} == {"ads", "search"}
    for sample in platform.samples:
        answer = stub.Rank(_request(sample, top_k=10), timeout=60)
        assert len(answer.results.item_ids) == 10
        assert not answer.degradations
        assert answer.release == platform.release.id
        assert set(answer.model_versions) == set(platform.release.blends[Surface(sample.surface)].members)
        assert all(0 < p < 1 for p in answer.results.probabilities)


def test_training_and_gateway_agree(platform: Platform) -> None:
    """The gateway's feature rows equal training's bit for bit; its log-odds and probabilities those computed offline within 1e-4.

    Where the host runs BERT in bfloat16, BERT's log-odds only agree within the release's stated tolerance.
    """
    with (platform.layout.training / "frames" / "frames.pickle").open("rb") as file:
        frames = pickle.load(file)["frames"]
    stub = platform.stub()
    for sample in platform.samples:
        surface = Surface(sample.surface)
        frame = frames[surface, "test"]
        offline = {u: i for i, (u, w, q) in enumerate(zip(frame.lists.user_ids, frame.lists.weeks, frame.lists.queries, strict=True))
                   if w == 53 and q == sample.query}[sample.user_id]  # fmt: skip
        span = slice(frame.lists.offsets[offline], frame.lists.offsets[offline + 1])
        want, tiers = frame.assembled.x[span], frame.assembled.tiers[span]

        answer = stub.Rank(_request(sample, explain=Explain.FULL, policy="none"), timeout=60)
        served = {e.item_id: e for e in answer.explanations}
        got = np.array([[served[i].features[c] for c in MODEL_COLUMNS] for i in sample.item_ids], np.float32)
        np.testing.assert_array_equal(got, want)

        spec = platform.release.blends[surface]
        logits = np.array([[{m.member: m.raw for m in served[i].members}[name] for i in sample.item_ids] for name in spec.members])
        offline_logits, reduced = [], False
        for got_logits, member in zip(logits, map(platform.release.member, spec.members), strict=True):
            atol = 1e-4
            if member.kind == "features":
                session = onnxruntime.InferenceSession(str(platform.layout.releases / platform.release.id / member.path))
                offline_logits.append(session.run([member.output], {"features": want})[0][:, 0].astype(np.float64))
            else:
                run = json.loads((platform.layout.triton_repository / member.model / str(member.version) / "run.json").read_text())
                reduced = run["variant"] in ("bf16", "int8")
                atol = BOUNDS[run["variant"]].max_error if reduced else atol
                offline_logits.append(np.load(platform.layout.training / "scores" / f"{surface.value}_test.npz")["given.bert"][span])
            np.testing.assert_allclose(got_logits, offline_logits[-1], atol=atol)
        probabilities = dict(zip(answer.results.item_ids, answer.results.probabilities, strict=True))
        offline_p = blend(spec, np.stack(offline_logits), tiers).probabilities
        np.testing.assert_allclose([probabilities[i] for i in sample.item_ids], offline_p, atol=1e-2 if reduced else 1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ibis calls old names of duckdb's API
def test_what_was_served_is_what_training_would_have_joined(platform: Platform) -> None:
    """`features verify` on the gateway's own log: known users, a stranger and an unknown item, both surfaces, and not one value differs."""
    stub = platform.stub()
    asked = [_request(sample) for sample in platform.samples]
    strange = _request(platform.samples[0])
    strange.user_id, strange.candidates.item_ids[0] = "nobody-we-know", "no-such-item"
    answers = {stub.Rank(request, timeout=60).ranking_id for request in (*asked, strange)}

    def logged() -> set[str]:
        found = sorted(platform.layout.served.glob("*.parquet"))
        return {i for path in found for i in pq.read_table(path, columns=["ranking_id"])["ranking_id"].to_pylist()}

    _until(lambda: answers <= logged())
    skew = verify(platform.layout, rankings=10_000)
    assert skew.rankings >= len(answers)
    assert [(c.name, c.mismatches) for c in skew.columns if c.mismatches] == []
    assert skew.unknown_users >= 1


def test_floors_hold_at_every_prefix_and_change_no_probability(platform: Platform) -> None:
    """With the policy each group has its floor at every place; an item's probability is the same with and without."""
    stub = platform.stub()
    for sample in platform.samples:
        fair = stub.Rank(_request(sample, top_k=20, explain=Explain.SCORES), timeout=60)
        plain = stub.Rank(_request(sample, policy="none"), timeout=60)
        free = dict(zip(plain.results.item_ids, plain.results.probabilities, strict=True))
        assert all(free[i] == p for i, p in zip(fair.results.item_ids, fair.results.probabilities, strict=True))
        groups = [e.group for e in fair.explanations]
        for report in fair.exposure:
            for place in range(1, len(groups) + 1):
                floor = min(int(place * report.target_share + 1e-9), report.candidates)
                assert groups[:place].count(report.group) >= floor


def test_strangers_and_unknown_items_are_ranked_and_flagged(platform: Platform) -> None:
    """Defaults instead of an error, and the answer says for whom and for how many."""
    sample = platform.samples[0]
    request = _request(sample)
    request.user_id = "nobody-we-know"
    request.candidates.item_ids[0] = "no-such-item"
    answer = platform.stub().Rank(request, timeout=60)
    assert len(answer.results.item_ids) == len(sample.item_ids)
    assert {(d.component, d.reason) for d in answer.degradations} == {("features:user", "NOT_FOUND"), ("features:item", "NOT_FOUND")}
    assert answer.feature_freshness.missing > 0


def test_release_keeps_its_metrics(platform: Platform) -> None:
    """Validation and test metrics of members and blend, with intervals, are part of the release."""
    manifest = json.loads((platform.layout.releases / platform.release.id / "release.json").read_text())
    for split in ("validation", "test"):
        for surface in ("ads", "search"):
            rankers = manifest["metrics"][split][surface]
            assert {"shuffle", "popularity rule", "repeat rule", "boosting", "bert", "blend", "blend + floor"} == set(rankers)
            value, low, high = rankers["blend"]["all"]["ndcg10"]
            assert low <= value <= high
            assert set(rankers["blend"]) == {"all", *TIERS}


@pytest.mark.parametrize(("surface", "query"), [(Surface.ADS, ""), (Surface.SEARCH, "frozen pizza")])
def test_anybody_can_be_asked_for(platform: Platform, surface: Surface, query: str) -> None:
    """Candidates made for one household on the serving day are ranked like the prepared ones."""
    from datetime import datetime

    as_of = datetime.fromisoformat(json.loads(platform.layout.serving.read_text())["as_of"])
    canonical = platform.layout.canonical("completejourney")
    sample = for_user(platform.layout, canonical, as_of, surface, user_id="900", query=query, n=60)
    answer = platform.stub().Rank(_request(sample, top_k=5), timeout=60)
    assert len(answer.results.item_ids) == 5
    assert not answer.degradations


def test_an_explanation_adds_up(platform: Platform) -> None:
    """On every list: base and parts of the attributed member are its log-odds, and the promises' costs are the utility given up."""
    stub = platform.stub()
    for sample in platform.samples:
        answer = stub.Rank(_request(sample, top_k=10, explain=Explain.FULL), timeout=60)
        for e in answer.explanations:
            raw = {m.member: m.raw for m in e.members}[e.attributed_member]
            assert e.attribution_base + sum(e.attributions.values()) == pytest.approx(raw, abs=1e-4)
        lost = answer.fairness.utility_before - answer.fairness.utility
        assert sum(c.cost for c in answer.fairness.costs) == pytest.approx(lost, rel=1e-9, abs=1e-12)
        assert lost >= 0.0


def test_what_is_owed_becomes_a_price_and_is_paid(platform: Platform) -> None:
    """Under a share of exposure over all lists, a group that is owed gets a price, and in the end what it was promised."""
    stub, samples = platform.stub(), [s for s in platform.samples if s.surface == "search"]
    policy = platform.release.policies["tail-share-search"]
    for i in range(300):
        answer = stub.Rank(_request(samples[i % len(samples)], top_k=policy.page_length, policy=policy.name), timeout=60)
        assert not answer.degradations
    owed = {g.group: g for g in answer.exposure}
    assert owed["tail"].price > 0.0
    assert all(g.debt <= policy.controller.debt_bound for g in owed.values())
    metrics = json.loads((platform.layout.run / "gateway.json").read_text())["metrics"]
    scraped = urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10).read().decode()
    labels = {"surface": "search", "policy": policy.name, "attribute": "popularity_tier", "group": "tail"}
    seen = {s.name: s.value for f in text_string_to_metric_families(scraped) for s in f.samples if labels.items() <= s.labels.items()}
    assert seen["longtail_exposure_debt_lists"] <= policy.controller.debt_bound
    assert seen["longtail_exposure_delivered_total"] >= seen["longtail_exposure_promised_total"] - policy.controller.debt_bound


def test_policies_change_under_load(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`longtail policy apply` and a rollback under way: no call fails, and each answer names one release and its own version."""
    monkeypatch.setenv("LONGTAIL_HOME", str(platform.layout.home))
    file = tmp_path / "floor.json"
    old = platform.release.policies[platform.release.active_policy[Surface.SEARCH]]
    changed = replace(old, version="2", rules=(GroupRule("brand", {"*": Share(0.8, "of_candidates")}),))
    file.write_text(json.dumps(changed.to_json()))
    with _load(platform) as outcomes:
        _until(lambda: len(outcomes) > 20)
        applied = CliRunner().invoke(app, ["policy", "apply", str(file)])
        assert applied.exit_code == 0, applied.output
        _until(lambda: outcomes[-1].policy_version == "2")
        assert CliRunner().invoke(app, ["release", "rollback"]).exit_code == 0
        _until(lambda: outcomes[-1].policy_version == "1")
    assert [o for o in outcomes if isinstance(o, grpc.RpcError)] == []
    seen = {(o.release, o.policy_version) for o in outcomes}
    assert seen == {(platform.release.id, "1"), (f"{platform.release.id}-p1", "2")}
    by_brand = next(o for o in outcomes if o.policy_version == "2")
    assert {g.attribute for g in by_brand.exposure} == {"brand"}
    assert not [d for o in outcomes for d in o.degradations]


def test_killing_triton_fails_no_call_and_heals(platform: Platform) -> None:
    """kill -9 under load: every call is answered, some degraded, and soon none is again, with the same gateway."""
    with _load(platform) as outcomes:
        _until(lambda: len(outcomes) > 20)
        triton = json.loads((platform.layout.run / "triton.json").read_text())
        gateway = json.loads((platform.layout.run / "gateway.json").read_text())["pid"]
        os.kill(triton["triton_pid"], signal.SIGKILL)
        killed_at = len(outcomes)
        _until(lambda: any(getattr(o, "degradations", ()) for o in outcomes[killed_at:]))
        _until(lambda: len(outcomes) > killed_at + 5 and not outcomes[-1].degradations)
    assert [o for o in outcomes if isinstance(o, grpc.RpcError)] == []
    assert {d.reason for o in outcomes for d in o.degradations} <= {"UNAVAILABLE", "DEADLINE"}
    assert json.loads((platform.layout.run / "gateway.json").read_text())["pid"] == gateway


@contextmanager
def _load(platform: Platform) -> Iterator[list[Any]]:
    """Rank calls one after another, as long as the context lasts; what came of them."""
    stub, stop = platform.stub(), threading.Event()
    outcomes: list[pb.RankResponse | grpc.RpcError] = []

    def calls() -> None:
        for i in range(10_000):
            if stop.is_set():
                return
            sample = platform.samples[i % len(platform.samples)]
            try:
                outcomes.append(stub.Rank(_request(sample, top_k=10), timeout=30))
            except grpc.RpcError as error:
                outcomes.append(error)

    thread = threading.Thread(target=calls)
    thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        thread.join()


def _until(happened: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)

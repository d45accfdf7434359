"""Feature attributions in the gateway: they add up to what the model said, or there are none and the answer says why."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.release import Explainer, Release
from ranking.types import Degradation
from services.gateway.attributions import Attributions
from tests.deploy.releases import build_release
from tests.services.gateway_fakes import Gateway, activate, ads, gateway, reasons, search
from training.members import trees

OFFSET = -1.5
MEMBERS = ("trees", "bert")
ROOT = Path(__file__).parents[2]


@dataclass
class Case:
    """A release whose features member is real trees."""

    store: Path
    release: Release
    session: onnxruntime.InferenceSession  # of its trees
    rows: np.ndarray
    logits: np.ndarray  # (2, K) of trees and bert

    async def ask(self, asked: Attributions, *, budget_s: float = 60.0, **change: Any) -> Any:
        given = {"release": self.release, "members": MEMBERS, "rows": self.rows, "logits": self.logits} | change
        return await asked.of(**given, deadline=time.monotonic() + budget_s)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    store = Layout(tmp_path_factory.mktemp("home")).releases
    release = build_release(store, "r1", 1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, len(MODEL_COLUMNS))).astype(np.float32)
    booster = trees.train(x, (x[:, 0] + x[:, 5] + rng.normal(size=3000) > 1).astype(np.int8), rounds=20)
    text = trees.to_text(booster, offset=OFFSET).encode()
    (store / "r1/models/trees/model.txt").write_bytes(text)
    explainer = Explainer("models/trees/model.txt", hashlib.sha256(text).hexdigest())
    release = replace(release, members=tuple(replace(m, explainer=explainer) if m.name == "trees" else m for m in release.members))
    rows = x[:20]  # more than one chunk
    session = onnxruntime.InferenceSession(trees.to_onnx(booster, offset=OFFSET, columns=x.shape[1]), providers=["CPUExecutionProvider"])
    (raw,) = session.run([trees.OUTPUT], {trees.INPUT: rows})
    return Case(store, release, session, rows, np.stack([raw[:, 0].astype(np.float64), np.full(20, np.nan)]))


@pytest.fixture
async def asked(case: Case) -> AsyncIterator[Attributions]:
    attributions = Attributions(case.store)
    yield attributions
    attributions.close()


def one(degradations: tuple[Degradation, ...]) -> tuple[str, str]:
    (d,) = degradations
    assert d.component == "attributions"
    assert d.detail.startswith("trees: ")
    return d.reason, d.detail


async def test_base_and_parts_add_up_to_the_model_s_output(case: Case, asked: Attributions) -> None:
    """For every result, base + Σ attributions is the log-odds of the ONNX model that is served, and the informative features lead."""
    got, degradations = await case.ask(asked)
    assert degradations == ()
    assert got.member == "trees"
    assert got.values.shape == (20, len(MODEL_COLUMNS))
    np.testing.assert_allclose(got.base + got.values.sum(axis=1), case.logits[0], atol=1e-4)
    assert set(np.argsort(-np.abs(got.values).mean(axis=0))[:2].tolist()) == {0, 5}


async def test_many_at_once_are_all_answered(case: Case, asked: Attributions) -> None:
    """Calls share one thread and one loaded model, and each gets its own rows' parts."""
    whole, _ = await case.ask(asked)
    each = await asyncio.gather(*(case.ask(asked, rows=case.rows[i : i + 1], logits=case.logits[:, i : i + 1]) for i in range(20)))
    np.testing.assert_array_equal(np.concatenate([got.values for got, _ in each]), whole.values)


async def test_a_member_that_did_not_score_is_not_explained(case: Case, asked: Attributions) -> None:
    """Its absence is reported by the scoring; there is nothing to attribute and nothing more to report."""
    assert await case.ask(asked, logits=np.full((2, 20), np.nan)) == (None, ())
    assert await case.ask(asked, members=("bert",), logits=np.zeros((1, 20))) == (None, ())


async def test_a_release_without_an_explainer_says_so(case: Case, asked: Attributions) -> None:
    """A release from before explainers were published answers without attributions."""
    bare = replace(case.release, members=tuple(replace(m, explainer=None) for m in case.release.members))
    got, degradations = await case.ask(asked, release=bare)
    assert got is None
    assert one(degradations) == ("UNAVAILABLE", "trees: the release has no explainer for it")


@pytest.mark.parametrize(
    ("content", "digest", "said"),
    [
        (None, "", "models/trees/model.txt cannot be read: No such file or directory"),
        (b"tree\n", "0" * 64, "the manifest says " + "0" * 64),
        (b"no model", "", "is no LightGBM model"),
    ],
    ids=["gone", "changed", "not a model"],
)
async def test_a_file_that_cannot_be_trusted_is_not_used(case: Case, tmp_path: Path, content: bytes | None, digest: str, said: str) -> None:
    """Gone, other than the manifest says, or no model: no attributions, and the degradation names the file."""
    path = tmp_path / "r1/models/trees/model.txt"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    explainer = Explainer("models/trees/model.txt", digest or hashlib.sha256(content or b"").hexdigest())
    release = replace(case.release, members=tuple(replace(m, explainer=explainer) for m in case.release.members))
    asked = Attributions(tmp_path)
    got, degradations = await case.ask(asked, release=release)
    asked.close()
    assert got is None
    reason, detail = one(degradations)
    assert reason == "UNAVAILABLE"
    assert said in detail


async def test_an_explanation_of_another_model_is_not_given(case: Case, asked: Attributions) -> None:
    """Where base + Σ is not what the served model said, there is no explanation rather than a wrong one."""
    got, degradations = await case.ask(asked, logits=case.logits + 0.25)
    assert got is None
    assert one(degradations) == ("UNAVAILABLE", "trees: the explainer's log-odds differ from the model's by 0.25")


async def test_without_lightgbm_there_is_an_answer(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not installed is a degradation."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)  # what Python makes an ImportError of
    asked = Attributions(case.store)
    got, degradations = await case.ask(asked)
    asked.close()
    assert got is None
    reason, detail = one(degradations)
    assert (reason, "LightGBM cannot be loaded" in detail) == ("UNAVAILABLE", True)


async def test_no_time_left_is_a_deadline(case: Case, asked: Attributions) -> None:
    """Past the deadline nothing is computed, and the next call finds the thread free."""
    got, degradations = await case.ask(asked, budget_s=-1.0)
    assert got is None
    assert one(degradations) == ("DEADLINE", "trees: not explained in time")
    assert (await case.ask(asked))[1] == ()


async def test_a_fault_does_not_take_the_answer_along(case: Case, asked: Attributions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an error nobody thought of is a degradation; its cause stands in the log."""

    def predict(*_: Any, **__: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(lightgbm.Booster, "predict", predict)
    got, degradations = await case.ask(asked)
    assert got is None
    assert one(degradations) == ("ERROR", "trees: unexpected error; the server's log has the cause")


@pytest.fixture
def released(case: Case, tmp_path: Path) -> Path:
    """A state directory with a release that has an explainer."""
    layout = Layout(tmp_path)
    shutil.copytree(case.store / "r1", layout.releases / "r1")
    (layout.releases / "r1" / "release.json").write_text(json.dumps(case.release.to_json()))
    activate(tmp_path, "r1")
    return tmp_path


@pytest.fixture
async def explaining(case: Case, released: Path) -> AsyncIterator[Gateway]:
    """A gateway that serves a release with real trees, whose Triton runs their ONNX form."""
    async with gateway(released) as gw:
        bert = gw.models.infer

        async def infer(model: str, version: int, inputs: Any, output: str, timeout_s: float) -> Any:
            if model == "bert":
                return await bert(model, version, inputs, output, timeout_s)
            return case.session.run([output], dict(inputs))[0].reshape(-1)

        gw.models.infer = infer
        yield gw


@pytest.mark.parametrize("ask", [search, ads])
async def test_a_full_explanation_adds_up_over_the_wire(explaining: Gateway, ask: Any) -> None:
    """In a gateway's answer base + Σ attributions is the member's raw score, and the promises' costs are the utility given up."""
    answer = await explaining.rank(ask(60, top_k=10, explain=pb.EXPLAIN_LEVEL_FULL))
    assert "attributions" not in reasons(answer)
    assert len(answer.explanations) == 10
    for e in answer.explanations:
        raw = next(m.raw for m in e.members if m.member == e.attributed_member)
        assert e.attribution_base + sum(e.attributions.values()) == pytest.approx(raw, abs=1e-4)
        assert set(e.attributions) <= set(e.features)
    f = answer.fairness
    given_up = f.utility_before - f.utility
    assert f.costs
    assert sum(c.cost for c in f.costs) == pytest.approx(given_up, abs=1e-9 * max(f.utility_before, 1.0))
    cost_of = {c.item_id: c.cost for c in f.costs if c.kind == "floor"}
    lifted = [e for e in answer.explanations if e.binding_floor]
    assert lifted
    assert all(e.cost == cost_of.get(e.item_id, 0.0) and e.binding_prefix >= e.rank for e in lifted)


async def test_below_full_nothing_is_attributed(explaining: Gateway) -> None:
    """SCORES neither computes attributions nor costs, and reports nothing missing."""
    answer = await explaining.rank(search(60, top_k=10, explain=pb.EXPLAIN_LEVEL_SCORES))
    assert "attributions" not in reasons(answer)
    assert not answer.fairness.costs
    assert not any(e.attributions or e.attributed_member for e in answer.explanations)


async def test_an_answer_without_attributions_is_an_answer(released: Path) -> None:
    """With the explainer's file gone the list is complete, explained but for the attributions, and says so."""
    (Layout(released).releases / "r1/models/trees/model.txt").unlink()
    async with gateway(released) as gw:
        answer = await gw.rank(search(20, explain=pb.EXPLAIN_LEVEL_FULL))
    assert reasons(answer)["attributions"] == "UNAVAILABLE"
    assert len(answer.results.item_ids) == len(answer.explanations) == 20
    assert all(e.features and not e.attributions for e in answer.explanations)


WITHOUT_TRAINING = """
import asyncio, sys, time

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "transformers", "imblearn", "sklearn", "onnx", "onnxmltools"}:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
        return None

sys.meta_path.insert(0, Absent())
import services.gateway.server
assert "lightgbm" not in sys.modules  # not before somebody asks for an explanation
import numpy as np, json
from pathlib import Path
from ranking.release import Release
from services.gateway.attributions import Attributions

async def main(store, manifest, rows):
    rows = np.load(rows)
    asked = Attributions(Path(store))
    release = Release.from_json(json.loads(Path(manifest).read_text()))
    raw = rows["logits"]
    got, degradations = await asked.of(release, ("trees", "bert"), rows["rows"], raw, time.monotonic() + 60)
    asked.close()
    assert degradations == (), degradations
    assert np.abs(got.base + got.values.sum(axis=1) - raw[0]).max() < 1e-4

asyncio.run(main(*sys.argv[1:]))
"""


def test_attributions_need_no_training_library(case: Case, tmp_path: Path) -> None:
    """LightGBM explains where neither scikit-learn nor any other training library is installed, and the gateway starts without it."""
    (tmp_path / "release.json").write_text(json.dumps(case.release.to_json()))
    np.savez(tmp_path / "rows.npz", rows=case.rows, logits=case.logits)
    command = [sys.executable, "-c", WITHOUT_TRAINING, str(case.store), str(tmp_path / "release.json"), str(tmp_path / "rows.npz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

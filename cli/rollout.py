"""From a search on a cluster to an answer: two Ray nodes here, a job, its winner, a release, Triton, a gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cli.common import ROOT, out, prepared_samples, ranking_client
from ranking.layout import Layout
from ranking.types import Surface
from training.artefacts import write_text
from training.profile import Profile
from training.stage import key_of

SURFACE = Surface.SEARCH


def run(layout: Layout, profile: Profile, trials: int, *, ungated: bool, keep: bool) -> dict[str, str]:
    """Run all of it, reusing what is there: an interrupted or finished search of the same is gone on with.

    Args:
        layout: the state directory.
        profile: how much of everything.
        trials: of the ensembles.
        ungated: release the best trial whatever it breaks.
        keep: leave the platform running.

    Returns:
        What was made -> where it lies, or listens.

    Raises:
        RuntimeError: the job did not succeed; its log was printed.
    """
    from deploy import cluster, local
    from deploy.triton import wheel
    from training import pipeline

    wheel.install(layout.triton_server)
    made = pipeline.prepare(layout, profile)
    asked = settings(layout, made.scored.path, profile, trials)
    name = f"rollout-{key_of({'scores': made.scored.key, 'asked': asked})[:8]}"
    file = layout.search / f"{name}.toml"
    write_text(file, f'name = "{name}"\n{asked}')
    out.rule("search: a job of a Ray cluster of two nodes")
    with cluster.started(nodes=2) as ray:
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | dict(ray.environment)
        command = [sys.executable, "-m", "cli", "search", "submit", "--", "--config", str(file)]
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            raise RuntimeError(f"{name}: the job did not succeed; the same command goes on where it stopped")
    out.rule("winner → release → Triton → gateway")
    result = pipeline.run(layout, profile, ungated=ungated, searches={SURFACE: layout.search / name})
    ours = not local.status(layout)["processes"]
    try:
        now = local.up(layout, ROOT / "feature_repo", release=result.release.id, address="127.0.0.1:0", triton_port=0)
        answered = _ask(now["gateway"]["address"], result.requests)
        stopped = " (stopped again; --keep leaves it running)" if ours and not keep else ""
        return artefacts(layout, name, result.release.id) | {
            "Triton": f"{now['triton']['grpc']}, its models in {layout.triton_repository}",
            "gateway": f"{now['gateway']['address']}{stopped}: {answered}",
        }
    finally:
        if ours and not keep:
            local.down(layout)


def settings(layout: Layout, scores: Path, profile: Profile, trials: int) -> str:
    """The search's file but for its name: rankers on the pipeline's texts, then ensembles with the best of them."""
    return f"""storage = {json.dumps(str(layout.search))}

[rankers]
data = {json.dumps(str(scores / f"{SURFACE.value}_texts.npz"))}
trials = {max(2, trials // 4)}
epochs = {profile.bert_epochs}
seed = {profile.seed}
methods = ["full"]

[ensemble]
data = {json.dumps(str(scores / f"{SURFACE.value}.npz"))}
trials = {trials}
rounds = {profile.trial_rounds}
seed = {profile.seed}
rankers = 1
"""


def artefacts(layout: Layout, name: str, release: str) -> dict[str, str]:
    """Where what a rollout made lies."""
    search = layout.search / name
    return {
        "settings": f"{search}.toml",
        "rankers": str(search / "rankers"),
        "ensembles": str(search / "ensemble"),
        "winner": str(layout.training / f"search_{SURFACE.value}" / "result.json"),
        "release": str(layout.releases / release),
        "active release": str(layout.pointer),
    }


def _ask(address: str, requests: Path) -> str:
    """Rank one list that was prepared; what the answer names."""
    from services.client.client import rank_request

    sample = next(s for s in prepared_samples(requests) if s.surface == SURFACE)
    request = rank_request(
        SURFACE,
        sample.item_ids,
        user_id=sample.user_id,
        query=sample.query,
        retrieval_scores=sample.retrieval_scores,
        columns=sample.columns,
        top_k=10,
    )
    with ranking_client(address) as client:
        response = client.rank(request)
    models = ", ".join(f"{model} {version}" for model, version in sorted(response.model_versions.items()))
    return f"{len(response.results.item_ids)} results for “{sample.query}” by release {response.release} ({models})"

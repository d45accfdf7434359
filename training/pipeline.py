"""All stages in order, from a source's files to a published release: `python -m training.pipeline --help`.

Each stage is a directory made from its inputs and made again only when they change, so a second run reuses what is there. The
release is the only thing that leaves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ranking.fairness.policy import FairnessPolicy
from ranking.features import MODEL_COLUMNS, stable_key
from ranking.layout import Layout
from ranking.release import MANIFEST, Release
from ranking.text import pair_tensors
from ranking.types import Surface
from training import dataset, online, sources, tables
from training.artefacts import load_ensemble_data, load_lists, save_ensemble_data, save_lists, write_json
from training.blends.ensemble import Fitted
from training.lists.arrays import EnsembleData, EvalLists
from training.lists.requests import from_frame
from training.profile import PROFILES, Profile
from training.progress import Bar, console
from training.release.evaluate import evaluate, versus
from training.release.gate import gated
from training.release.policies import ACTIVE_POLICY, ordered, shipped, spread, tail_floor
from training.release.publish import GOLDEN_ROWS, Material, code_revision, publish
from training.search.found import Found
from training.searched import SURFACES, by_surface, export_rankers, search, taken
from training.select import Terms, winner
from training.stage import CORE, ROOT, Staged, source_files, stage
from training.tables.duck import connect, views
from training.tables.tokens import tokenizer_file

SERVING_WEEK = 53  # the last test week: the platform is shown as it stood when that week began
PARITY_ROWS = 2000  # of each surface: what a served form is compared on with the form that was trained
_POPULARITY, _REPEAT = MODEL_COLUMNS.index("promo_rate_28d"), MODEL_COLUMNS.index("repeat_share")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What searches search and releases are made of.

    Attributes:
        source: canonical tables.
        frames: lists with features and texts.
        text: the BERT ranker.
        scored: per surface, rows and lists with the text members' scores (``SURFACE.npz``), test lists, and texts for rankers
            (``SURFACE_texts.npz``).
    """

    source: Staged
    frames: Staged
    text: Staged
    scored: Staged


@dataclass(frozen=True, slots=True)
class Result:
    """What a run leaves behind."""

    release: Release
    reused: bool  # the release was there already
    requests: Path  # sample requests as JSON


def run(layout: Layout, profile: Profile, *, ungated: bool = False, searches: Mapping[Surface, Path] | None = None) -> Result:
    """Run what is not there yet and return the release.

    Args:
        layout: the state directory.
        profile: how much of everything.
        ungated: publish a release even where the calibration gate refuses it; the manifest says so.
        searches: surface -> folder of a finished search (`python -m training.search`) that is taken in place of the pipeline's own.

    Raises:
        FileNotFoundError, ValueError: such a folder holds no finished search, or one of other data.
        CalibrationRefused: the probabilities do not mean what they say on the validation lists.
        NoWinner: no trial of a search keeps what a release promises.
    """
    made = prepare(layout, profile)
    found = {}
    for s in SURFACES:
        given, scored = (searches or {}).get(s), made.scored
        found[s] = _say(f"search {s.value}", search(layout, scored, s, profile) if given is None else taken(layout, scored, s, given))
    released = _say("release", _release(layout, made, found, profile, ungated=ungated))
    release = Release.from_json(json.loads((layout.releases / _published(released.path) / MANIFEST).read_text()))
    return Result(release, released.reused, made.frames.path / "requests.json")


def prepare(layout: Layout, profile: Profile) -> Prepared:
    """Everything before the searches, as far as it is not there yet."""
    source = _say("data", sources.prepare(layout))
    features = _say("feature tables", tables.compute(layout, source))
    as_of = _as_of(source.path)
    write_json(layout.serving, {"as_of": as_of.isoformat()})
    _say("Feast: apply and materialise", _feast(layout, features, as_of))
    frames = _say("lists and training frames", _frames(layout, source, features, profile))
    text = _say("BERT ranker", _text_ranker(layout, frames, profile))
    return Prepared(source, frames, text, _say("BERT scores", _scores(layout, frames, text, profile)))


def _feast(layout: Layout, features: Staged, as_of: datetime) -> Staged:
    registry = layout.feast / "registry.db"

    def build(out: Path) -> None:
        online.bring(layout, as_of)
        (out / "registry.sha256").write_text(hashlib.sha256(registry.read_bytes()).hexdigest())

    target = layout.training / "feast"
    if not registry.exists():
        shutil.rmtree(target, ignore_errors=True)  # the stores were deleted: the stamp says nothing any more
    code = [dataset.REPO / "definitions.py", dataset.REPO / "feature_store.yaml"]
    return stage(target, {"features": features.key, "as_of": as_of.isoformat()}, build, code=code)


def _frames(layout: Layout, source: Staged, features: Staged, profile: Profile) -> Staged:
    from training.lists import frames

    def build(out: Path) -> None:
        made = frames.build(layout, source.path, profile)
        pairs = frames.text_pairs(made, profile.bert_pairs, profile.seed)
        with (out / "frames.pickle").open("wb") as file:  # our own arrays, read back by the next stage of the same checkout only
            pickle.dump({"frames": made, "pairs": pairs}, file, protocol=5)
        write_json(out / "requests.json", [r.to_json() for r in _sample_requests(made, source.path)])

    sizes = {k: v for k, v in profile.key().items() if k not in ("name", "bert_epochs", "trials", "trial_rounds", "bootstrap")}
    code = source_files("training/lists", "training/dataset.py")
    inputs = {"source": source.key, "features": features.key, "profile": sizes}
    return stage(layout.training / "frames", inputs, build, code=[*code, *CORE])


def _text_ranker(layout: Layout, frames: Staged, profile: Profile) -> Staged:
    def build(out: Path) -> None:
        from training.members import bert
        from training.release import precision

        special = bert.special_tokens(_tokenizer())
        pairs = _load_frames(frames)["pairs"]
        model = bert.fine_tune(pairs, special, out / "trainer", epochs=profile.bert_epochs, seed=profile.seed)
        frame = _load_frames(frames)["frames"][Surface.SEARCH, "valid"]
        with Bar("export BERT in every precision", 1) as bar:
            a, seed = frame.assembled, profile.seed
            real = precision.sample(frame.first_tokens, frame.lists.offsets, a.token_ids, a.text_digests, special, seed)
            precision.export_all(model, out, real)
            bar.advance()

    inputs = {"frames": frames.key, "epochs": profile.bert_epochs, "seed": profile.seed}
    code = source_files("training/members/bert.py", "training/bert/encoder.py", "training/bert/segments.py")
    code += source_files("training/release/precision.py", "training/bert/variants.py", "ranking/variants.py")
    return stage(layout.training / "bert", inputs, build, code=[*code, *CORE])


def _scores(layout: Layout, frames: Staged, text: Staged, profile: Profile) -> Staged:
    """Validation and test lists with the scores of the members that read texts, and the rows the searches share."""

    def build(out: Path) -> None:
        from training.lists.ranker_texts import text_data
        from training.members import bert, bi_encoder, bm25
        from training.search.texts import save_texts

        loaded = _load_frames(frames)["frames"]
        special = bert.special_tokens(_tokenizer())
        vectors, items = bi_encoder.Vectors(special), next(iter(loaded.values())).assembled.items  # one catalogue for all lists
        corpus = bm25.Corpus.of(items.token_ids[np.unique(items.text_digests, return_index=True)[1]])
        measured = {key: f for key, f in loaded.items() if key[1] != "train"}
        with Bar("texts of validation and test lists scored", sum(len(f.lists) for f in measured.values())) as bar:
            evals = {}
            for key, f in measured.items():
                a = f.assembled
                texts = f.first_tokens, f.lists.offsets, a.token_ids, a.text_digests
                given = {
                    "bert": bert.score(text.path / "model.onnx", *texts, special, progress=bar.advance),
                    "bm25": bm25.score(corpus, *texts),
                    "bi_encoder": bi_encoder.score(vectors, *texts),
                }
                evals[key] = f.eval_lists(given)
        for surface in SURFACES:
            valid, users = evals[surface, "valid"], loaded[surface, "valid"].lists.user_ids
            side = np.array([stable_key(u) & 1 for u in users])  # one household's lists stay on one side
            rows = loaded[surface, "train"].train_rows(_negatives_rate(surface, loaded), profile.strangers, profile.seed)
            data = EnsembleData(rows, valid.lists(np.flatnonzero(side == 0)), valid.lists(np.flatnonzero(side == 1)))
            save_ensemble_data(out / f"{surface.value}.npz", data)
            save_lists(out / f"{surface.value}_test.npz", evals[surface, "test"])
            save_texts(out / f"{surface.value}_texts.npz", text_data(loaded, surface, profile.bert_pairs, profile.seed))

    code = source_files("training/search/texts.py", *(f"training/lists/{n}.py" for n in ("arrays", "strangers", "ranker_texts")))
    code += source_files(*(f"training/members/{n}.py" for n in ("bert", "bm25", "bi_encoder")))
    return stage(layout.training / "scores", {"frames": frames.key, "bert": text.key}, build, code=code)


def _release(layout: Layout, made: Prepared, found: Mapping[Surface, Staged], profile: Profile, *, ungated: bool) -> Staged:
    text, scored = made.text, made.scored

    def build(out: Path) -> None:
        from training.members import bert
        from training.release import precision

        loaded = _load_frames(made.frames)["frames"]
        special = bert.special_tokens(_tokenizer())
        searches = {s: Found.from_json(json.loads((f.path / "result.json").read_text())) for s, f in found.items()}
        ensembles, rows, spreads, floors = {}, {}, {}, {}
        table: dict[str, Any] = {"validation": {}, "test": {}, "winner": {}}
        with Bar("train the winners, measure, publish", 2 * len(SURFACES) + 1) as bar:
            for surface in SURFACES:
                data = searches[surface].data(load_ensemble_data(scored.path / f"{surface.value}.npz"))
                won = winner(surface.value, searches[surface].trials, data, profile.seed, _terms(profile), ungated=ungated)
                fitted, table["winner"][surface.value] = won.fitted, won.to_json()
                if "floor" in won.config:
                    floors[surface] = tail_floor(float(won.config["floor"]), surface)
                table["validation"][surface.value] = _measure(fitted, data.select, profile, floors.get(surface))
                ensembles[surface], rows[surface] = fitted, data.select.features[:PARITY_ROWS]
                spreads[surface] = spread(surface, fitted.blend(data.select).probabilities, data.select)
                bar.advance()
            table["gate"] = gated(table["validation"], ungated=ungated)
            for surface, fitted in ensembles.items():
                test = searches[surface].lists(load_lists(scored.path / f"{surface.value}_test.npz"), "test")  # read once, for this report
                table["test"][surface.value] = _measure(fitted, test, profile, floors.get(surface))
                bar.advance()
            rankers = {
                s: export_rankers(searches[s], fitted, loaded[s, "valid"], special, profile.seed, out / "rankers")
                for s, fitted in ensembles.items()
            }
            sample = loaded[Surface.SEARCH, "valid"]
            tokens = sample.assembled.token_ids[:GOLDEN_ROWS]
            release = publish(
                layout.releases,
                Material(
                    ensembles=ensembles,
                    sample_rows=rows,
                    text_model=precision.read(text.path),
                    sample_pairs=pair_tensors(sample.first_tokens[0], tokens, special),
                    tokenizer=tokenizer_file(),
                    special=special,
                    lineage=_lineage(layout, made.source, found, profile),
                    metrics=table,
                    policies=(*shipped(spreads), *floors.values()),
                    active={surface: policy.name for surface, policy in floors.items()},
                    rankers=rankers,
                ),
            )
            bar.advance()
        write_json(out / "published.json", {"id": release.id})

    inputs = {"bert": text.key, "scores": scored.key, "bootstrap": profile.bootstrap, **{s.value: f.key for s, f in found.items()}}
    inputs |= {"ungated": True} if ungated else {}  # without the option it is made again, and judged
    code = source_files("training/release", "training/select.py", "training/searched.py", "ranking")
    target = layout.training / "release"
    if (target / "published.json").exists() and not (layout.releases / _published(target) / MANIFEST).exists():
        shutil.rmtree(target)  # the release itself was deleted: publish again
    return stage(target, inputs, build, code=code)


def _terms(profile: Profile) -> Terms:
    return Terms(next(p for p in shipped({}) if p.name == ACTIVE_POLICY), draws=profile.bootstrap)


def _measure(fitted: Fitted, lists: EvalLists, profile: Profile, served: FairnessPolicy | None) -> dict[str, Any]:
    """The members and the blend beside the rules they must beat, all ordered by probability.

    ADS too: the data have no bids, so what is measured is who is likely to buy, not the order that bids would make of it.
    """
    blended = fitted.blend(lists)
    active = served or _terms(profile).policy
    rng = np.random.default_rng(profile.seed)
    popularity = lists.features[:, _POPULARITY].astype(np.float64)
    scores = {
        "shuffle": rng.random(len(popularity)),
        "popularity rule": popularity,
        "repeat rule": lists.features[:, _REPEAT] + 1e-3 * popularity,
        **{name: np.nan_to_num(p, nan=-1.0) for name, p in zip(fitted.spec.members, blended.member_probabilities, strict=True)},
        "blend": blended.probabilities,
        "blend + floor": ordered(active, blended.probabilities, lists.offsets, {"popularity_tier": lists.tiers}, 10),
    }
    trained = [name for name in fitted.spec.members if name in fitted.scorers]
    calibrated = frozenset({*trained, "blend"})
    repeat = lists.features[:, _REPEAT] > 0
    table = evaluate(scores, lists, probabilities=calibrated, seed=profile.seed, n=profile.bootstrap, repeat=repeat)
    for rival in (*trained[:1], "repeat rule"):
        key = f"ndcg10_minus_{rival.replace(' ', '_')}"
        table["blend"]["all"][key] = versus(scores["blend"], scores[rival], lists, seed=profile.seed, n=profile.bootstrap)
    return table


def _negatives_rate(surface: Surface, loaded: Mapping[Any, Any]) -> float:
    """Share of the negatives that the surface's training rows kept."""
    if surface == Surface.SEARCH:
        return 1.0
    weights = loaded[surface, "train"].lists.weights
    return float(1.0 / weights.max())


def _sample_requests(loaded: Mapping[Any, Any], canonical: Path) -> list[Any]:
    """Lists of the serving week in which something among the candidates was bought, most of it first."""
    with connect(canonical) as db:
        views(db, canonical, "items")
        titles = dict(db.execute("SELECT item_id, title FROM items").fetchall())
    out = []
    for surface in SURFACES:
        frame = loaded[surface, "test"]
        bought = np.diff(np.concatenate([[0], np.cumsum(frame.lists.labels)])[frame.lists.offsets])
        of_week = np.flatnonzero((frame.lists.weeks == SERVING_WEEK) & (bought > 0))
        out += from_frame(frame, of_week[np.argsort(-bought[of_week], kind="stable")][:8].tolist(), titles)
    return out


def _as_of(canonical: Path) -> datetime:
    with connect(canonical) as db:
        views(db, canonical, "weeks")
        row = db.execute("SELECT start_time FROM weeks WHERE week = ?", [SERVING_WEEK]).fetchone()
    assert row is not None  # every source that this pipeline serves has the week
    return row[0].astimezone(UTC)  # type: ignore[no-any-return]


def _lineage(layout: Layout, source: Staged, found: Mapping[Surface, Staged], profile: Profile) -> dict[str, str]:
    results = {s: json.loads((f.path / "result.json").read_text()) for s, f in found.items()}
    return {
        "code_revision": code_revision(ROOT),
        "profile": profile.name,
        "data_digest": source.key,
        "feast_registry_digest": (layout.training / "feast" / "registry.sha256").read_text(),
        "search_experiment": ", ".join(r["name"] for r in results.values()),
        "search_trial": ", ".join(r["best_trial"] for r in results.values()),
    }


def _published(stage_path: Path) -> str:
    return str(json.loads((stage_path / "published.json").read_text())["id"])


def _load_frames(frames: Staged) -> dict[str, Any]:
    with (frames.path / "frames.pickle").open("rb") as file:
        return pickle.load(file)  # type: ignore[no-any-return]  # noqa: S301 (written by the stage before, in our own state directory)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(tokenizer_file()))


def _say(what: str, made: Staged) -> Staged:
    console.print(f"[bold]{what}[/]: {'reused' if made.reused else 'made'} {made.path}")
    return made


def main(argv: list[str] | None = None) -> None:
    """Entry point of `python -m training.pipeline`."""
    parser = argparse.ArgumentParser(prog="python -m training.pipeline", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="demo")
    parser.add_argument("--ungated", action="store_true", help="publish even what the calibration gate refuses")
    parser.add_argument("--search", nargs="+", default=[], metavar="SURFACE=FOLDER", help="a finished search in place of an own one")
    args = parser.parse_args(argv)
    layout = Layout(Path(os.environ.get("LONGTAIL_HOME", ".longtail")).resolve())
    try:
        searches = by_surface(args.search)
    except ValueError as error:
        parser.error(str(error))
    result = run(layout, PROFILES[args.profile], ungated=args.ungated, searches=searches)
    print(json.dumps({"release": result.release.id, "reused": result.reused}))


if __name__ == "__main__":
    from training.pipeline import main as run_main  # through the importable module: what is pickled here is read back elsewhere

    run_main()

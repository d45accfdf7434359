"""The pipeline's searches, a stage per surface: its own, or one that ran elsewhere; and the rankers that a winner takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ranking.layout import Layout
from ranking.text import SpecialTokens
from ranking.types import Surface
from training.artefacts import load_ensemble_data, write_json
from training.blends.ensemble import Fitted
from training.members.registry import RANKER
from training.profile import Profile
from training.search import found
from training.search.found import Found
from training.stage import Staged, key_of, source_files, stage

if TYPE_CHECKING:
    from training.lists.frames import Frame
    from training.release.precision import Precision

SURFACES = (Surface.ADS, Surface.SEARCH)


def search(layout: Layout, scored: Staged, surface: Surface, profile: Profile) -> Staged:
    """The pipeline's own search of a surface."""
    inputs = {"scores": scored.key, "trials": profile.trials, "rounds": profile.trial_rounds, "seed": profile.seed}
    code = source_files("training/search", "training/blends", "training/members", "training/imbalance")
    code += source_files("ranking/blend.py", "ranking/calibrate.py", "ranking/fuse.py", "ranking/metrics")
    name = f"{surface.value}-{key_of(inputs, code)[:8]}"

    def build(out: Path) -> None:
        from training.search import ensemble

        data = load_ensemble_data(scored.path / f"{surface.value}.npz")
        best = ensemble.run(data, name=name, storage=layout.search, trials=profile.trials, rounds=profile.trial_rounds, seed=profile.seed)
        write_json(out / "result.json", best.to_json())

    return stage(layout.training / f"search_{surface.value}", inputs, build, code=code)


def taken(layout: Layout, scored: Staged, surface: Surface, path: Path) -> Staged:
    """A search that ran elsewhere, of the data that lie here."""

    def build(out: Path) -> None:
        searched = found.at(path)
        found.check_data(path, searched, load_ensemble_data(scored.path / f"{surface.value}.npz"))
        write_json(out / "result.json", searched.to_json())

    inputs = {"scores": scored.key, "search": found.identity(path)}
    return stage(layout.training / f"search_{surface.value}", inputs, build, code=source_files("training/search/found.py"))


def export_rankers(
    searched: Found, fitted: Fitted, frame: Frame, special: SpecialTokens, seed: int, out: Path
) -> dict[str, Sequence[Precision]]:
    """The rankers that a winner counts, exported in every precision.

    Args:
        searched: where they were found.
        fitted: the winner.
        frame: lists whose pairs the precisions are compared on.
        special: framing ids.
        seed: of the draw of pairs.
        out: a folder for the files.

    Returns:
        Member -> its forms, fp32 first.
    """
    from training.bert import encoder
    from training.release import precision

    forms: dict[str, Sequence[Precision]] = {}
    a = frame.assembled
    for name in fitted.counting():
        if name.startswith(RANKER):
            model = found.model_of(searched.rankers[name.removeprefix(RANKER)], encoder.load, special.sep)
            real = precision.sample(frame.first_tokens, frame.lists.offsets, a.token_ids, a.text_digests, special, seed)
            folder = out / f"{name}_{frame.lists.surface.value}"
            folder.mkdir(parents=True)
            forms[name] = precision.export_all(model, folder, real)
    return forms


def by_surface(words: Sequence[str]) -> dict[Surface, Path]:
    """``search=FOLDER`` words by surface.

    Raises:
        ValueError: a word that is none.
    """
    found = {}
    for word in words:
        surface, _, folder = word.partition("=")
        if surface not in SURFACES or not folder:
            raise ValueError(f"search: need SURFACE=FOLDER with a surface among {', '.join(SURFACES)}, got {word!r}")
        found[Surface(surface)] = Path(folder)
    return found

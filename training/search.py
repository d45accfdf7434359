"""Ray Tune over members, resampling, losses and blending, all by name: `python -m training.search --help`.

The only module that knows Ray. What a trial computes is `training.blends.ensemble.objective`; the arrays every trial reads lie once
in Ray's object store.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # read when Ray is imported: its banners would stand between our lines

import ray
from ray import tune

from ranking.fuse import FUSIONS
from ranking.types import TIERS
from training.artefacts import digest, load_ensemble_data, write_json
from training.blends.calibrators import CALIBRATORS
from training.blends.ensemble import DEFAULT, TREES_ALONE, EnsembleData, member_names, objective
from training.blends.weighing import BLENDS
from training.imbalance.resample import QUICK, RESAMPLERS
from training.members.registry import GIVEN, MEMBERS
from training.progress import Bar

METRIC = "ndcg10"
SEARCHERS = ("bayesian", "random", "grid")
ALIKE = 0.005  # of NDCG@10: a hundred lists do not tell more apart, but they do tell a calibrator that fits what it saw by heart
CALIBRATED = (0.7, 1.4)  # predicted over actual a winner must lie in, on the selection lists


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes:
        name: experiment name.
        best: the winning configuration.
        best_trial: its trial id.
        trials: one row per trial: config, metrics or error.
    """

    name: str
    best: dict[str, Any]
    best_trial: str
    trials: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a search may choose among, by name. The defaults take seconds a trial.

    Attributes:
        members: ensembles, each the names of its members joined by "+".
        blends: of `training.blends.weighing.BLENDS`, or of `ranking.fuse.FUSIONS` for comparison.
        resamplers: of `training.imbalance.resample.RESAMPLERS`.
        calibrators: of `training.blends.calibrators.CALIBRATORS`.
        losses: of the member `neural`, of `training.imbalance.losses.LOSSES`.
        optimisers: of the member `neural`, of `training.imbalance.optimisers.OPTIMISERS`.
    """

    members: tuple[str, ...] = (str(DEFAULT["members"]),)
    blends: tuple[str, ...] = (str(DEFAULT["blend"]),)
    resamplers: tuple[str, ...] = QUICK
    calibrators: tuple[str, ...] = tuple(CALIBRATORS)
    losses: tuple[str, ...] = ("bce",)
    optimisers: tuple[str, ...] = ("adamw",)

    def __post_init__(self) -> None:
        for key, known in _known().items():
            chosen = getattr(self, key)
            if not chosen:
                raise ValueError(f"{key}: need at least one")
            for name in chosen:
                if name not in known:
                    raise ValueError(f"{key}: {name!r} is not known; known: {', '.join(known)}")
        for ensemble in self.members:
            member_names({"members": ensemble})

    def space(self, negatives_rate: float, rounds: int) -> dict[str, Any]:
        """The search space; negatives are only ever thinned further than the training rows already are."""
        return {
            "members": tune.choice(list(self.members)),
            "blend": tune.choice(list(self.blends)),
            "resampler": tune.choice(list(self.resamplers)),
            "strength": tune.loguniform(0.05, 0.5),
            "negatives_rate": tune.choice([negatives_rate / 3, negatives_rate]),
            "learning_rate": tune.loguniform(0.03, 0.1),
            "leaves": tune.choice([15, 31, 63]),
            "rounds": rounds,
            "calibrator": tune.choice(list(self.calibrators)),
            **self._numbers_of_blends(),
            **self._options(lambda names: tune.choice(list(names))),
        }

    def grid(self, negatives_rate: float, rounds: int) -> dict[str, Any]:
        """Every combination of the names; numbers stay as in `DEFAULT`, the weights of `weighted` equal."""
        return {
            **DEFAULT,
            "members": tune.grid_search(list(self.members)),
            "blend": tune.grid_search(list(self.blends)),
            "resampler": tune.grid_search(list(self.resamplers)),
            "calibrator": tune.grid_search(list(self.calibrators)),
            "negatives_rate": negatives_rate,
            "rounds": rounds,
            **({"weights": dict.fromkeys(self._every_member(), 1.0)} if "weighted" in self.blends else {}),
            **self._options(lambda names: tune.grid_search(list(names))),
        }

    def combinations(self) -> int:
        """Trials of the grid."""
        neural = len(self.losses) * len(self.optimisers) if "neural" in self._every_member() else 1
        return len(self.members) * len(self.blends) * len(self.resamplers) * len(self.calibrators) * neural

    def _every_member(self) -> list[str]:
        return sorted({name for ensemble in self.members for name in ensemble.split("+")})

    def _numbers_of_blends(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        if "per_tier" in self.blends:
            numbers |= {f"text_weight_{tier}": tune.uniform(0.0, most) for tier, most in zip(TIERS, (0.5, 0.7, 0.9), strict=True)}
        if "weighted" in self.blends:
            numbers["weights"] = {name: tune.uniform(0.05, 1.0) for name in self._every_member()}
        return numbers

    def _options(self, among: Callable[[tuple[str, ...]], Any]) -> dict[str, Any]:
        if "neural" not in self._every_member():
            return {}
        return {"options": {"neural": {"loss": among(self.losses), "optimiser": among(self.optimisers)}}}


def _known() -> dict[str, tuple[str, ...]]:
    from training.imbalance.losses import LOSSES  # these bring torch, which a trial without a network does not need
    from training.imbalance.optimisers import OPTIMISERS

    return {
        "blends": (*BLENDS, *FUSIONS),
        "resamplers": RESAMPLERS,
        "calibrators": tuple(CALIBRATORS),
        "losses": tuple(LOSSES),
        "optimisers": OPTIMISERS,
    }


def run(
    data: EnsembleData,
    *,
    name: str,
    storage: Path,
    trials: int,
    rounds: int,
    seed: int,
    searcher: str = "bayesian",
    choices: Choices | None = None,
    cpus: int | None = None,
    first: Sequence[Mapping[str, Any]] = (DEFAULT, TREES_ALONE),
) -> SearchResult:
    """Search, or go on with an interrupted search of the same name, which must have asked the same.

    Args:
        data: the surface's rows and lists.
        name: experiment name, unique in `storage`; an unfinished one is resumed, a finished one is only read.
        storage: Ray Tune's storage path.
        trials: number of configurations, those of `first` included; for a grid the most there may be.
        rounds: boosting rounds per trial.
        seed: of the searcher and of every trial.
        searcher: `bayesian` (Optuna's TPE), `random`, or `grid`: every combination of the names, once.
        choices: what to choose among; default: what takes seconds a trial.
        cpus: CPUs for trials, one each; default: the host's. An address in RAY_ADDRESS is used as it is.
        first: configurations of the first trials, so that the winner is at least as good as what needs no search; those outside the
            choices are left out.

    Raises:
        RuntimeError: every trial failed, or the search was stopped.
        ValueError: fewer than one trial or round, a name that is no folder's, an unknown searcher, a grid of more combinations than
            `trials`, or a name that stands for another search.
    """
    global _bar
    choices = choices or Choices()
    if searcher not in SEARCHERS:
        raise ValueError(f"searcher: {searcher!r} is not known; known: {', '.join(SEARCHERS)}")
    grid = searcher == "grid"
    for key, value in (("trials", trials), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"{key}: must be at least 1, got {value}")
    if name in ("", "..") or Path(name).name != name:
        raise ValueError(f"name: must be a folder's name, got {name!r}")
    if grid and choices.combinations() > trials:
        raise ValueError(f"trials: the grid has {choices.combinations()} combinations, more than {trials}; name fewer or allow more trials")
    count = choices.combinations() if grid else trials
    asked = {"searcher": searcher, "trials": trials, "rounds": rounds, "seed": seed, **asdict(choices)}
    _claim(storage / name, asked | {"first": list(first), "data": digest(data)})
    with warnings.catch_warnings(), _connected(cpus):
        warnings.simplefilter("ignore")
        trainable = tune.with_resources(tune.with_parameters(_trial, data=data, seed=seed), {"cpu": 1})
        parameters = (choices.grid if grid else choices.space)(data.train.negatives_rate, rounds)
        path = str(storage / name)
        with Bar(f"Ray Tune: {name}", count) as _bar:
            run_config = tune.RunConfig(name=name, storage_path=str(storage), verbose=0, callbacks=[_Progress()])
            if _resumable(storage / name):
                tuner = tune.Tuner.restore(path, trainable, param_space=parameters)
            else:
                known = [{**config, "rounds": rounds, "negatives_rate": data.train.negatives_rate} for config in first]
                algorithm = _searcher(searcher, seed, [point for config in known if (point := _within(config, parameters))])
                tuner = tune.Tuner(
                    trainable,
                    param_space=parameters,
                    tune_config=tune.TuneConfig(metric=METRIC, mode="max", num_samples=1 if grid else trials, search_alg=algorithm),
                    run_config=run_config,
                )
            results = tuner.fit()
        rows = [_row(r) for r in results]
    done = sum(METRIC in (r.metrics or {}) or r.error is not None for r in results)
    if done < count:
        raise RuntimeError(f"{name}: stopped after {done} of {count} trials; the same command goes on")
    return _choose(name, rows)


def _resumable(path: Path) -> bool:
    """Whether there is something to go on from. Ray's own `can_restore` looks for the file that stands there before any trial does."""
    return (path / "tuner.pkl").exists() and any(path.glob("experiment_state-*.json"))


def _claim(path: Path, asked: Mapping[str, Any]) -> None:
    """Write down what the search of this name asks. Another question under the name would be answered with the old one's winner."""
    file, asked = path / "asked.json", json.loads(json.dumps(asked))
    if not _resumable(path) and path.exists():
        if any(path.iterdir()) and not file.exists() and not (path / "tuner.pkl").exists():
            raise ValueError(f"name: {path} is there and holds no search; choose another name")
        shutil.rmtree(path)  # a search that was stopped before its first trial stands for nothing
    if not file.exists():
        write_json(file, asked)
        return
    before = json.loads(file.read_text())
    other = [f"{key} was {before.get(key)!r} and is {value!r}" for key, value in asked.items() if before.get(key) != value]
    if other:
        raise ValueError(f"name: {path.name!r} is another search in {path.parent}: {'; '.join(other)}. Choose another name")


_bar: Bar | None = None


class _Progress(tune.Callback):
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _bar is not None:
            _bar.advance(1)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _bar is not None:
            _bar.advance(1)


def _trial(config: dict[str, Any], data: EnsembleData, seed: int) -> dict[str, float]:
    return objective(config, data, seed, threads=1)


@contextlib.contextmanager
def _connected(cpus: int | None) -> Iterator[None]:
    """A Ray session: the caller's, the cluster's at RAY_ADDRESS, or a local one that ends with the block."""
    ours = not ray.is_initialized()
    if ours and "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    elif ours:
        ray.init(num_cpus=cpus or os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _within(config: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the space knows of a configuration; nothing where it has a name that is no choice."""
    point = {key: value for key, value in config.items() if key in parameters}
    for key, value in point.items():
        among = getattr(parameters[key], "categories", None)
        if among is not None and value not in among:
            return {}
    return point


def _searcher(name: str, seed: int, first: list[dict[str, Any]]) -> Any:
    if name == "grid":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        return BasicVariantGenerator(constant_grid_search=True, random_state=seed)
    if name == "random":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        return BasicVariantGenerator(points_to_evaluate=first, random_state=seed)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    searched = [{k: v for k, v in config.items() if k != "rounds"} for config in first]  # a constant is no parameter to Optuna
    return OptunaSearch(points_to_evaluate=searched, seed=seed, metric=METRIC, mode="max")


def _row(result: Any) -> dict[str, Any]:
    metrics = result.metrics or {}
    measured = {k: metrics[k] for k in (METRIC, "ne", "predicted_over_actual", "tail_share10", "time_total_s") if k in metrics}
    return {
        "trial": metrics.get("trial_id", Path(result.path).name),
        "config": dict(result.config or {}),
        "metrics": {k: v for k, v in measured.items() if not math.isnan(v)},  # a fusion has no NE: NaN would be no JSON
        "error": str(result.error) if result.error else "",
    }


def _choose(name: str, rows: list[dict[str, Any]]) -> SearchResult:
    """The least normalised entropy of the calibrated trials that order about as well as their best; where none is calibrated, of all.

    A fusion has no probabilities and never wins.
    """
    finished = [r for r in rows if METRIC in r["metrics"] and r["config"].get("blend") not in FUSIONS]
    if not finished:
        first = next((r["error"] for r in rows if r["error"]), "none of them gives probabilities" if rows else "no trial")
        raise RuntimeError(f"{name}: all {len(rows)} trials failed, the first with: {first}")
    low, high = CALIBRATED
    calibrated = [r for r in finished if low <= r["metrics"]["predicted_over_actual"] <= high]
    most = max(r["metrics"][METRIC] for r in calibrated or finished)
    alike = [r for r in calibrated or finished if r["metrics"][METRIC] >= most - ALIKE]
    best = min(alike, key=lambda r: (r["metrics"].get("ne", math.inf), -r["metrics"][METRIC]))
    ranked = sorted(rows, key=lambda r: -r["metrics"].get(METRIC, -1.0))
    return SearchResult(name, best["config"], best["trial"], ranked)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `python -m training.search`."""
    parser = argparse.ArgumentParser(prog="python -m training.search", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="rows and lists of one surface, as the pipeline writes them (.npz)")
    parser.add_argument("--name", required=True, help="experiment name; an unfinished one is resumed")
    parser.add_argument("--storage", type=Path, required=True, help="Ray Tune's storage path")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200, help="boosting rounds per trial")
    parser.add_argument("--searcher", choices=SEARCHERS, default="bayesian")
    parser.add_argument("--seed", type=int, default=0)
    chosen, known = {f.name: f.default for f in fields(Choices)}, _known()
    for key, default in chosen.items():
        among = f"among {', '.join(known[key])}" if key in known else f"ensembles of {', '.join((*MEMBERS, *GIVEN))}, joined by +"
        parser.add_argument(f"--{key}", nargs="+", default=default, metavar="NAME", help=f"{among} (default: {' '.join(default)})")
    args = parser.parse_args(argv)
    try:
        choices = Choices(**{key: tuple(getattr(args, key)) for key in chosen})
        result = run(
            load_ensemble_data(args.data),
            name=args.name,
            storage=args.storage.resolve(),
            trials=args.trials,
            rounds=args.rounds,
            seed=args.seed,
            searcher=args.searcher,
            choices=choices,
        )
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    except RuntimeError as error:
        parser.exit(1, f"{error}\n")
    write_json(args.storage / args.name / "result.json", {"best": result.best, "best_trial": result.best_trial, "trials": result.trials})
    print(json.dumps({"name": result.name, "best_trial": result.best_trial, "best": result.best, "trials": len(result.trials)}))


if __name__ == "__main__":
    # Through the importable module: what Ray pickles from __main__ it pickles by value, locks and all.
    from training.search import main as run_main

    run_main()

"""Ray Tune over resampling and blending: `python -m training.search --help`.

The only module that knows Ray. What a trial computes is `training.blends.ensemble.objective`; the arrays every trial reads lie once
in Ray's object store.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # read when Ray is imported: its banners would stand between our lines

import ray
from ray import tune

from training.artefacts import load_ensemble_data, write_json
from training.blends.calibrators import CALIBRATORS
from training.blends.ensemble import DEFAULT, TREES_ALONE, EnsembleData, objective
from training.imbalance.resample import QUICK
from training.progress import Bar

METRIC = "ndcg10"
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


def space(negatives_rate: float, rounds: int) -> dict[str, Any]:
    """The search space; negatives are only ever thinned further than the training rows already are."""
    return {
        "resampler": tune.choice(list(QUICK)),
        "strength": tune.loguniform(0.05, 0.5),
        "negatives_rate": tune.choice([negatives_rate / 3, negatives_rate]),
        "learning_rate": tune.loguniform(0.03, 0.1),
        "leaves": tune.choice([15, 31, 63]),
        "rounds": rounds,
        "calibrator": tune.choice(list(CALIBRATORS)),
        "text_weight_head": tune.uniform(0.0, 0.5),
        "text_weight_tail": tune.uniform(0.0, 0.7),
        "text_weight_new": tune.uniform(0.0, 0.9),
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
    cpus: int | None = None,
    first: Sequence[Mapping[str, Any]] = (DEFAULT, TREES_ALONE),
) -> SearchResult:
    """Search, or go on with an interrupted search of the same name.

    Args:
        data: the surface's rows and lists.
        name: experiment name, unique in `storage`; an unfinished one is resumed, a finished one is only read.
        storage: Ray Tune's storage path.
        trials: number of configurations, the default one included.
        rounds: boosting rounds per trial.
        seed: of the searcher and of every trial.
        searcher: `bayesian` (Optuna's TPE) or `random`.
        cpus: CPUs for trials, one each; default: the host's. An address in RAY_ADDRESS is used as it is.
        first: configurations of the first trials, so that the winner is at least as good as what needs no search.

    Raises:
        RuntimeError: every trial failed.
    """
    global _bar
    with warnings.catch_warnings(), _connected(cpus):
        warnings.simplefilter("ignore")
        storage.mkdir(parents=True, exist_ok=True)
        trainable = tune.with_resources(tune.with_parameters(_trial, data=data, seed=seed), {"cpu": 1})
        parameters = space(data.train.negatives_rate, rounds)
        path = str(storage / name)
        with Bar(f"Ray Tune: {name}", trials) as _bar:
            run_config = tune.RunConfig(name=name, storage_path=str(storage), verbose=0, callbacks=[_Progress()])
            if tune.Tuner.can_restore(path):
                tuner = tune.Tuner.restore(path, trainable, param_space=parameters)
            else:
                known = [{**config, "rounds": rounds, "negatives_rate": data.train.negatives_rate} for config in first]
                tuner = tune.Tuner(
                    trainable,
                    param_space=parameters,
                    tune_config=tune.TuneConfig(metric=METRIC, mode="max", num_samples=trials, search_alg=_searcher(searcher, seed, known)),
                    run_config=run_config,
                )
            results = tuner.fit()
        rows = [_row(r) for r in results]
    return _choose(name, rows)


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


def _searcher(name: str, seed: int, first: list[dict[str, Any]]) -> Any:
    if name == "random":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        return BasicVariantGenerator(points_to_evaluate=first, random_state=seed)
    if name == "bayesian":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        searched = [{k: v for k, v in config.items() if k != "rounds"} for config in first]  # a constant is no parameter to Optuna
        return OptunaSearch(points_to_evaluate=searched, seed=seed, metric=METRIC, mode="max")
    raise ValueError(f"searcher: {name!r} is not known; known: bayesian, random")


def _row(result: Any) -> dict[str, Any]:
    metrics = result.metrics or {}
    numbers = {k: metrics[k] for k in (METRIC, "ne", "predicted_over_actual", "tail_share10", "time_total_s") if k in metrics}
    return {
        "trial": metrics.get("trial_id", Path(result.path).name),
        "config": dict(result.config or {}),
        "metrics": numbers,
        "error": str(result.error) if result.error else "",
    }


def _choose(name: str, rows: list[dict[str, Any]]) -> SearchResult:
    """Best NDCG@10 among the calibrated; where none is calibrated, best NDCG@10."""
    finished = [r for r in rows if METRIC in r["metrics"]]
    if not finished:
        raise RuntimeError(f"{name}: all {len(rows)} trials failed, the first with: {rows[0]['error'] if rows else 'no trial'}")
    low, high = CALIBRATED
    calibrated = [r for r in finished if low <= r["metrics"]["predicted_over_actual"] <= high]
    best = max(calibrated or finished, key=lambda r: r["metrics"][METRIC])
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
    parser.add_argument("--searcher", choices=["bayesian", "random"], default="bayesian")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    result = run(
        load_ensemble_data(args.data),
        name=args.name,
        storage=args.storage.resolve(),
        trials=args.trials,
        rounds=args.rounds,
        seed=args.seed,
        searcher=args.searcher,
    )
    write_json(args.storage / args.name / "result.json", {"best": result.best, "best_trial": result.best_trial, "trials": result.trials})
    print(json.dumps({"name": result.name, "best_trial": result.best_trial, "best": result.best, "trials": len(result.trials)}))


if __name__ == "__main__":
    # Through the importable module: what Ray pickles from __main__ it pickles by value, locks and all.
    from training.search import main as run_main

    run_main()

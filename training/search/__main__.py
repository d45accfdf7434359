"""Entry point of `python -m training.search`: a file of stages (`--config`), or one ensemble search by flags."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from training.artefacts import load_ensemble_data
from training.members.registry import GIVEN, MEMBERS
from training.search import config, ensemble, stages
from training.search.choices import Choices, known
from training.search.choose import SearchResult
from training.search.samplers import SEARCHERS

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for a job's entrypoint


def main(argv: list[str] | None = None) -> None:
    """Search; one JSON object on the last line."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.config is not None:
            read = config.load(args.config)
            _not_in_a_copy(read.storage)
            found = stages.run(read)
            said: dict[str, object] = {
                stage: {"best_trial": r.best_trial, "best": r.best, "trials": len(r.trials)} for stage, r in found.items()
            }
        else:
            said = _by_flags(parser, args)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    except RuntimeError as error:
        parser.exit(1, f"{error}\n")
    print(json.dumps(said))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.search", description="Ray Tune over rankers and ensembles, all by name.")
    parser.add_argument("--config", type=Path, help="TOML with name, storage, [rankers] and [ensemble]; no other flag goes with it")
    parser.add_argument("--data", type=Path, help="rows and lists of one surface, as the pipeline writes them (.npz)")
    parser.add_argument("--name", help="of the search; an unfinished one is gone on with")
    parser.add_argument("--storage", type=Path, help="folder of all searches, seen by all machines that take part")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200, help="boosting rounds per trial")
    parser.add_argument("--searcher", choices=SEARCHERS, default="bayesian")
    parser.add_argument("--at-once", type=int, default=ensemble.AT_ONCE, help="trials under way, of a searcher that learns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", action="store_true", help="to be read about, not to be released: members no release can carry go too")
    names = known()
    for key, default in _choices().items():
        if key == "floors":
            told = "least shares of the first ten places for tail items to choose among (default: none, lists are ordered by probability)"
            parser.add_argument("--floors", nargs="+", type=float, default=default, metavar="SHARE", help=told)
            continue
        among = f"among {', '.join(names[key])}" if key in names else f"ensembles of {', '.join((*MEMBERS, *GIVEN))}, joined by +"
        parser.add_argument(f"--{key}", nargs="+", default=default, metavar="NAME", help=f"{among} (default: {' '.join(default)})")
    return parser


def _by_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, Any]:
    missing = [f"--{key}" for key in ("data", "name", "storage") if getattr(args, key) is None]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)} (or --config)")
    _not_in_a_copy(args.storage.resolve())
    result = ensemble.run(
        load_ensemble_data(args.data),
        name=args.name,
        storage=args.storage.resolve(),
        trials=args.trials,
        rounds=args.rounds,
        seed=args.seed,
        searcher=args.searcher,
        choices=Choices(**{key: tuple(getattr(args, key)) for key in _choices()}),
        at_once=args.at_once,
        compare=args.compare,
    )
    return {"name": result.name, **_summary(result)}


def _not_in_a_copy(storage: Path) -> None:
    """A Ray job runs in its own copy of the files, which is gone with it: a search there could not be gone on with."""
    if _JOB in os.environ and storage.resolve().is_relative_to(Path.cwd()):
        raise ValueError(f"storage: {storage} lies in the job's copy of the files; give an absolute path that all machines see")


def _summary(result: SearchResult) -> dict[str, Any]:
    return {"best_trial": result.best_trial, "best": result.best, "trials": len(result.trials)}


def _choices() -> dict[str, tuple[str, ...]]:
    return {f.name: f.default for f in fields(Choices)}  # type: ignore[misc]


if __name__ == "__main__":
    main()

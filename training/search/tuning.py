"""Runs the trials of a search with Ray Tune: here, on the cluster at RAY_ADDRESS, or on the one this is a job of. Alone knows Ray.

What all trials read lies once in Ray's object store; what a trial finds it writes down itself (`journal`) before Ray hears of it. Ray's own
record of a run is written now and then, so that it forgets the latest trials when the driver is killed: it is not read again. A run that
is taken up again proposes its trials anew (`order`) and starts those that have not ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # read when Ray is imported: its banners would stand between our lines
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # what it would log for people is logged from the journal (`logs`)

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from training.progress import Bar
from training.search.claim import alone
from training.search.journal import Journal, Row
from training.search.order import Order

Steps = Callable[[Mapping[str, Any], Any, int, Path, int], Iterator[tuple[Mapping[str, float], bool]]]
"""A trial, ``(config, data, seed, folder, seen)``: yields its metrics rung by rung, and whether that was the last. It may keep
things in the folder; where its process died after `seen` rungs were reported it goes on with the next."""
DEATHS = (
    3  # of a trial's process, after which the trial is given up: a machine that was lost, or a trial that needs more memory than there is
)
_STARTS = 5  # attempts to start a local Ray
_RUNG = "rung"
_NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Halving:
    """Asynchronous successive halving (Li et al. 2020).

    Attributes:
        metric: more is better.
        rungs: reports of a whole trial.
        factor: of the trials that reach a rung about one in so many goes on.
        grace: rungs that every trial gets.
    """

    metric: str
    rungs: int
    factor: float = 3.0
    grace: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.grace <= self.rungs or not self.factor > 1.0:
            raise ValueError(f"halving: need 1 ≤ grace ≤ rungs and a factor above 1, got {self.grace}, {self.rungs} and {self.factor:g}")


@dataclass(frozen=True, slots=True)
class _Work:
    """What a trial's process is told beside its configuration and the data."""

    steps: Steps
    path: Path
    seed: int


def run(
    steps: Steps,
    data: Any,
    order: Order,
    journal: Journal,
    *,
    seed: int,
    what: str,
    cpus: int | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float = 0,
    halving: Halving | None = None,
    told: Callable[[Row], Any] | None = None,
) -> list[Row]:
    """Run every trial the order hands out, to its end; one that fails is written down and the others go on.

    Args:
        steps: what a trial does; importable by name in the trials' processes, or picklable.
        data: what all trials read, put once.
        order: of the trials.
        journal: of the search.
        seed: of every trial.
        what: the search, for people.
        cpus: of a Ray session that is started for this; default: the host's. With RAY_ADDRESS the cluster's are used.
        cpus_per_trial: CPUs of each trial.
        gpus_per_trial: share of a GPU of each trial, where the cluster has any; without one trials run on CPUs alone.
        halving: gives up on trials on their way; default: none.
        told: called with each trial as it ends.

    Returns:
        All trials that have ended, by number.
    """
    ended = len(journal.rows())
    with warnings.catch_warnings(), Bar(f"Ray Tune: {what}", order.count) as bar:
        warnings.simplefilter("ignore")
        bar.advance(ended)
        if ended < order.count:
            with connected(cpus):
                _fit(steps, data, order, journal, bar, seed, what, _resources(cpus_per_trial, gpus_per_trial), halving, told)
    return journal.rows()


def _fit(
    steps: Steps,
    data: Any,
    order: Order,
    journal: Journal,
    bar: Bar,
    seed: int,
    what: str,
    resources: dict[str, float],
    halving: Halving | None,
    told: Callable[[Row], Any] | None,
) -> None:
    files = journal.path / "ray"
    shutil.rmtree(files, ignore_errors=True)  # of a driver that is dead: we hold its name
    missing = order.count - len(journal.rows())
    # By itself Ray starts one process after the other where a searcher is its own, each when the one before has loaded its libraries.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, int(_cpus() / resources["cpu"])))
    trainable = tune.with_resources(tune.with_parameters(_trial, data=data, work=_Work(steps, journal.path, seed)), resources)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            num_samples=missing,
            search_alg=_InOrder(order, journal, bar, told),
            scheduler=None if halving is None else _halving(halving, journal),
            reuse_actors=halving is None,  # starting a process takes as long as a short trial; what trains networks has one of its own
            trial_dirname_creator=lambda trial: f"{trial.config[_NUMBER]:04d}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=what,
            storage_path=str(files),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=DEATHS - 1),  # of the process: what a trial raises is no failure to Ray
        ),
    )
    tuner.fit()
    shutil.rmtree(files, ignore_errors=True)


def _trial(config: dict[str, Any], data: Any, work: _Work) -> None:
    """One trial."""
    journal, number, chosen = Journal(work.path), int(config[_NUMBER]), config["config"]
    folder = journal.work(number)
    with alone(folder):
        row, seen = journal.row(number), journal.reports(number)
        if row is not None:  # it ended, and its process or its driver died before Ray heard of it
            tune.report({**row["metrics"], _RUNG: 0})
            return
        start = time.perf_counter() - (seen[-1]["seconds"] if seen else 0.0)
        for rung, report in enumerate(seen, 1):  # before its process died: the scheduler may not have heard of them
            tune.report({**report, _RUNG: rung})
        try:
            for rung, (metrics, last) in enumerate(work.steps(chosen, data, work.seed, folder, len(seen)), len(seen) + 1):
                spent = time.perf_counter() - start
                journal.report(number, {**metrics, "seconds": round(spent, 3)})
                if last:
                    journal.ended(number, chosen, metrics, spent)
                tune.report({**metrics, _RUNG: rung})
            if journal.row(number) is None:  # its process died between its last report and the line above
                journal.ended(number, chosen, *journal.last(number))
        except Exception as error:  # noqa: BLE001 (whatever a trial raises is that trial's result; the search goes on)
            journal.ended(number, chosen, None, time.perf_counter() - start, error=f"{type(error).__name__}: {error}")
            tune.report({_RUNG: 0})


class _InOrder(Searcher):
    """Ray's view of an order: asks it for trials, and tells it from the journal how they went."""

    def __init__(self, order: Order, journal: Journal, bar: Bar, told: Callable[[Row], Any] | None) -> None:
        super().__init__(metric=_RUNG, mode="max")  # Ray wants a metric; it is not used
        self._order, self._journal, self._bar, self._told = order, journal, bar, told
        self._open: dict[str, tuple[int, dict[str, Any]]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        found = self._order.next()
        if found is None:
            return Searcher.FINISHED if self._order.exhausted else None
        self._open[trial_id] = found
        number, config = found
        return {_NUMBER: number, "config": config}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number, config = self._open.pop(trial_id)
        row = self._journal.row(number)
        if row is None:  # it did not end by itself: given up by the scheduler, or its process died too often
            metrics, seconds = self._journal.last(number)
            said = f"its process died {DEATHS} times" if error or metrics is None else ""
            row = self._journal.ended(number, config, None if said else metrics, seconds, error=said, stopped=not said)
        self._order.done(number, None if row["error"] else row["metrics"])
        self._bar.advance()
        if self._told is not None:
            self._told(row)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()  # nothing that is not in the journal

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is taken up again from its journal")

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _halving(halving: Halving, journal: Journal) -> ASHAScheduler:
    """Ray's scheduler, told what earlier drivers' trials reported: a trial that is started now is held against all of them."""
    scheduler = ASHAScheduler(
        time_attr=_RUNG,
        metric=halving.metric,
        mode="max",
        max_t=halving.rungs,
        grace_period=halving.grace,
        reduction_factor=halving.factor,
    )
    for row in journal.rows():
        stub = _Ended(row["trial"])
        scheduler.on_trial_add(None, stub)  # type: ignore[arg-type]
        for rung, report in enumerate(journal.reports(row["number"]), 1):
            if rung < halving.rungs and halving.metric in report:
                scheduler.on_trial_result(None, stub, {_RUNG: rung, halving.metric: report[halving.metric]})  # type: ignore[arg-type]
    return scheduler


@dataclass(frozen=True, slots=True)
class _Ended:
    """As much of Ray's trial as its scheduler looks at."""

    trial_id: str


def _cpus() -> float:
    return float(ray.cluster_resources().get("CPU", 1.0))  # type: ignore[no-untyped-call]


def _resources(cpus: float, gpus: float) -> dict[str, float]:
    there = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
    return {"cpu": cpus} | ({"gpu": min(gpus, there)} if gpus and there else {})


@contextlib.contextmanager
def connected(cpus: int | None) -> Iterator[None]:
    """A Ray session: the caller's, the cluster's at RAY_ADDRESS, or a local one that ends with the block.

    From a cluster nobody disconnects before the process ends: with its job's connection Ray takes away the folder the job runs in.
    """
    local = not ray.is_initialized() and "RAY_ADDRESS" not in os.environ
    if local:
        _start(cpus or os.cpu_count() or 1)
    elif not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        if local:
            ray.shutdown()


def _start(cpus: int) -> None:
    """A local Ray; it gives up on its own start after 30 s, which a busy machine may need."""
    for left in reversed(range(_STARTS)):
        try:
            ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
        else:
            return

"""``python -m training.sentiment``: train the model, judge reviews with it, turn reviews into an item feature and complaints.

The last line printed is one JSON object. The state directory is `LONGTAIL_HOME`, as everywhere.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ranking.layout import Layout
from training.artefacts import write_json
from training.sentiment import MODELS, complaints_file, folder

app = typer.Typer(help="Sentiment of reviews.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="reviews.csv.gz, a CSV with its columns, or the folder it is in")]


@app.command("train")
def train_model(
    reviews: File,
    epochs: Annotated[
        float,
        typer.Option(min=0.1, help="passes over the reviews; each reads a third of the positive ones, in turns"),
    ] = 3.0,
    rows: Annotated[int, typer.Option(min=0, help="only so many reviews, drawn at random; 0: all")] = 0,
    models: Annotated[int, typer.Option(min=1, help="encoders, tuned from different seeds, that read as one")] = MODELS,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint")] = False,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train, fit thresholds on validation reviews, measure on others, store the model in the state directory."""
    import numpy as np

    from training.sentiment import reviews as source
    from training.sentiment.train import SETTINGS, train

    found = source.read(reviews)
    if rows:
        found = found.take(np.random.default_rng(seed).permutation(len(found))[:rows])
    settings = replace(SETTINGS, epochs=epochs, seed=seed, checkpoints=200)
    told = train(found, model_folder(), settings=settings, models=models, resume=resume)
    print(json.dumps({key: value for key, value in told.items() if key not in ("pr", "history")}))


@app.command("settle")
def settle_model(reviews: File) -> None:
    """Find the stored model's thresholds and blend anew on its validation reviews, and measure it again; nothing is trained."""
    from training.sentiment import reviews as source
    from training.sentiment.train import settle

    told = settle(source.read(reviews), model_folder())
    print(json.dumps({key: value for key, value in told.items() if key not in ("pr", "history")}))


@app.command("judge")
def judge_reviews(
    reviews: File, method: Annotated[str, typer.Option(help="bert, words or blend: whose figures stand at the top")] = "bert"
) -> None:
    """Score labelled reviews with the stored model."""
    from training.sentiment.judge import judge

    print(json.dumps(judge(reviews, model_folder(), method=method)))


@app.command("items")
def items_feature(
    reviews: File, method: Annotated[str, typer.Option(help="bert, words or blend: which model values the reviews")] = "bert"
) -> None:
    """Value every review for the feature `review_sentiment`, and list complaints by department and class."""
    from dataclasses import asdict

    from training.sentiment import items
    from training.sentiment import reviews as source
    from training.sentiment.model import Sentiment

    found = source.read(reviews)
    told = Sentiment.load(model_folder()).read(found, methods=(method,))[method]
    rows = items.write(state().sentiment, found.items, found.times, told.value)
    by = {"department": found.departments, "class": found.kinds}
    listed = {name: [asdict(c) for c in items.complaints(found, told.classes == 0, groups)] for name, groups in by.items()}
    write_json(complaints_file(state()), listed)
    print(json.dumps({"written": str(state().sentiment), "reviews": rows, "complaints": str(complaints_file(state()))}))


def state() -> Layout:
    """The state directory."""
    return Layout(Path(os.environ.get("LONGTAIL_HOME") or ".longtail").resolve())


def model_folder() -> Path:
    """Where the state directory has the model."""
    return folder(state())


if __name__ == "__main__":
    app()

"""Rankers trained and judged on labelled files, benchmarks, and the pages they make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import ROOT, active_release, clock, explained, gateway_address, layout, prepared_samples, triton_address
from ranking.errors import UnknownName

if TYPE_CHECKING:
    pass

app = typer.Typer()
bench_app = typer.Typer(help="Benchmarks: ours and its yardstick in one run, one JSON object last.", no_args_is_help=True)
report_app = typer.Typer(help="Pages: what was measured, as one HTML file each.", no_args_is_help=True)


@app.command()
def train_ranker(
    source: Annotated[str, typer.Option(help="a source with judged queries: esci")] = "esci",
    path: Annotated[Path | None, typer.Option(help="folder of the source's files; default: what `longtail data prepare` made")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="train even where these data and this program made one already")] = False,
) -> None:
    """Train the rankers of typed queries (ensemble, and BERT alone) and keep them in the state directory; cross-validated figures last."""
    from training.relevance import train as ranker

    with explained():
        if source != ranker.SOURCE:
            raise UnknownName("source", source, [ranker.SOURCE])
        made = ranker.train(layout(), path=path, anew=anew)
        said = json.loads((made.path / "ranker.json").read_text())
    print(json.dumps({"ranker": str(made.path), "reused": made.reused, "late": said["late"], "metrics": said["metrics"]}))


@app.command()
def evaluate(
    source: Annotated[str, typer.Option(help="what the labelled files are of: esci, clothing_reviews")],
    judgments: Annotated[Path | None, typer.Option(help="CSV with the columns query, asin, esci_label, gain")] = None,
    products: Annotated[Path | None, typer.Option(help="products as JSON lines, gzipped; default: the prepared ones")] = None,
    reviews: Annotated[Path | None, typer.Option(help="CSV with the columns Title, Review Text, Rating, Recommended IND")] = None,
    ranker: Annotated[
        str | None,
        typer.Option(help="esci: ensemble (default), late, maxsim, cosine, bm25, rating_count; reviews: bert (default), words, blend"),
    ] = None,
) -> None:
    """Score a named ranker, or reader of reviews, on labelled files given by path: one JSON object last."""
    from training import evaluate as judging

    with explained():
        found = judging.judge(layout(), source, ranker=ranker, files={"judgments": judgments, "products": products, "reviews": reviews})
    print(json.dumps(found))


@bench_app.command("rank")
def bench_rank(quick: Annotated[bool, typer.Option("--quick", help="a few seconds instead of about a minute")] = False) -> None:
    """Latency and throughput of the running gateway beside a bare echo server."""
    from services.bench import rank as bench

    with explained():
        state = layout()
        samples = prepared_samples(state.training / "frames" / "requests.json", all_of_them=True)
        items = list(dict.fromkeys(i for s in samples for i in s.item_ids))
        result = bench.run(
            gateway_address(state),
            users=sorted({s.user_id for s in samples}),
            items=items,
            queries=sorted({s.query for s in samples} - {""}),
            quick=quick,
        )
    print(json.dumps(result))


@bench_app.command("gateway")
def bench_gateway(
    quick: Annotated[bool, typer.Option("--quick", help="a few seconds a part: shows that it runs")] = False,
    soak: Annotated[float, typer.Option(help="seconds of load over which memory is watched", min=1.0)] = 60.0,
) -> None:
    """Rank beside a bare echo, with models that answer at once and with the running platform's Triton, open-loop."""
    from dataclasses import replace

    from services.bench import gateway as bench
    from services.bench.platform import QUICK, Platform, Times, catalogue

    with explained():
        state = layout()
        samples = prepared_samples(state.training / "frames" / "requests.json", all_of_them=True)
        clocked = ["--as-of", clock(state).isoformat()] if state.serving.exists() else []
        platform = Platform(
            state,
            gateway_address(state),
            triton_address(state),
            active_release(state),
            ["--feature-repo", str(ROOT / "feature_repo"), *clocked],
            users=sorted({s.user_id for s in samples}),
            items=catalogue(state),
            queries=sorted({s.query for s in samples} - {""}),
        )
        result = bench.run(platform, QUICK if quick else replace(Times(), soak=soak))
    print(json.dumps(result))


@bench_app.command("features")
def bench_features(
    quick: Annotated[bool, typer.Option("--quick", help="a few seconds: shows that it runs")] = False,
    only: Annotated[list[str] | None, typer.Option(help="a part by name; may be repeated")] = None,
) -> None:
    """Events taken in per second, a million items in the item snapshot, the batch's rows per second; needs no running platform."""
    from services.bench import features as bench
    from training.tables import bench as batch

    with explained():
        result = bench.run(layout(), quick=quick, only=only or (), others={"batch": (batch.figures, batch.WANTED)})
    print(json.dumps(result))


@bench_app.command("triton")
def bench_triton(quick: Annotated[bool, typer.Option("--quick", help="three rounds: shows that it runs")] = False) -> None:
    """MiniLM pairs per second through Triton beside the same runtime in process, ONNX Runtime and torch; starts a Triton of its own."""
    from tempfile import TemporaryDirectory

    from deploy import bench
    from deploy.triton import runtime, wheel
    from ranking.text import PAIR_INPUTS
    from services.bench.report import report
    from training.bert import yardstick

    with explained(), TemporaryDirectory(prefix="longtail-bench-") as folder:
        wheel.install(layout().triton_server)
        model = Path(folder) / "model.onnx"
        torch = yardstick.make(model, runtime.host().threads)
        figures = bench.run(layout(), model, PAIR_INPUTS, {"torch": torch}, rounds=3 if quick else 25)
    print(json.dumps(report("triton", figures, bench.WANTED)))


@bench_app.command("fairness")
def bench_fairness(
    quick: Annotated[bool, typer.Option("--quick", help="a fraction of the lists and one seed: shows that it runs")] = False,
    esci: Annotated[Path | None, typer.Option(help="folder with products.jsonl.gz and judgments.csv: adds a search data set")] = None,
) -> None:
    """NDCG against tail exposure for ours and the comparison arms, drift, latency; writes reports/fairness.html."""
    from training.fairness import bench

    with explained():
        result = bench.run(layout(), quick=quick, esci=esci)
    print(json.dumps(result))


@bench_app.command("training")
def bench_training(
    quick: Annotated[bool, typer.Option("--quick", help="a fraction of everything: shows that it runs")] = False,
    shoppers: Annotated[Path | None, typer.Option(help="folder with sessions.csv, the Online Shoppers data; adds their part")] = None,
    reviews: Annotated[Path | None, typer.Option(help="folder with reviews.csv.gz, the clothing reviews; adds their part")] = None,
    only: Annotated[list[str] | None, typer.Option(help="a part by name; may be repeated; the others keep what was measured")] = None,
) -> None:
    """What each method of the imbalance toolbox and of the ensemble gains or loses; writes reports/training.html."""
    from training.toolbox import bench

    with explained():
        result = bench.run(layout(), quick=quick, shoppers=shoppers, reviews=reviews, only=only or ())
    print(json.dumps(result))


@bench_app.command("cascade")
def bench_cascade() -> None:
    """What a policy's budget of texts costs on the prepared test lists: a table, and one JSON object last."""
    from training import cascade

    with explained():
        result = cascade.run(layout())
        print(cascade.table(result["tables"]))
    print(json.dumps(result))


@bench_app.command("search")
def bench_search(quick: Annotated[bool, typer.Option("--quick", help="few lists and trials: shows that it runs")] = False) -> None:
    """Ensemble trials per minute on kept scores, against the same trials that encode their texts; needs `make demo`'s files."""
    from training.search import bench

    with explained():
        result = bench.run(layout(), quick=quick)
    print(json.dumps(result))


@bench_app.command("relevance")
def bench_relevance(
    path: Annotated[Path | None, typer.Option(help="folder of the ESCI files; default: what `longtail data prepare esci` made")] = None,
    cuts: Annotated[int, typer.Option(min=1, help="ways to cut the queries into folds: shows how much of a figure is the cut's")] = 1,
) -> None:
    """Rankers of typed queries on queries apart, beside plain ones: a table, and one JSON object last."""
    from training.relevance import bench

    with explained():
        result = bench.run(layout(), path=path, cuts=cuts)
        print(bench.table(result))
    print(json.dumps(result))


@bench_app.command("bert")
def bench_bert(
    quick: Annotated[bool, typer.Option("--quick", help="an encoder of random weights: shows that it runs")] = False,
    reviews: Annotated[Path | None, typer.Option(help="folder with reviews.csv.gz, the clothing reviews; adds their part")] = None,
    esci: Annotated[Path | None, typer.Option(help="folder with products.jsonl.gz and judgments.csv: adds real queries")] = None,
    only: Annotated[list[str] | None, typer.Option(help="a part by name; may be repeated; the others keep what was measured")] = None,
) -> None:
    """BERT's heads by ways of tuning, sentiment, transfer, fusion with images, precisions; writes reports/bert.html."""
    from training.bert import bench

    with explained():
        result = bench.run(layout(), quick=quick, reviews=reviews, judgments=esci, only=only or ())
    print(json.dumps(result))


@report_app.command("bert")
def report_bert() -> None:
    """The page of the last `longtail bench bert`, written again without measuring anything."""
    from training.bert import bench

    with explained():
        page = bench.rewrite(layout())
    print(page)


@report_app.command("users")
def report_users(source: Annotated[str, typer.Option(help="a prepared source with events")] = "completejourney") -> None:
    """What users do: segments, categories, repeats, the tail over time, funnels by surface; writes reports/users-SOURCE.html."""
    from training import describe

    with explained():
        page = describe.report_users(layout(), source)
    print(page)


@report_app.command("training")
def report_training() -> None:
    """The page of the last `longtail bench training`, written again without measuring anything."""
    from training.toolbox import bench

    with explained():
        page = bench.rewrite(layout())
    print(page)

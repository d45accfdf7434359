"""The front door: `longtail`, every command a few lines. Heavy imports stand inside the command that needs them."""

from __future__ import annotations

import typer

from cli import data, measures, platform, policies, releases, search, soak, tokens

app = typer.Typer(help="Longtail: ranking for e-commerce search and ads that keeps tail items visible.", no_args_is_help=True)
app.add_typer(platform.app)
app.add_typer(measures.app)
app.add_typer(soak.app)
app.add_typer(data.data_app, name="data")
app.add_typer(data.features_app, name="features")
app.add_typer(data.users_app, name="users")
app.add_typer(releases.release_app, name="release")
app.add_typer(search.search_app, name="search")
app.add_typer(policies.policy_app, name="policy")
app.add_typer(tokens.tokens_app, name="tokens")
app.add_typer(measures.bench_app, name="bench")
app.add_typer(measures.report_app, name="report")

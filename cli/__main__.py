"""``python -m cli``: the same as `longtail`."""

from cli import app

app()

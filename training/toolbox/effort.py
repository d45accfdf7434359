"""How long the generators train wherever the toolbox compares resamplers: the same everywhere, and next to nothing in a quick run."""

from __future__ import annotations

from typing import Any

_OPTIONS: dict[str, dict[str, Any]] = {
    "gan": {"steps": 400, "learning_rate": 1e-3},
    "wgan_gp": {"steps": 150, "learning_rate": 1e-3, "penalty": 1.0},
}
_QUICK = {"steps": 5}


def generator_options(name: str, *, quick: bool) -> dict[str, Any]:
    """Keyword arguments of `training.imbalance.gan.fit_generator` for a resampler; none for one that is no generator."""
    options = _OPTIONS.get(name, {})
    return options | (_QUICK if options and quick else {})

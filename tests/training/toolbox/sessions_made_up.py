"""A small file of visits as the source has them, in which page values tell who buys."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.sources import online_shoppers as source


def write(folder: Path, count: int = 240) -> Path:
    """Write `count` visits, about a fifth of which buy."""
    rng = np.random.default_rng(0)
    lines = [",".join([*source.NUMERIC, *source.CATEGORICAL, "Revenue"])]
    for _ in range(count):
        buys = rng.random() < 0.2
        pages, seconds = rng.poisson([2, 1, 15 + 10 * buys]), rng.gamma(2.0, 60.0, 3)
        numbers = [v for pair in zip(pages, seconds.round(1), strict=True) for v in pair]
        numbers += [round(v, 4) for v in (*rng.random(2) * 0.1, rng.gamma(1.0, 10.0) * buys + rng.gamma(1.0, 1.0), 0.0)]
        kinds = [rng.choice(["Feb", "Nov"]), *rng.integers(1, 3, 4), rng.choice(["New_Visitor", "Returning_Visitor"]), "FALSE"]
        lines.append(",".join(map(str, [*numbers, *kinds, str(bool(buys)).upper()])))
    (folder / source.FILE).write_text("\n".join(lines) + "\n")
    return folder

"""Unknown values filled with medians, columns brought to one scale: what members need that compare or multiply columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMIT = 10.0  # deviations from the mean beyond which a value says nothing more


@dataclass(frozen=True, slots=True)
class Scale:
    """Learnt from the training rows, applied to any."""

    medians: NDArray[np.float32]  # (d,)
    means: NDArray[np.float32]  # (d,)
    deviations: NDArray[np.float32]  # (d,) 1 for a constant column

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> Scale:
        """From (n, d) rows; a column that is never known counts as 0."""
        known = ~np.isnan(features).all(axis=0)
        medians = np.zeros(features.shape[1], np.float32)
        medians[known] = np.nanmedian(features[:, known], axis=0)
        filled = _filled(features, medians)
        deviations = filled.std(axis=0, dtype=np.float64)
        deviations[deviations < 1e-9] = 1.0
        return cls(medians, filled.mean(axis=0, dtype=np.float64).astype(np.float32), deviations.astype(np.float32))

    def fill(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, d) with medians where a value is unknown."""
        return _filled(features, self.medians)

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, d) filled, centred, in deviations, within ±`LIMIT`."""
        return np.clip((self.fill(features) - self.means) / self.deviations, -LIMIT, LIMIT)


def _filled(features: NDArray[np.float32], medians: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(np.isnan(features), medians, features)

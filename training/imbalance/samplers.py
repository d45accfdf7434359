"""The resampling methods: each turns training rows into a plan of which real rows stay and which rows are made up.

Methods that measure distances work on encoded rows (`columns.py`), where every column counts alike. Real rows are named by index,
so they come out bit for bit as they went in, and whatever belongs to a row (an embedding, a list) can follow it.
The searches for neighbours and clusters are imbalanced-learn's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.imbalance.columns import Columns, Encoder

_NEIGHBOURS = 5  # of SMOTE, BorderlineSMOTE and ADASYN (Chawla et al. 2002); fewer where there are not so many positives
_BORDER = 10  # neighbours that tell whether a positive stands at the border (Han et al. 2005)
_CENTRES = 2048  # clusters at most: time grows with rows × clusters, and a share may ask for tens of thousands
_EDIT = 3  # neighbours that must agree with a row (Wilson 1972)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a method gets: training rows only, positives fewer than asked for."""

    features: NDArray[np.float32]  # (n, d)
    labels: NDArray[np.int8]  # (n,) 0 or 1, both present
    strength: float  # positives per negative wanted
    seed: int
    columns: Columns
    options: dict[str, Any] = field(default_factory=dict)  # of the generators

    @property
    def positives(self) -> NDArray[np.int64]:
        """Indices of positive rows."""
        return np.flatnonzero(self.labels == 1)

    @property
    def negatives(self) -> NDArray[np.int64]:
        """Indices of negative rows."""
        return np.flatnonzero(self.labels == 0)

    @property
    def missing(self) -> int:
        """Positives to add so that their share is as asked; 0 where it is so to one row."""
        return round(self.strength * len(self.negatives)) - len(self.positives)

    @property
    def bearable(self) -> int:
        """Negatives to keep so that the positives' share is as asked."""
        return max(1, round(len(self.positives) / self.strength))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a method makes of the rows.

    Attributes:
        kept: (m,) indices of real rows, repeats allowed.
        made: (s, d) float32 rows that were made up.
        label: the label of all made rows.
        weights: (m,) of the kept rows; None: all 1.
        made_weight: of every made row.
        offset: log-odds correction where the method knows it better than the counts do.
    """

    kept: NDArray[np.int64]
    made: NDArray[np.float32]
    label: int = 1
    weights: NDArray[np.float32] | None = None
    made_weight: float = 1.0
    offset: float | None = None


Method = Callable[[Rows], Plan]


def class_weight(rows: Rows) -> Plan:
    """Every row once; positives weigh more."""
    ratio = rows.strength * len(rows.negatives) / len(rows.positives)
    return _only(rows, np.arange(len(rows.labels)), weights=np.where(rows.labels == 1, np.float32(ratio), np.float32(1.0)))


def random_over(rows: Rows) -> Plan:
    """Positives drawn again, with replacement."""
    again = np.random.default_rng(rows.seed).choice(rows.positives, size=rows.missing)
    return _only(rows, np.concatenate([np.arange(len(rows.labels)), again]))


def random_under(rows: Rows) -> Plan:
    """As many negatives as the share allows, drawn without replacement."""
    chosen = np.random.default_rng(rows.seed).choice(rows.negatives, size=rows.bearable, replace=False)
    return _only(rows, np.sort(np.concatenate([rows.positives, chosen])))


def negatives(rows: Rows) -> Plan:
    """Each negative kept with the same known probability w, so that log w is the exact correction (He et al. 2014, section 6.3)."""
    rate = len(rows.positives) / (rows.strength * len(rows.negatives))
    draw = np.random.default_rng(rows.seed).random(len(rows.labels)) < rate
    return _only(rows, np.flatnonzero((rows.labels == 1) | draw), offset=float(np.log(rate)))


def smote(rows: Rows) -> Plan:
    """Points between a positive and one of its nearest positives (Chawla et al. 2002)."""
    import imblearn.over_sampling

    k = _neighbours("smote", rows)
    return _over(rows, imblearn.over_sampling.SMOTE(sampling_strategy=_to_add(rows), k_neighbors=k, random_state=rows.seed))


def borderline_smote(rows: Rows) -> Plan:
    """SMOTE from positives most of whose neighbours are negatives (Han et al. 2005); where there is none, rows stay as they are."""
    import imblearn.over_sampling

    k = _neighbours("borderline_smote", rows)
    m = min(_BORDER, len(rows.labels) - 1)
    over = imblearn.over_sampling.BorderlineSMOTE(sampling_strategy=_to_add(rows), k_neighbors=k, m_neighbors=m, random_state=rows.seed)
    return _over(rows, over)


def adasyn(rows: Rows) -> Plan:
    """SMOTE with more points where negatives are near (He et al. 2008); the share comes only near the one asked for."""
    import imblearn.over_sampling

    k = _neighbours("adasyn", rows)
    try:
        return _over(rows, imblearn.over_sampling.ADASYN(sampling_strategy=_to_add(rows), n_neighbors=k, random_state=rows.seed))
    except (RuntimeError, ValueError) as error:
        if "neigbours" not in str(error) and "No samples" not in str(error):
            raise
        raise ValueError(
            "adasyn: no positive has a negative among its neighbours, or too few for one row each: nothing says where to add; use smote"
        ) from error


def cluster_centroids(rows: Rows) -> Plan:
    """Negatives replaced by the centres of their clusters.

    K-means on small batches, with one cluster per negative to keep but at most 2,048; beyond, each centre weighs as many rows as the share
    asks for.
    """
    from sklearn.cluster import MiniBatchKMeans

    encoder = Encoder(rows.features, rows.columns)
    count = min(rows.bearable, _CENTRES)
    means = MiniBatchKMeans(n_clusters=count, init="random", n_init=1, max_iter=10, batch_size=max(1024, count), random_state=rows.seed)
    centres = means.fit(encoder.encode(rows.features[rows.negatives])).cluster_centers_
    return Plan(rows.positives, encoder.decode(centres.astype(np.float32)), label=0, made_weight=rows.bearable / count)


def tomek(rows: Rows) -> Plan:
    """Negatives that are a positive's nearest neighbour, and it theirs, are dropped (Tomek 1976); sets no share."""
    import imblearn.under_sampling

    return _only(rows, _clean(imblearn.under_sampling.TomekLinks(), _encoded(rows), rows.labels))


def smote_enn(rows: Rows) -> Plan:
    """SMOTE to the share, then rows of either class that any of three neighbours contradicts are dropped (Batista et al. 2004)."""
    import imblearn.under_sampling

    k = min(_EDIT, len(rows.labels) - 1)
    return _cleaned(rows, imblearn.under_sampling.EditedNearestNeighbours(sampling_strategy="all", n_neighbors=k))


def smote_tomek(rows: Rows) -> Plan:
    """SMOTE to the share, then both ends of every Tomek link are dropped (Batista et al. 2004)."""
    import imblearn.under_sampling

    return _cleaned(rows, imblearn.under_sampling.TomekLinks(sampling_strategy="all"))


def gan(rows: Rows) -> Plan:
    """Positives from a generator trained with the original loss (Goodfellow et al. 2014)."""
    return _generated(rows, "gan")


def wgan_gp(rows: Rows) -> Plan:
    """Positives from a Wasserstein generator with gradient penalty (Gulrajani et al. 2017)."""
    return _generated(rows, "wgan_gp")


def _generated(rows: Rows, loss: str) -> Plan:
    from training.imbalance.gan import fit_generator

    if len(rows.positives) < 2:
        raise ValueError(f"{loss}: needs at least 2 positive rows, got {len(rows.positives)}")
    if not rows.missing:
        return _as_they_are(rows)
    generator = fit_generator(rows.features[rows.positives], rows.columns, loss=loss, seed=rows.seed, **rows.options)
    return Plan(np.arange(len(rows.labels)), generator.sample(rows.missing, seed=rows.seed + 1))


def _as_they_are(rows: Rows) -> Plan:
    return _only(rows, np.arange(len(rows.labels)))


def _only(rows: Rows, kept: NDArray[Any], *, weights: NDArray[np.float32] | None = None, offset: float | None = None) -> Plan:
    return Plan(kept.astype(np.int64), np.empty((0, rows.features.shape[1]), np.float32), weights=weights, offset=offset)


def _neighbours(name: str, rows: Rows) -> int:
    """Neighbours among the positives: 5, or all there are."""
    count = len(rows.positives)
    if count < 2:
        raise ValueError(f"{name}: needs at least 2 positive rows, got {count}")
    return min(_NEIGHBOURS, count - 1)


def _to_add(rows: Rows) -> dict[int, int]:
    """The positives wanted, as imbalanced-learn asks for them: counted, since it rounds a share its own way and refuses to add none."""
    return {1: len(rows.positives) + rows.missing}


def _encoded(rows: Rows) -> NDArray[np.float32]:
    return Encoder(rows.features, rows.columns).encode(rows.features)


def _over(rows: Rows, sampler: Any) -> Plan:
    """Run an over-sampler of imbalanced-learn, which appends what it makes to the rows it was given."""
    encoder = Encoder(rows.features, rows.columns)
    if not rows.missing:
        return _as_they_are(rows)
    out, _ = sampler.fit_resample(encoder.encode(rows.features), rows.labels)
    return Plan(np.arange(len(rows.labels)), encoder.decode(out[len(rows.labels) :]))


def _cleaned(rows: Rows, cleaner: Any) -> Plan:
    """SMOTE, then drop rows, real or made."""
    encoder = Encoder(rows.features, rows.columns)
    n, more = len(rows.labels), smote(rows).made
    x = np.concatenate([encoder.encode(rows.features), encoder.encode(more)])
    kept = _clean(cleaner, x, np.concatenate([rows.labels, np.ones(len(more), np.int8)]))
    return Plan(kept[kept < n], more[kept[kept >= n] - n])


def _clean(cleaner: Any, x: NDArray[np.float32], y: NDArray[np.int8]) -> NDArray[np.int64]:
    """Indices that a cleaning method of imbalanced-learn keeps, in order."""
    cleaner.fit_resample(x, y)
    return np.sort(np.asarray(cleaner.sample_indices_, np.int64))

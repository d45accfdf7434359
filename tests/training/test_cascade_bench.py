"""`longtail bench cascade`: each budget's figures are of the order the gateway would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ranking.blend import blend
from ranking.layout import Layout
from tests.training.data import ensemble_data
from training import cascade
from training.artefacts import save_ensemble_data, save_lists
from training.blends.ensemble import DEFAULT, fit

CONFIG = {**DEFAULT, "rounds": 20, "text_weight_head": 0.5, "text_weight_tail": 0.5, "text_weight_new": 0.5}


def test_a_budget_of_the_longest_list_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list within the budget: the scores are those of the whole blend; with 0 those without text."""
    data = ensemble_data()
    fitted = fit({**CONFIG, "negatives_rate": data.train.negatives_rate}, data, 0, threads=1)
    lists, logits = data.select, fitted.logits(data.select)
    longest = int(np.diff(lists.offsets).max())
    whole = fitted.blend(lists).probabilities
    assert (cascade.cascaded(fitted.spec, logits, lists, longest) == whole).all()
    unread = logits.copy()
    unread[fitted.spec.members.index("bert")] = np.nan
    assert (cascade.cascaded(fitted.spec, logits, lists, 0) == blend(fitted.spec, unread, lists.tiers).probabilities).all()
    monkeypatch.setattr(cascade, "BUDGETS", (5,))
    rows = cascade.budgets(fitted.spec, logits, lists)
    assert list(rows) == ["0", "5", "all"]
    assert rows["all"]["ndcg10_difference"] == [0.0, 0.0, 0.0]
    assert rows["0"]["ndcg10"][0] < rows["all"]["ndcg10"][0]  # planted: text knows what the trees do not
    assert [rows[b]["texts"] for b in ("0", "5")] == [0.0, 5.0]
    assert cascade.table({"search": rows}).count("| search |") == 3


def test_the_report_reads_what_training_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the kept scores of both surfaces to figures by surface and budget; without them the error says what makes them."""
    monkeypatch.setattr(cascade, "DEFAULT", {**DEFAULT, "rounds": 3})
    layout = Layout(tmp_path)
    with pytest.raises(FileNotFoundError, match="longtail train"):
        cascade.run(layout)
    data = ensemble_data()
    for surface in ("search", "ads"):
        save_ensemble_data(layout.training / "scores" / f"{surface}.npz", data)
        save_lists(layout.training / "scores" / f"{surface}_test.npz", data.select)
    report = cascade.run(layout)
    assert report["bench"] == "cascade"
    assert set(report["figures"]) == {f"{s}_ndcg10_{b}" for s in ("search", "ads") for b in ("0", "10", "25", "50", "100", "all")}
    assert report["figures"]["search_ndcg10_10"] == report["tables"]["search"]["10"]["ndcg10"][0]

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from training.fairness import shopping
from training.fairness.shopping import Bm25, tiers
from training.sources.esci import JUDGMENTS, PRODUCTS, Product, judgments, products


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve queries for four products; the first product is rated most, the last never."""
    rows = [
        {"asin": f"A{i}", "title": f"cotton towel {'blue' * (i % 2)}", "brand": "B", "category": ["Home"], "rating_count": n}
        for i, n in enumerate((900, 40, 7, None))
    ]
    with gzip.open(tmp_path / PRODUCTS, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    lines = [f"towel {q},A{i},E,{1.0 if i == q % 4 else 0.1}" for q in range(12) for i in range(4)]
    (tmp_path / JUDGMENTS).write_text("\n".join(["query,asin,esci_label,gain", *lines]) + "\n")
    return tmp_path


def test_files_become_lists(folder: Path) -> None:
    """Every query is one list, on one side of the split; gains and the best page are those of its judged products."""
    valid, test = shopping.read(folder, 0)
    assert len(valid) + len(test) == 12
    assert len(valid)
    assert len(test)
    best = np.array([1.0, 0.1, 0.1, 0.1]) @ (1 / np.log2([2, 3, 4, 5]))
    assert test.ideal == pytest.approx([best] * len(test))
    assert test.groups[:4].tolist() == [0, 1, 1, 2]
    assert test.scores.max() == pytest.approx(1.0)


def test_a_seed_orders_the_same_test_lists(folder: Path) -> None:
    """Another seed asks the same queries in another order, and ids say which is which."""
    (_, one), (_, two) = shopping.read(folder, 0), shopping.read(folder, 1)
    assert sorted(one.ids) == sorted(two.ids)
    assert one.ids.tolist() != two.ids.tolist()
    gains = [{i: x.gains[span].tolist() for i, span in zip(x.ids.tolist(), x.spans(), strict=True)} for x in (one, two)]
    assert gains[0] == gains[1]


def test_rare_words_count_more() -> None:
    """Of two texts that match one word each, the one with the rarer word scores higher; no match scores 0."""
    ranker = Bm25({"a": "red towel", "b": "blue towel", "c": "blue bag", "d": "green bag"})
    scores = ranker.scores("red blue", ("a", "b", "d"))
    assert scores[0] > scores[1] > scores[2] == 0.0


def test_tiers_follow_the_ratings() -> None:
    """The fifth rated most often is head, the never rated are new, the rest is tail."""
    counts = [1000, 900, *range(10, 17), 0]
    got = tiers({str(i): Product("", c) for i, c in enumerate(counts)})
    assert list(got.values()) == [0, 0, 1, 1, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (JUDGMENTS, "query,asin,gain\ntowel,A0,2.0\n", r"judgments.csv line 2: not a judgment.*outside \[0, 1\]"),
        (JUDGMENTS, "query,asin\ntowel,A0\n", "judgments.csv line 2: not a judgment.*gain"),
        (JUDGMENTS, "query,asin,gain\ntowel,Z9,1.0\n", "product 'Z9' is not among the products"),
        (PRODUCTS, '{"asin": "A0"}\n', r"products.jsonl.gz line 1: not a product.*title"),
        (PRODUCTS, "no json\n", r"products.jsonl.gz line 1: not a product"),
    ],
)
def test_a_bad_file_names_its_line(folder: Path, name: str, text: str, message: str) -> None:
    """What cannot be read is refused with the file and the line, or the product."""
    if name == PRODUCTS:
        with gzip.open(folder / name, "wt") as file:
            file.write(text)
    else:
        (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        shopping.read(folder, 0)


@pytest.mark.parametrize("read", [products, judgments])
def test_an_empty_folder_says_what_belongs_there(tmp_path: Path, read: object) -> None:
    """The message names both files."""
    with pytest.raises(FileNotFoundError, match=r"products\.jsonl\.gz and judgments\.csv"):
        read(tmp_path)  # type: ignore[operator]

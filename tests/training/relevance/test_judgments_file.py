"""Files of judgments, right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.relevance import judged
from training.relevance.catalogue import Catalogue

HEAD = "query,asin,esci_label,gain\n"


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue.of([{"item_id": "A", "title": "mug"}, {"item_id": "B", "title": "lamp"}])


def test_unknown_products_are_counted_and_left_out(tmp_path: Path, catalogue: Catalogue) -> None:
    """A judged product that the catalogue does not know is left out of its list; a query of such products only is lost, and counted."""
    file = tmp_path / "j.csv"
    file.write_text(HEAD + 'mug,A,E,1.0\nmug,X,I,0.0\n"lamp, red",B,S,0.1\ntray,X,E,1\n')
    read = judged.read(file, catalogue)
    assert read.lists.queries == ("mug", "lamp, red")
    assert read.lists.gains.tolist() == [1.0, 0.1]
    assert (read.pairs, read.unknown, read.lost) == (4, 2, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("query,asin,gain\nmug,A,1\n", "line 1: no column 'esci_label'"),
        (HEAD + "mug,A,Z,1.0\n", "line 2, column esci_label: 'Z' is not known"),
        (HEAD + "mug,A,E,1.0\nmug,B,S,0.5\n", "line 3, column gain: must be 0.1 for label S, got '0.5'"),
        (HEAD + "mug,A,E,much\n", "line 2, column gain"),
        (HEAD + ",A,E,1.0\n", "line 2, column query: empty"),
        (HEAD + "mug,A,E\n", "line 2, column gain: empty"),
        (HEAD + "mug,A,E,1.0\nmug,A,E,1.0\n", "line 3, column asin: 'A' is judged twice"),
        (HEAD + "mug,A,E,1.0,7\n", "line 2: more values than columns"),
        (HEAD + "mug,X,E,1.0\n", "no judgment of a known product"),
        (HEAD, "no judgment"),
    ],
)
def test_the_error_names_file_line_and_column(tmp_path: Path, catalogue: Catalogue, text: str, said: str) -> None:
    """Whatever is wrong with a file, the message says where."""
    file = tmp_path / "wrong.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.csv") as error:
        judged.read(file, catalogue)
    assert said in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path, catalogue: Catalogue) -> None:
    """The message names the path and the columns wanted."""
    with pytest.raises(FileNotFoundError, match="esci_label"):
        judged.read(tmp_path / "none.csv", catalogue)

import pytest

from tasklens.scoring.cell_key import CellKey


@pytest.mark.parametrize(
    ("name", "key", "kind"),
    [
        ("kept/block2/raw/labels", CellKey("kept", "block2", "raw"), "labels"),
        ("kept/embed/tsne/embedding", CellKey("kept", "embed", "tsne"), "embedding"),
        ("new/ln_f/raw/k=12/labels", CellKey("new", "ln_f", "raw", 12), "labels"),
        ("new/ln_f/raw/at=last/labels", CellKey("new", "ln_f", "raw", None, "last"), "labels"),
        ("new/ln_f/raw/at=last/k=2/labels", CellKey("new", "ln_f", "raw", 2, "last"), "labels"),
    ],
)
def test_names_of_a_cells_arrays_are_parsed_as_they_are_built(
    name: str, key: CellKey, kind: str
) -> None:
    assert key.name(kind) == name
    assert CellKey.parse(name) == (key, kind)


@pytest.mark.parametrize("name", ["kept/answer", "kept/hits", "kept/block2/raw/k=3", "labels"])
def test_names_of_other_arrays_are_no_cells(name: str) -> None:
    assert CellKey.parse(name) is None

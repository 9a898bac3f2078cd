"""Test tables of scores at several positions: no number is a mean over them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from planted import planted_table
from tasklens.core.errors import InputError
from tasklens.findings.curves import curves_of_table
from tasklens.report.figure1 import figure1
from tasklens.report.figure2 import figure2
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.separation_figure import separation_pairs
from tasklens.report.summary import mean_scores
from tasklens.scoring.cell_key import CellKey
from tasklens.scoring.final_scores import final_table, final_text, scores_text
from tasklens.scoring.score_table import at_position, positions_of
from tasklens.scoring.sweep_summary import best_rows, points_table

FIRST, OTHER = "input", "instruction_mean"


def moved(table: pa.Table, position: str, factor: float) -> pa.Table:
    """Return the scores of hidden states at another position, multiplied by a factor."""
    rows = [row for row in table.to_pylist() if row["position"]]
    rows = [row | {"position": position, "value": factor * row["value"]} for row in rows]
    return pa.Table.from_pylist(rows, schema=table.schema)


PLAIN = planted_table()
BOTH = pa.concat_tables([PLAIN, moved(PLAIN, OTHER, 0.5)])
HALF = pa.concat_tables(
    [PLAIN.filter(pa.compute.equal(PLAIN["position"], "")), moved(PLAIN, OTHER, 0.5)]
)


def test_the_first_position_counts_unless_another_is_named() -> None:
    assert positions_of(BOTH) == [FIRST, OTHER]
    assert at_position(BOTH).equals(at_position(BOTH, FIRST))
    assert at_position(BOTH).equals(PLAIN)
    assert at_position(BOTH, OTHER).num_rows == HALF.num_rows
    with pytest.raises(InputError, match=f"no position 'last'; there are {FIRST}, {OTHER}"):
        at_position(BOTH, "last")


def test_every_reader_of_a_table_takes_one_position() -> None:
    final = final_table(BOTH)
    assert final.equals(final_table(PLAIN))
    assert final_table(BOTH, position=OTHER).equals(final_table(HALF))
    states = [name for name in final.index if not name.startswith("control:")]
    assert (final_table(HALF).loc[states] == 0.5 * final.loc[states]).all(axis=None)
    assert final_text(BOTH) == final_text(PLAIN)
    assert mean_scores(BOTH, "val_subset", "ari") == mean_scores(PLAIN, "val_subset", "ari")
    for mine, theirs in zip(curves_of_table(BOTH), curves_of_table(PLAIN), strict=True):
        assert mine.ari.keys() == theirs.ari.keys()
        for key, values in mine.ari.items():
            np.testing.assert_array_equal(values, theirs.ari[key])


def test_the_text_has_a_table_for_each_position() -> None:
    parts = scores_text(BOTH).split("position ")
    assert parts[0] == ""
    assert parts[1] == f"{FIRST}\n{scores_text(PLAIN)}\n"
    assert parts[2] == f"{OTHER}\n{scores_text(HALF)}"


def heights(figure: Any) -> list[list[float]]:
    return [np.asarray(line.get_ydata()).tolist() for ax in figure.axes for line in ax.lines]


def test_figures_show_one_position_and_name_it() -> None:
    settings = FigureSettings(position=OTHER)
    assert heights(figure1(BOTH)) == heights(figure1(PLAIN))
    assert heights(figure1(BOTH, settings)) == heights(figure1(HALF))
    labels = [figure1(BOTH, s).axes[0].get_ylabel() for s in (None, settings)]
    assert labels == [f"ARI at {FIRST}, accuracy", f"ARI at {OTHER}, accuracy"]
    assert figure1(PLAIN).axes[0].get_ylabel() == "ARI, accuracy"
    assert heights(figure2(BOTH)) == heights(figure2(PLAIN))
    assert heights(figure2(BOTH, position=OTHER)) == heights(figure2(HALF))


def test_a_summary_has_a_row_for_each_position_and_figures_take_the_first() -> None:
    runs: Any = {"planted": {}}
    points, plain = points_table(BOTH, runs), points_table(PLAIN, runs)
    assert plain.num_rows < points.num_rows < 2 * plain.num_rows, "controls once"
    assert best_rows(points, "val_subset") == best_rows(plain, "val_subset")
    assert len(separation_pairs(BOTH)) == len(separation_pairs(PLAIN))


def test_runs_at_different_positions_are_not_averaged() -> None:
    name = PLAIN.schema.get_field_index("run")
    other = HALF.set_column(name, "run", pa.array(["other"] * HALF.num_rows))
    mixed = pa.concat_tables([PLAIN, other])
    message = f"the run 'other' .seed 0. has no scores at the position '{FIRST}'"
    readers: list[Any] = [final_table, final_text, figure1, curves_of_table]
    for read in readers:
        with pytest.raises(InputError, match=message):
            read(mixed)


@pytest.mark.parametrize("position", ["", "last", "0:7", "and/or", "100%", "%2F", "k=3"])
def test_an_array_has_the_name_of_its_position(position: str) -> None:
    for k in (None, 3):
        key = CellKey("val_subset", "block1", "raw", k, position)
        assert CellKey.parse(key.name("labels")) == (key, "labels")

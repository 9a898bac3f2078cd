"""Draw the figures of the pages from the committed scores: `python docs/make_figures.py`."""

from pathlib import Path

import pyarrow as pa

from tasklens.report.figure1 import figure1
from tasklens.report.figure2 import figure2
from tasklens.report.style import render
from tasklens.report.sweep_figures import separation_pairs, separation_plot
from tasklens.scoring.score_table import read_score_table

DOCS = Path(__file__).parent

if __name__ == "__main__":
    paths = sorted((DOCS / "scores").glob("*.parquet"))
    scores = pa.concat_tables([read_score_table(path) for path in paths])
    for name, figure in (
        ("figure1", figure1(scores)),
        ("figure2", figure2(scores)),
        ("separation", separation_plot(separation_pairs(scores))),
    ):
        (DOCS / f"{name}.png").write_bytes(render(figure, "png"))

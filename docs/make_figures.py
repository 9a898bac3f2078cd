"""Draw the figures of the pages from the committed scores: `python docs/make_figures.py`.

The figures of single runs (`models_*.png`, the gallery) need the runs; the pages have their
commands.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from tasklens.report.figure1 import figure1
from tasklens.report.figure2 import figure2
from tasklens.report.style import render
from tasklens.report.sweep_figures import (
    one_at_a_time,
    phase_diagram,
    separation_pairs,
    separation_plot,
)
from tasklens.runs.sweep_file import read_sweep
from tasklens.scoring.score_table import read_score_table

DOCS = Path(__file__).parent

if __name__ == "__main__":
    paths = sorted((DOCS / "scores").glob("*.parquet"))
    scores = pa.concat_tables([read_score_table(path) for path in paths])
    sweeps = {name: read_sweep(DOCS / f"sweeps/{name}.toml") for name in ("phase", "around")}
    points = {name: pyarrow.csv.read_csv(DOCS / f"sweeps/results/{name}.csv") for name in sweeps}
    phase, around = sweeps["phase"], sweeps["around"]
    for name, figure in (
        ("figure1", figure1(scores)),
        ("figure2", figure2(scores)),
        ("separation", separation_plot(separation_pairs(scores))),
        ("phase", phase_diagram(points["phase"], phase.grid[0][0], phase.grid[1][0])),
        ("around", one_at_a_time(points["around"], around.around, around.points[0].values)),
    ):
        (DOCS / f"{name}.png").write_bytes(render(figure, "png"))

"""Draw the figures of the pages from the committed files: `python docs/scripts/make_figures.py`.

Of a study that was not run there is no figure. The figures of single runs (`models_*.png`, the
gallery) need the runs; the pages have their commands.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from figures.distributions import draw_distributions
from figures.positions import draw_positions
from figures.rise import draw_rise
from matplotlib.figure import Figure
from tables.material import Material

from tasklens.report.figure1 import figure1
from tasklens.report.figure2 import figure2
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.separation_figure import separation_pairs, separation_plot
from tasklens.report.style import render
from tasklens.report.sweep_figures import one_at_a_time, phase_diagram
from tasklens.runs.sweep_file import read_sweep
from tasklens.scoring.score_table import read_score_table

DOCS = Path(__file__).parents[1]


def drawn(data: Path) -> Iterator[tuple[str, Figure]]:
    """Yield each figure with its name."""
    paths = sorted((data / "scores").glob("*.parquet"))
    scores = pa.concat_tables([read_score_table(path) for path in paths])
    yield "figure1", figure1(scores)
    yield "figure1_paper", figure1(scores, FigureSettings(style="paper"))
    yield "figure2", figure2(scores)
    yield "separation", separation_plot(separation_pairs(scores))
    sweeps = {name: read_sweep(data / f"sweeps/{name}.toml") for name in ("phase", "around")}
    points = {name: pyarrow.csv.read_csv(data / f"sweeps/results/{name}.csv") for name in sweeps}
    phase, around = sweeps["phase"], sweeps["around"]
    yield "phase", phase_diagram(points["phase"], phase.grid[0][0], phase.grid[1][0])
    yield "around", one_at_a_time(points["around"], around.around, around.points[0].values)
    material = Material(data)
    if "positions" in material.points:
        yield "positions", draw_positions(material.points["positions"])
    if material.courses is not None:
        yield "rise", draw_rise(material.courses)
    if material.distributions is not None:
        yield "distributions", draw_distributions(material.distributions)


if __name__ == "__main__":
    for name, figure in drawn(DOCS / "data"):
        (DOCS / "images" / f"{name}.png").write_bytes(render(figure, "png"))

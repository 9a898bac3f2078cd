"""The regime of clusters from the sweep of outputs and inputs, docs/data/sweeps/phase.toml."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from scipy.stats import spearmanr
from tables.markdown import markdown, number, spread
from tables.small_world import INPUTS, OUTPUTS, grid
from tables.sweep_points import Points

from tasklens.report.style import in_style, new_figure, symbol

MEASURED_TASKS = 10
LAST = "block6"


def own_output(outputs: int, inputs: int, tasks: int = MEASURED_TASKS) -> float:
    """Return the chance that the output of an instance is no output of the other tasks.

    Each of the ``tasks`` maps each of the inputs to an output that is drawn independently.
    """
    return (1 - 1 / outputs) ** ((tasks - 1) * inputs)


def regime_tables(data: Path) -> dict[str, str]:
    """Return the tables of the page."""
    points = Points(data / "sweeps" / "results" / "phase.csv")
    head = ["outputs", *(f"{inputs} inputs" for inputs in INPUTS)]
    cells: dict[str, Callable[[int, int], str]] = {
        "shared outputs": lambda y, x: number(own_output(y, x)),
        "best layer": lambda y, x: spread([points.of_best(grid(y, x), s) for s in points.seeds]),
        "last block": lambda y, x: spread(points.each(grid(y, x), LAST)),
        "accuracy": lambda y, x: spread(points.each(grid(y, x), LAST, "accuracy")),
    }
    tables = {
        name: markdown(head, [[str(y), *(cell(y, x) for x in INPUTS)] for y in OUTPUTS])
        for name, cell in cells.items()
    }
    return tables | {"order": order_table(points)}


def order_table(points: Points) -> str:
    """Return how well two numbers of a world order the ARI of its last block and best layer."""
    worlds = [(y, x) for y in OUTPUTS for x in INPUTS]
    chance = [own_output(y, x) for y, x in worlds]
    rows = []
    for seed in points.seeds:
        scores = {
            f"the last block, seed {seed}": [
                points.value(grid(y, x), seed, LAST) for y, x in worlds
            ],
            f"the best layer, seed {seed}": [points.of_best(grid(y, x), seed) for y, x in worlds],
        }
        for name, values in scores.items():
            each = (chance, [y for y, _ in worlds])
            rows.append([name, *(number(float(spearmanr(by, values)[0])) for by in each)])
    return markdown(["rank correlation of the ARI of", "with the chance", "with the outputs"], rows)


@in_style
def draw_regime(data: Path) -> Figure:
    """Draw the last block's ARI against the chance that an output belongs to one task only."""
    points = Points(data / "sweeps" / "results" / "phase.csv")
    figure = new_figure(3.2, 2.3)
    ax = figure.subplots()
    worlds = [(y, x) for y in OUTPUTS for x in INPUTS]
    for i, seed in enumerate(points.seeds):
        color, shape, area = symbol(i)
        chance = [own_output(y, x) for y, x in worlds]
        last = [points.value(grid(y, x), seed, LAST) for y, x in worlds]
        ax.scatter(chance, last, s=12 * area, marker=shape, color=color, label=f"seed {seed}")
    ax.set(
        xlabel="chance that an output belongs to one of the ten tasks only",
        ylabel=f"final ARI of {LAST}, unseen pairs",
        xlim=(-0.03, 1),
        ylim=(-0.03, 1.03),
    )
    ax.legend(loc="lower right")
    figure.tight_layout(pad=0.4)
    return figure

"""Draw maps of points: one map, all hidden states at one step, one hidden state at several steps.

Steps of stages of one model are shown by their names.

The report's page shows the same maps.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.report.map_drawing import Color, MapDrawing, frame_points
from tasklens.report.style import (
    IN_TITLE,
    drawable,
    figure_of,
    in_style,
    new_figure,
    write_heading,
)
from tasklens.report.view import PLANES, Map, View

#: The largest number of panels side by side, and of steps that are shown by default.
ACROSS, STEPS_SHOWN = 5, 6


@in_style
def figure_map(
    view: View,
    state: str,
    step: int | str | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
    *,
    names: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the points of one hidden state at one step.

    Parameters
    ----------
    view : View
        From `tasklens.Run.view`.
    state : str
        Name of the hidden state, one of ``view.states``.
    step : int or str, optional
        Training step of a checkpoint, or the name of a stage; by default the last.
    split : str, optional
        By default the first unseen split, if there is one, otherwise the only split.
    color : {"task", "distribution", "cluster", "input", "output"}
        What colour and shape stand for. Value number i of those in the split has colour i of
        `style.PALETTE` and shape i of `style.MARKERS`, both modulo their number. The title has the
        number of values if several share a symbol. A cluster has the symbol of the task to which it
        is assigned.
    map : {"tsne", "pca", "centroids"}
        See `tasklens.report.view.MAPS`. A plane is labelled with the share of the variance that it
        shows; that of the centroids, with the share of the variance between tasks, too.
    names : bool
        Whether to write the name of each value at its points, unless they are scattered.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into, in their own style; the legend is at their right side. By default the
        axes are those of a new figure.

    Returns
    -------
    Figure
        The new figure, or the figure of `ax`. The title contains the ARI of the clusters, mean
        over cluster seeds. The ARI is against what is coloured if that is the input, the output or
        the distribution; otherwise it is against the task.

    Raises
    ------
    InputError
        If there is no such hidden state, step, split, colour or map.

    Examples
    --------
    >>> import tasklens as tl
    >>> view = tl.load_run("runs/smoke").view()
    >>> tl.figure_map(view, "block2", color="output").savefig("map.png")
    """
    maps = MapDrawing(view, split, color, map, names)
    state, checkpoint = view.state(state), view.at(step)
    figure = figure_of(ax) or new_figure(3.4, 3.85 + 0.15 * (map in PLANES), "compressed")
    panel = ax or figure.subplots()
    values = maps.draw(panel, state, checkpoint, size=7.0)
    frame_points(panel, maps.coordinates(state, checkpoint))
    maps.name_groups(panel, state, checkpoint)
    lines = [
        f"{drawable(state, IN_TITLE)}, {drawable(view.step_name(checkpoint), IN_TITLE)}",
        maps.title,
    ]
    panel.set_title("\n".join([*lines, *maps.score(state, checkpoint)]))
    if ax is None:
        maps.add_legend(figure, values)
    else:
        maps.add_legend_beside(ax, values)
    return figure


@in_style
def figure_layers(
    view: View,
    step: int | str | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
    *,
    names: bool = False,
) -> Figure:
    """Draw the points of every hidden state at one step, one panel per hidden state.

    Each panel has its own scale; see `figure_map` for the parameters.

    Raises
    ------
    InputError
        If there is no such step, split, colour or map.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_layers(tl.load_run("runs/smoke").view()).savefig("layers.png")
    """
    maps, checkpoint = MapDrawing(view, split, color, map, names), view.at(step)
    title = f"{drawable(view.step_name(checkpoint), IN_TITLE)}, {maps.title}"
    panels = [(state, checkpoint, drawable(state, IN_TITLE)) for state in view.states]
    return _draw_panels(maps, panels, title, same_scale=False)


@in_style
def figure_forming(
    view: View,
    state: str | None = None,
    steps: Sequence[int | str] | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
    *,
    names: bool = False,
) -> Figure:
    """Draw the points of one hidden state at several steps, one panel per step, on one scale.

    For stages of one model this is the same map side by side, one panel per stage.

    Parameters
    ----------
    state : str, optional
        By default the best layer on the first split, see `tasklens.scoring.best_layer`.
    steps : sequence of int or str, optional
        By default six from the first to the last, with equally many checkpoints between them.
    split, color, map, names
        See `figure_map`.

    Raises
    ------
    InputError
        If there is no such hidden state, step, split, colour or map.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_forming(tl.load_run("runs/smoke").view(), "block2").savefig("forming.png")
    """
    maps, state = MapDrawing(view, split, color, map, names), view.state(state)
    if steps is None:
        n = len(view.steps)
        checkpoints = np.linspace(0, n - 1, min(n, STEPS_SHOWN)).round().astype(int).tolist()
    elif len(steps):
        checkpoints = [view.at(step) for step in steps]
    else:
        raise InputError(f"{view.run}: steps is empty: should be some of {view.steps}")
    panels = [(state, number, drawable(view.step_name(number), IN_TITLE)) for number in checkpoints]
    return _draw_panels(maps, panels, f"{drawable(state, IN_TITLE)}, {maps.title}", same_scale=True)


def _draw_panels(
    maps: MapDrawing, panels: list[tuple[str, int, str]], title: str, *, same_scale: bool
) -> Figure:
    """Draw one panel for each (state, number of the checkpoint, title)."""
    down = -(-len(panels) // ACROSS)
    across = -(-len(panels) // down)
    coordinates = [maps.coordinates(state, checkpoint) for state, checkpoint, _ in panels]
    high = (1.85 + 0.15 * (maps.map in PLANES)) * down + 0.2
    figure = new_figure(1.55 * across, high, "compressed")
    axes = figure.subplots(down, across, squeeze=False).flat
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    values = []
    for ax, (state, checkpoint, name), shown in zip(axes, panels, coordinates, strict=False):
        values.append(maps.draw(ax, state, checkpoint, size=3.0))
        frame_points(ax, np.concatenate(coordinates) if same_scale else shown)
        maps.name_groups(ax, state, checkpoint)
        ax.set_title("\n".join([name, *maps.score(state, checkpoint)]))
    write_heading(figure, title)
    maps.add_legend(figure, np.unique(np.concatenate(values)))
    return figure

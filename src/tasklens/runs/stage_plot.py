"""Stage plot: the scores and the effects of edits to Figures 1 to 3."""

from dataclasses import replace
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.style import context

from tasklens.core.errors import InputError
from tasklens.core.progress import inform, progress
from tasklens.findings.curves import curves_of_table
from tasklens.report.figure1 import figure1
from tasklens.report.figure2 import figure2
from tasklens.report.figure3 import figure3
from tasklens.report.figure_by_layer import figure_by_layer
from tasklens.report.figure_stages import figure_stages
from tasklens.report.style import render
from tasklens.runs.compare import compare_steps
from tasklens.runs.run import Run
from tasklens.scoring.score_table import at_position
from tasklens.scoring.stage_table import are_stages

#: Files of each figure.
FORMATS: tuple[Literal["png", "pdf"], ...] = ("png", "pdf")


def _of_layers(run: Run) -> Figure:
    """Draw the figure of a run that is no series; only the ARI has intervals."""
    settings = run.settings.figure
    if settings.metric == "ari" and are_stages(run.step_names):
        position = settings.position or None
        return figure_stages(run.curves(position), compare_steps(run, position=position))
    if settings.metric == "ari":
        return figure_by_layer(run.curves(settings.position or None))
    scores = at_position(run.score_table(), settings.position)
    (curves,) = curves_of_table(scores, settings.metric)
    return figure_by_layer(replace(curves, step_names=run.step_names), settings.measure)


def plot(run: Run) -> None:
    """Draw the figures; Figure 2 only if there are blocks, Figure 3 if their states were edited.

    Figure 1 of a run that is no series shows its layers.
    """
    run.need("measure")
    directory = run.directory
    if run.settings.figure.style == "paper" and not run.is_series:
        raise InputError(
            f"figure.style = 'paper': should be 'default', since {run.name} is no series of "
            "checkpoints through training"
        )
    with directory.stage("plot", run.inputs("plot")) as finish:
        if finish is None:
            return
        # Files are the same whatever the user set in Matplotlib.
        with progress("plot"), context("default"):
            paths = []
            for number, figure in enumerate(_figures(run), 1):
                for suffix in FORMATS:
                    paths.append(directory.figure(suffix, number))
                    directory.write(paths[-1], render(figure, suffix))
        finish(paths)


def _figures(run: Run) -> list[Figure]:
    """Return the figures of a run."""
    scores, settings = run.score_table(), run.settings.figure
    figures = [figure1(scores, settings) if run.is_series else _of_layers(run)]
    if any(name.startswith("block") for name in run.state_names):
        first = next(iter(run.splits))
        figures.append(figure2(scores, run.unseen, first, settings.position, steps=run.is_series))
    if run.has_layers and run.directory.mark("interventions") is not None:
        curves = run.curves()  # an InputError of damaged files leaves the stage unfinished
        try:
            figures.append(figure3(curves, run.unseen))
        except InputError as error:
            inform(f"no Figure 3: {error}")
    return figures

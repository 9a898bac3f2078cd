"""Stage plot: the scores and the effects of edits to Figures 1 to 3."""

from typing import Literal

from tasklens.core.errors import InputError
from tasklens.core.progress import inform, progress
from tasklens.report.figure1 import figure1
from tasklens.report.figure2 import figure2
from tasklens.report.figure3 import figure3
from tasklens.report.style import render
from tasklens.runs.run import Run

#: Files of each figure.
FORMATS: tuple[Literal["png", "pdf"], ...] = ("png", "pdf")


def plot(run: Run) -> None:
    """Draw the figures; Figure 2 only if there are blocks, Figure 3 if their states were edited."""
    run.need("measure")
    directory = run.directory
    with directory.stage("plot", run.inputs("plot")) as finish:
        if finish is None:
            return
        with progress("plot"):
            scores, settings = run.score_table(), run.settings.figure
            figures = [figure1(scores, settings)]
            if any(name.startswith("block") for name in run.state_names):
                first = next(iter(run.splits))
                figures.append(figure2(scores, run.unseen, first, settings.position))
            if run.has_layers and directory.mark("interventions") is not None:
                curves = run.curves()  # an InputError of damaged files leaves the stage unfinished
                try:
                    figures.append(figure3(curves, run.unseen))
                except InputError as error:
                    inform(f"no Figure 3: {error}")
            paths = []
            for number, figure in enumerate(figures, 1):
                for suffix in FORMATS:
                    paths.append(directory.figure(suffix, number))
                    directory.write(paths[-1], render(figure, suffix))
        finish(paths)

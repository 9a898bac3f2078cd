"""One interface to what a run directory holds, whether its model was trained or given.

Everything above it, such as measuring, figures, verdicts and reports, asks a `Run` and does not
branch on the kind.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tasklens.core.parquet import read_parquet
from tasklens.interventions.effect_table import effects_to_pandas
from tasklens.report.view import View
from tasklens.runs.run_arrays import Floats, RunArrays
from tasklens.runs.run_columns import regressors_at
from tasklens.scoring.score_cells import prepared_splits
from tasklens.scoring.score_table import main_scores, read_score_table, to_pandas

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from tasklens.findings.curves import Curves
    from tasklens.findings.verdict import Verdict


class Run(RunArrays):
    """A run directory with its settings, and the way to read what its stages have left.

    Examples
    --------
    >>> import tasklens as tl
    >>> run = tl.load_run("runs/smoke")
    >>> run.steps
    (0, 1, 2, 4, 8, 16)
    >>> run.state_names
    ('wte', 'embed', 'block1', 'block2', 'ln_f')
    >>> run.states("block2", step=8, split="val_subset").dtype
    dtype('float32')
    """

    def clustered(
        self, step: int, position: str | None = None
    ) -> Iterator[tuple[str, dict[str, Floats]]]:
        """Yield each state's name and what was clustered of it: (n, D) by split."""
        measure, regressors = self.settings.measure, regressors_at(self, self.position(position))
        families = {split: known.families for split, known in self.instances_by_split.items()}
        for name in self.state_names:
            whole = self.states(name, step, position=position)
            yield name, prepared_splits(whole, self.splits, measure, families, regressors)

    def scores(self) -> "pd.DataFrame":
        """Return all scores, one metric per row; see `tasklens.read_scores` for the columns."""
        return to_pandas(self.score_table(all_k=True))

    def score_table(self, *, all_k: bool = False) -> pa.Table:
        """Return the tidy table, of the main number of clusters or of all of them."""
        self.need("measure")
        path = self.directory.scores_parquet
        table = read_score_table(path, self.directory.read(path))
        return table if all_k else main_scores(table)

    def effects(self) -> "pd.DataFrame":
        """Return the effects of edits, one number per row; see `tasklens.intervene`."""
        return effects_to_pandas(self.effect_table())

    def effect_table(self) -> pa.Table:
        """Return the tidy table of the effects of edits."""
        self.need("interventions")
        return read_parquet(self.directory.read(self.directory.effects_parquet))

    # -- results ------------------------------------------------------------------------------
    # These modules read runs, so that they are imported when a result is asked for.

    @cached_property
    def _curves(self) -> "dict[str, tuple[object, Curves]]":
        """Results of `curves` by position, with the version of the files that each depends on."""
        return {}

    def verdict(self, *, shuffled: bool = False) -> "Verdict":
        """Test the paper's findings on this run; see `tasklens.verify`."""
        from tasklens.runs.verify import verify

        return verify([self], shuffled=shuffled)

    def curves(self, position: str | None = None) -> "Curves":
        """Return scores and effects of edits by step, with resampled instructions.

        By default at the first position. They are drawn by `tasklens.figure3` and
        `tasklens.figure_by_layer`. They take a while the first time, and are not to be changed.
        """
        from tasklens.runs.verify import curves_of

        directory = self.directory
        version = [
            directory.noted(path) for path in (directory.scores_parquet, directory.effects_parquet)
        ]
        position = self.position(position)
        if position not in self._curves or self._curves[position][0] != version:
            self._curves[position] = version, curves_of(self, position)
        return self._curves[position][1]

    def per_task(
        self,
        step: int | str | None = None,
        split: str | None = None,
        state: str | None = None,
        position: str | None = None,
    ) -> "pd.DataFrame":
        """Return for each task of a split its cluster, its errors and the known task that is near.

        Centroids are the means of a hidden state over each task of the first split. On the first
        split, an instance is compared with the mean of the others of its task.

        Parameters
        ----------
        step : int or str, optional
            One of `steps`, or the name of a stage; by default the last.
        split : str, optional
            One of `splits`; by default the first unseen one.
        state : str, optional
            One of `state_names`; by default the layer with the highest final ARI on the first
            split.
        position : str, optional
            One of `positions`; by default the first.

        Returns
        -------
        pandas.DataFrame
            A row per task with the columns

            - `family`, if there are several; `task`, the name; `n`, the number of instances;
            - `ari`: the adjusted Rand index of the task and one cluster, each against the rest, for
              the cluster with the highest; mean over cluster seeds. By chance it is above 0: about
              0.04 for 10 tasks and 10 clusters of 1,000 instances;
            - `accuracy` and `errors`, the number of wrong answers;
            - `distance`: the mean Euclidean distance to the centroid of the task; `error_auroc`:
              the area under the ROC curve with which it tells errors from hits;
            - `nearest_task`: the task whose centroid is the nearest to most instances;
              `nearest_task_share`: to which share, from 0 to 1;
            - `span_share`: the share of the squared length of a state, from the mean of the
              centroids, that lies in the span of the centroids;
            - `answer_of_nearest`: the share of answers that are the output of the nearest
              centroid's task for the same input.

            What is not known is NaN: a task that training has not seen has no right answers, and no
            centroid. In a model run, `answer_of_nearest` is not known.

        Raises
        ------
        InputError
            If the run is not measured, or for an unknown step, split, state or position.

        Examples
        --------
        >>> import tasklens as tl
        >>> table = tl.load_run("runs/smoke").per_task(split="val_subset", state="block2")
        >>> list(table.columns[:4]), int(table["n"].sum())
        (['task', 'n', 'ari', 'accuracy'], 40)
        """
        from tasklens.runs.per_task import per_task

        return per_task(self, step, split, state, position)

    def view(self, position: str | None = None, family: str | None = None) -> View:
        """Return what the report shows, for `tasklens.figure_map` and the other figures.

        By default it shows the first position and, if there are several families of tasks, the
        first: the maps of two families have no common scale. The maps take a while the first time,
        and are kept in the run directory.
        """
        from tasklens.runs.stage_report import load_view

        return load_view(self, position, family)

    def plot_map(self, state: str | None = None, **options: Any) -> "Figure":
        """Draw a map of the instances, by default of the best hidden state.

        The options are those of `tasklens.figure_map`: ``step``, ``split``, ``color``, ``map``,
        ``names`` and ``ax``, Matplotlib axes to draw into; and ``position`` and ``family``, see
        `view`.
        """
        from tasklens.report.maps import figure_map

        view = self.view(options.pop("position", None), options.pop("family", None))
        return figure_map(view, view.state(state), **options)

"""Settings of the figures."""

from typing import Literal

from tasklens.core.settings import SettingsBase


class FigureSettings(SettingsBase, affects="plot"):
    """Settings of the figures.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.FigureSettings(space="tsne").metric
    'ari'
    """

    space: Literal["raw", "tsne"] = "raw"
    """What was clustered: the hidden states themselves or their t-SNE embedding."""
    metric: Literal["ari", "ami", "v_measure"] = "ari"
    """Measure of the agreement of the clusters with the task."""
    position: str = ""
    """Measured position that Figures 1 and 2 show; empty: the first."""
    splits: tuple[str, ...] = ()
    """Splits that Figure 1 of a training shows, a panel each; empty: all."""
    style: Literal["default", "paper"] = "default"
    """Look of Figure 1: lines with bands and controls, or the dots of the paper's Figure 1, for
    the first two splits, on a linear axis."""

    @property
    def measure(self) -> str:
        """The name of the metric."""
        return {"ari": "ARI", "ami": "AMI"}.get(self.metric, "V-measure")

"""Draw clusters of tasks and of their distributions through training, by block."""

from matplotlib.figure import Figure
from tables.run_scores import Scores

from figures.bands import draw_band, finish, spans
from tasklens.report.step_axis import step_axis
from tasklens.report.style import PALETTE, in_style, new_figure, share_axis

SPLIT = "val_subset"


@in_style
def draw_distributions(scores: Scores) -> Figure:
    """Draw three ARI of each block by step: of tasks, of distributions, of those within tasks.

    For tasks there are as many clusters as tasks, for distributions as many as distributions.
    """
    blocks = [layer for layer in scores.layers if layer.startswith("block")]
    across = min(3, len(blocks))
    down = -(-len(blocks) // across)
    figure = new_figure(0.5 + 2.1 * across, 0.6 + 1.6 * down, "constrained")
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    few, many = scores.ks[0], scores.ks[-1]
    lines = {
        "ari": (f"against the task, k = {few}", PALETTE[0], "-"),
        "ari_distribution": (f"against the distribution, k = {many}", PALETTE[1], "-"),
        "ari_distribution_within_task": ("the same within each task alone", PALETTE[2], "--"),
    }
    for ax, block in zip(axes.flat, blocks, strict=False):
        for name, (label, color, dashes) in lines.items():
            get = scores.with_most_clusters if name == "ari_distribution" else scores.get
            values = [
                [get(seed, name, SPLIT, block, step) for step in scores.steps]
                for seed in scores.seeds
            ]
            draw_band(ax, scores.steps, values, color, label, dashes=dashes)
        accuracy = [
            [scores.get(seed, "accuracy", SPLIT, "model", step, "") for step in scores.steps]
            for seed in scores.seeds
        ]
        draw_band(ax, scores.steps, accuracy, "black", "accuracy", dashes=":")
        step_axis(ax, scores.steps)
        share_axis(ax)
        ax.set_title(block)
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    for ax in axes[:, 0]:
        ax.set_ylabel("ARI")
    finish(figure, f"{SPLIT}; {spans(scores.seeds)}", columns=2)
    return figure

"""Draw the order at each position by the number of outputs, before and after training."""

from matplotlib.figure import Figure
from tables.sweep_points import INSTRUCTIONS, PAIRS, Points
from tables.sweep_tables import OUTPUTS

from figures.bands import draw_band, finish, spans
from tasklens.report.style import PALETTE, in_style, new_figure, share_axis

ROWS = {PAIRS: "unseen pairs", INSTRUCTIONS: "unseen instructions"}


@in_style
def draw_positions(points: Points) -> Figure:
    """Draw the best layer's ARI at each position against the number of outputs.

    The best layer is chosen on the training subset, before and after training for itself.
    """
    positions, names = points.positions, [name for name in OUTPUTS.values() if name in points.names]
    outputs = [number for number, name in OUTPUTS.items() if name in names]
    figure = new_figure(0.5 + 2.0 * len(positions), 0.6 + 1.6 * len(ROWS), "constrained")
    axes = figure.subplots(len(ROWS), len(positions), sharex=True, sharey=True, squeeze=False)
    for line, (split, title) in zip(axes, ROWS.items(), strict=True):
        for ax, position in zip(line, positions, strict=True):
            trained, untrained = (
                [
                    [
                        points.of_best(
                            name, seed, column, by=column, position=position, split=split
                        )
                        for name in names
                    ]
                    for seed in points.seeds
                ]
                for column in ("final", "initial")
            )
            symbols = [
                [points.value(name, seed, "control:symbols", split=split) for name in names]
                for seed in points.seeds
            ]
            x = list(range(len(outputs)))
            draw_band(ax, x, trained, PALETTE[0], "trained", marker="o")
            draw_band(ax, x, untrained, PALETTE[1], "untrained", dashes="--", marker="o")
            draw_band(ax, x, symbols, "0.5", "bag of symbols", dashes=":")
            ax.set_xticks(x, [f"{number}" for number in outputs])
            share_axis(ax)
        line[0].set_ylabel(f"ARI, {title}")
    for ax, position in zip(axes[0], positions, strict=True):
        ax.set_title(position)
    for ax in axes[-1]:
        ax.set_xlabel("number of outputs")
    finish(figure, f"best layer; {spans(points.seeds)}", columns=3)
    return figure

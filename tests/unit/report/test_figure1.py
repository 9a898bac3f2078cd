"""Figure 1: lines are the means of the table, and bands its range."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from colors import VISION, closest, contrast, linear, oklab
from drawn import assert_nothing_cut_off, legend, named_ends, ticks, title
from planted import with_band
from tasklens.core.errors import InputError
from tasklens.data.instances import JUDGED, SPLIT_MEANINGS
from tasklens.report.figure1 import figure1
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.style import render
from tasklens.scoring.score_table import Row, accuracy_row, score_rows, to_table

STEPS = (0, 1, 8, 64, 512, 4096)


def table(
    steps: tuple[int, ...] = STEPS,
    splits: tuple[str, ...] = JUDGED,
    blocks: int = 2,
    seeds: int = 2,
    low: float = 0.0,
) -> pa.Table:
    """Scores that rise with the step and the block; seeds and cluster seeds differ by 0.01."""
    rows: list[Row] = []
    names = ["wte", "embed", *(f"block{i + 1}" for i in range(blocks)), "ln_f"]
    for split, seed in itertools.product(splits, range(seeds)):
        base: dict[str, Any] = {"run": "r", "seed": seed, "split": split, "position": "", "k": 4}
        for (at, step), (i, layer), s in itertools.product(
            enumerate(steps), enumerate(names), (0, 1)
        ):
            value = low + i / len(names) * at / len(steps) + 0.01 * (seed + s)
            scores = {"ari": value, "ari_shuffled": 0.001, "inertia": 1e6}
            rows += score_rows(scores, **base, step=step, layer=layer, cluster_seed=s)
        rows += [accuracy_row("r", seed, step, split, 0.5) for step in steps]
        for name, value in (("length", 0.2), ("symbols", 0.4), ("input", 0.9)):
            rows += score_rows({"ari": value}, **base, step=None, layer=f"control:{name}")
    return to_table(rows)


def heights(ax: Axes) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), dtype=float).tolist() for line in ax.lines]


CONTROLS = ["control: instruction length", "control: bag of symbols", "control: shuffled labels"]


def test_lines_are_means_and_bands_reach_from_lowest_to_highest() -> None:
    figure = figure1(table())
    assert [title(ax) for ax in figure.axes] == [
        "(a) train_subset\nseen in training",
        "(b) val_subset\nunseen pairs",
        "(c) val_instruction_subset\nunseen instructions",
    ]
    rise = 4 / 5 * np.arange(6) / 6
    for ax in figure.axes:
        lines = {str(line.get_label()): line for line in ax.lines}
        levels = [np.asarray(lines[control].get_ydata())[0] for control in CONTROLS]
        assert levels == pytest.approx([0.2, 0.4, 0.001])
        np.testing.assert_allclose(np.asarray(lines["ln_f"].get_ydata(), float), rise + 0.01)
        assert np.asarray(lines["accuracy"].get_ydata()).tolist() == [0.5] * 6
        assert len(ax.collections) == 6, "a band for wte, embed, two blocks, ln_f and accuracy"
        band = ax.collections[-2].get_paths()[0].get_extents()
        np.testing.assert_allclose([band.y0, band.y1], [0, rise[-1] + 0.02], atol=1e-9)
    assert ticks(figure.axes[0], "y") == ["0", "0.25", "0.5", "0.75", "1"]
    assert figure.axes[0].get_ylabel() == "ARI, accuracy"
    assert legend(figure) == ["accuracy", *CONTROLS, "range of 2 runs and 2 KMeans seeds"]


def test_controls_are_drawn_above_bands_and_lines_and_are_named() -> None:
    for ax in figure1(table()).axes:
        controls = [line for line in ax.lines if str(line.get_label()).startswith("control")]
        others = [*ax.collections, *(line for line in ax.lines if line not in controls)]
        assert min(c.get_zorder() for c in controls) > max(o.get_zorder() for o in others)
        assert min(contrast(to_hex(c.get_color()), "#ffffff") for c in controls) > 4.5
        assert {"length", "symbols", "shuffled"} <= {*named_ends(ax)}


def test_the_band_contains_near_best_starts_and_the_legend_names_them() -> None:
    plain = table()
    wide = with_band(plain, lambda row: -0.2, lambda row: 0.95)
    figure, before = figure1(wide), figure1(plain)
    for ax, same in zip(figure.axes, before.axes, strict=True):
        assert heights(ax) == heights(same), "lines are means of the kept clusters"
        for band in ax.collections[:-1]:
            extents = band.get_paths()[0].get_extents()
            np.testing.assert_allclose([extents.y0, extents.y1], [-0.2, 0.95])
        assert ax.get_ylim()[0] == -0.2
    assert legend(figure) == [*legend(before)[:-1], "range of 2 runs and KMeans starts"]
    assert_nothing_cut_off(figure)
    other = figure1(with_ami(wide), FigureSettings(metric="ami"))
    assert legend(other)[-1] == "range of 2 runs and 2 KMeans seeds", "starts are of the ARI"


def test_five_splits_are_two_rows_and_a_setting_chooses_some() -> None:
    scores = table(splits=tuple(SPLIT_MEANINGS))
    figure = figure1(scores)
    axes = figure.axes
    assert [title(ax).split("\n")[1] for ax in axes] == [*SPLIT_MEANINGS.values()]
    assert_nothing_cut_off(figure)
    assert max(ax.get_position().y1 for ax in axes[3:]) < min(
        ax.get_position().y0 for ax in axes[:3]
    )
    assert figure.get_figwidth() == figure1(table()).get_figwidth(), "no wider than a page"
    assert [bool(ax.get_ylabel()) for ax in axes] == [True, False, False, True, False]
    chosen = figure1(scores, FigureSettings(splits=("unseen tasks", "val")))
    assert [title(ax) for ax in chosen.axes] == [
        "(a) unseen_task_subset\nunseen tasks",
        "(b) val_subset\nunseen pairs",
    ]
    with pytest.raises(InputError, match="no split 'unseen tasks'; there are train_subset"):
        figure1(table(), FigureSettings(splits=("unseen tasks",)))


def with_ami(scores: pa.Table) -> pa.Table:
    """Return the scores with AMI instead of ARI, but bands of the ARI."""
    metric = scores["metric"].to_pylist()
    renamed = pa.array(["ami" if name == "ari" else name for name in metric])
    return scores.set_column(scores.column_names.index("metric"), "metric", renamed)


def test_of_several_numbers_of_clusters_the_first_is_drawn() -> None:
    rows = table().to_pylist()
    others = [row | {"k": 9, "value": 0.0} for row in rows if not row["layer"].startswith("contr")]
    figures = [figure1(to_table(each)) for each in (rows, [*rows, *others])]
    left, both = (figure.axes for figure in figures)
    assert [heights(ax) for ax in left] == [heights(ax) for ax in both]
    one, other = (
        [band.get_paths()[0].get_extents().bounds for ax in axes for band in ax.collections]
        for axes in (left, both)
    )
    assert one == other


@pytest.mark.parametrize("vision", ["normal", "protanopia", "deuteranopia"])
def test_blocks_go_from_light_to_dark_and_others_differ_without_colour(vision: str) -> None:
    lines = {str(line.get_label()): line for line in figure1(table(blocks=6)).axes[0].lines}
    names = [f"block{i}" for i in range(1, 7)]
    colors = [to_hex(lines[name].get_color()) for name in names]
    lightness = oklab(linear(colors) @ VISION[vision].T)[:, 0]
    assert (np.diff(lightness) < -0.04).all(), "grey in print; 0.02 is just visible"
    assert closest(colors, vision) > 0.045
    for line in lines.values():
        assert contrast(to_hex(line.get_color()), "#ffffff") > 3, "WCAG 2.2, 1.4.11"
    shapes = ("wte", "embed", "ln_f", "block1", "accuracy")
    patterns = {(str(lines[n].get_linestyle()), lines[n].get_marker()) for n in shapes}
    assert len(patterns) == 5


@pytest.mark.parametrize(
    ("splits", "titles"),
    [
        (("val_subset", "val"), ["(a) val_subset"]),
        (("val_subset", "val", "train_subset"), ["(a) train_subset", "(b) val_subset"]),
        (("prompts", "other"), ["(a) prompts", "(b) other"]),
    ],
)
def test_panels_are_the_known_splits_or_those_of_the_user(
    splits: tuple[str, ...], titles: list[str]
) -> None:
    axes = figure1(table(splits=splits)).axes
    assert [title(ax).partition("\n")[0] for ax in axes] == titles


@pytest.mark.parametrize("panels", [1, 2, 3])
@pytest.mark.parametrize("blocks", [1, 24])
@pytest.mark.parametrize("steps", [STEPS, (0,)])
def test_everything_is_inside(panels: int, blocks: int, steps: tuple[int, ...]) -> None:
    plain = table(steps, tuple(SPLIT_MEANINGS)[:panels], blocks, seeds=1)
    wide = with_band(plain, lambda row: -0.2, lambda row: 0.95)
    for scores in (plain, wide):
        assert_nothing_cut_off(figure1(scores))


def test_of_many_blocks_some_and_the_last_are_named() -> None:
    named = named_ends(figure1(table(blocks=12)).axes[0])
    blocks = [name for name in named if name.startswith("block")]
    assert sorted(blocks, key=len) == [*(f"block{i}" for i in (8, 6, 4, 2)), "block12", "block10"]
    assert named[:3] == ["block12", "accuracy", "ln_f"], "the last are left out if there is no room"


def test_of_one_step_the_hidden_states_are_along_the_axis() -> None:
    figure = figure1(table(steps=(143,), blocks=3, seeds=1))
    for ax in figure.axes:
        assert ax.get_xlabel() == "hidden state, at step 143"
        names = ["wte", "embed", "block1", "block2", "block3", "ln_f"]
        assert ticks(ax) == names
        assert len(ax.lines) == 3 + 1 + 6 + 1, "controls, the line through all, points, accuracy"
        assert heights(ax)[-4] == [0.5, 0.5]
        assert named_ends(ax) == ["accuracy", "symbols", "length", "shuffled"]


def test_low_values_are_not_cut_off() -> None:
    assert figure1(table(low=-0.3)).axes[0].get_ylim()[0] == pytest.approx(-0.3)


def test_spaces_are_not_mixed() -> None:
    raw = table(steps=(0, 8), splits=("val_subset",))
    tsne = [
        {**row, "space": "tsne", "value": 0.77}
        for row in raw.to_pylist()
        if row["layer"] in ("wte", "block1") and row["step"] == 8
    ]
    both = to_table([*raw.to_pylist(), *tsne])
    assert render(figure1(both), "png") == render(figure1(raw), "png")
    (ax,) = figure1(both, FigureSettings(space="tsne")).axes
    assert ax.get_xlabel() == "hidden state, at step 8", "t-SNE ran at the last step only"
    drawn = np.concatenate(heights(ax)[:3])
    assert drawn == pytest.approx([0.77] * 4), "a line through two points, and the points"


def test_what_the_table_lacks_is_one_line() -> None:
    with pytest.raises(InputError) as raised:
        figure1(table(), FigureSettings(space="tsne"))
    assert str(raised.value) == (
        "the table has no ari of hidden states in the space 'tsne'; its spaces are ['raw']"
    )
    with pytest.raises(InputError, match=r"^the table has no ami of hidden states in"):
        figure1(table(), FigureSettings(metric="ami"))


def test_axes_of_the_user_are_drawn_into_with_labels_for_a_legend() -> None:
    scores = table()
    figure = Figure(layout="constrained")
    axes = figure.subplots(1, 3)
    for ax in axes:
        ax.tick_params(labelsize=17)
    assert figure1(scores, axes=axes) is figure
    for ax, same in zip(axes, figure1(scores).axes, strict=True):
        assert heights(ax) == heights(same)
        assert ax.get_title() == title(same)
        assert ax.get_xticklabels()[0].get_fontsize() == 17
    assert not figure.legends
    assert {"block1", "accuracy", *CONTROLS} <= {*axes[0].get_legend_handles_labels()[1]}
    with pytest.raises(InputError, match="axes: 2 given: should be 3, one for each panel"):
        figure1(scores, axes=axes[:2])

"""Figure 1: lines are the means of the table, and bands its range."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from drawn import assert_nothing_cut_off, legend, ticks, title
from planted import with_band
from tasklens.core.errors import InputError
from tasklens.data.instances import JUDGED, SPLIT_MEANINGS
from tasklens.report.figure1 import FigureSettings, figure1
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


def halves(figure: Figure) -> tuple[list[Axes], list[Axes]]:
    """Return the left axes and the right ones, which were added after each."""
    n = len(figure.axes) // 2
    return figure.axes[:n], figure.axes[n:]


def heights(ax: Axes) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), dtype=float).tolist() for line in ax.lines]


def test_lines_are_means_and_bands_reach_from_lowest_to_highest() -> None:
    figure = figure1(table())
    left, right = halves(figure)
    assert [title(ax) for ax in left] == [
        "(a) train_subset\nseen in training",
        "(b) val_subset\nunseen pairs",
        "(c) val_instruction_subset\nunseen instructions",
    ]
    rise = 4 / 5 * np.arange(6) / 6
    for ax, twin in zip(left, right, strict=True):
        assert [level for level, _ in heights(ax)[:3]] == pytest.approx([0.2, 0.4, 0.001])
        np.testing.assert_allclose(heights(ax)[-1], rise + 0.01)
        assert len(ax.collections) == 5, "a band for each of wte, embed, two blocks, ln_f"
        band = ax.collections[-1].get_paths()[0].get_extents()
        np.testing.assert_allclose([band.y0, band.y1], [0, rise[-1] + 0.02], atol=1e-9)
        assert heights(twin) == [[0.5] * 6]
    assert left[0].get_ylabel() == "ARI"
    assert right[-1].get_ylabel() == "accuracy"
    assert [twin.yaxis.get_visible() for twin in right] == [False, False, True]
    assert legend(figure) == [
        *("wte", "embed", "block1", "block2", "ln_f", "accuracy"),
        *(f"control: {name}" for name in ("instruction length", "bag of symbols")),
        "control: shuffled labels",
        "range of 2 runs and 2 KMeans seeds",
    ]


def test_the_band_contains_near_best_starts_and_the_legend_names_them() -> None:
    plain = table()
    wide = with_band(plain, lambda row: -0.2, lambda row: 0.95)
    figure, (left, _) = figure1(wide), halves(figure1(plain))
    for ax, before in zip(halves(figure)[0], left, strict=True):
        assert heights(ax) == heights(before), "lines are means of the kept clusters"
        for band in ax.collections:
            extents = band.get_paths()[0].get_extents()
            np.testing.assert_allclose([extents.y0, extents.y1], [-0.2, 0.95])
        assert ax.get_ylim()[0] == -0.2
    assert legend(figure) == [*legend(figure1(plain))[:-1], "range of 2 runs and KMeans starts"]
    assert_nothing_cut_off(figure)
    other = figure1(with_ami(wide), FigureSettings(metric="ami"))
    assert legend(other)[-1] == "range of 2 runs and 2 KMeans seeds", "starts are of the ARI"


def test_five_splits_are_two_rows_and_a_setting_chooses_some() -> None:
    scores = table(splits=tuple(SPLIT_MEANINGS))
    figure = figure1(scores)
    left, right = halves(figure)
    assert [title(ax).split("\n")[1] for ax in left] == [*SPLIT_MEANINGS.values()]
    assert {round(ax.get_position().y0, 3) for ax in left[:3]} != {
        round(ax.get_position().y0, 3) for ax in left[3:]
    }
    assert figure.get_figwidth() == figure1(table()).get_figwidth(), "no wider than a page"
    assert [twin.yaxis.get_visible() for twin in right] == [False, False, True, False, True]
    unknown = scores.filter(
        (pc.field("split") != "unseen_task_subset") | (pc.field("layer") != "model")
    )
    right = halves(figure1(unknown))[1]
    assert [twin.yaxis.get_visible() for twin in right] == [False, False, True, True, False]
    assert_nothing_cut_off(figure)
    chosen = figure1(scores, FigureSettings(splits=("unseen tasks", "val")))
    assert [title(ax) for ax in halves(chosen)[0]] == [
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
    left, both = (halves(figure)[0] for figure in figures)
    assert [heights(ax) for ax in left] == [heights(ax) for ax in both]
    one, other = (
        [band.get_paths()[0].get_extents().bounds for ax in axes for band in ax.collections]
        for axes in (left, both)
    )
    assert one == other


def test_blocks_go_from_dark_to_light_and_others_differ_without_colour() -> None:
    left, _ = halves(figure1(table(blocks=6)))
    lines = [line for line in left[0].lines[3:] if line.get_linestyle() != "None"]
    grey = [np.dot(to_rgb(line.get_color()), (0.299, 0.587, 0.114)) for line in lines[2:-1]]
    assert (np.diff(grey) > 0.05).all()
    assert grey[-1] < 0.85, "still visible on white"
    patterns = {(str(line.get_linestyle()), line.get_marker()) for line in lines}
    assert len(patterns) == 4, "wte, embed, ln_f and the blocks"


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
    left, _ = halves(figure1(table(splits=splits)))
    assert [title(ax).partition("\n")[0] for ax in left] == titles


@pytest.mark.parametrize("panels", [1, 2, 3])
@pytest.mark.parametrize("blocks", [1, 24])
@pytest.mark.parametrize("steps", [STEPS, (0,)])
def test_everything_is_inside(panels: int, blocks: int, steps: tuple[int, ...]) -> None:
    plain = table(steps, tuple(SPLIT_MEANINGS)[:panels], blocks, seeds=1)
    wide = with_band(plain, lambda row: -0.2, lambda row: 0.95)
    for scores in (plain, wide):
        assert_nothing_cut_off(figure1(scores))


def test_of_many_blocks_the_legend_names_some_and_the_last() -> None:
    names = [name for name in legend(figure1(table(blocks=12))) if name.startswith("block")]
    assert names == [f"block{i}" for i in range(2, 13, 2)]


def test_of_one_step_the_hidden_states_are_along_the_axis() -> None:
    figure = figure1(table(steps=(143,), blocks=3, seeds=1))
    left, right = halves(figure)
    for ax in left:
        assert ax.get_xlabel() == "hidden state, at step 143"
        names = ["wte", "embed", "block1", "block2", "block3", "ln_f"]
        assert ticks(ax) == names
        assert len(ax.lines) == 3 + 1 + 6, "controls, the line through all, and their points"
    assert heights(right[0]) == [[0.5, 0.5]]
    assert legend(figure)[0] == "accuracy"


def test_a_line_can_be_recognised_without_colour() -> None:
    ax = halves(figure1(table(steps=tuple(range(0, 1001, 50)), blocks=6)))[0][0]
    marked = {
        str(line.get_marker()): set(np.asarray(line.get_xdata(), dtype=float))
        for line in ax.lines
        if str(line.get_marker()).startswith("$")
    }
    assert set(marked) == {f"${i}$" for i in range(1, 7)}
    for line in ax.lines:
        if str(line.get_marker()) in marked:
            marker = line._marker  # type: ignore[attr-defined]
            shape = np.asarray(marker.get_path().vertices)
            expected = np.asarray(MarkerStyle(marker.get_marker()).get_path().vertices)
            same = np.allclose(shape / shape.max(), expected / expected.max(), atol=0.001)
            assert same, "a number, without dollars"
    for i in range(1, 6):
        assert marked[f"${i}$"].isdisjoint(marked[f"${i + 1}$"])
    many = halves(figure1(table(blocks=24)))[0][0]
    assert not any(str(line.get_marker()).startswith("$") for line in many.lines)


def test_low_values_are_not_cut_off() -> None:
    left, _ = halves(figure1(table(low=-0.3)))
    assert left[0].get_ylim()[0] == pytest.approx(-0.3)


def test_spaces_are_not_mixed() -> None:
    raw = table(steps=(0, 8), splits=("val_subset",))
    tsne = [
        {**row, "space": "tsne", "value": 0.77}
        for row in raw.to_pylist()
        if row["layer"] in ("wte", "block1") and row["step"] == 8
    ]
    both = to_table([*raw.to_pylist(), *tsne])
    assert render(figure1(both), "png") == render(figure1(raw), "png")
    left, right = halves(figure1(both, FigureSettings(space="tsne")))
    assert left[0].get_xlabel() == "hidden state, at step 8", "t-SNE ran at the last step only"
    drawn = np.concatenate(heights(left[0])[3:])
    assert drawn == pytest.approx([0.77] * 4), "a line through two points, and the points"
    assert len(right[0].lines) == 1


def test_what_the_table_lacks_is_one_line() -> None:
    with pytest.raises(InputError) as raised:
        figure1(table(), FigureSettings(space="tsne"))
    assert str(raised.value) == (
        "the table has no ari of hidden states in the space 'tsne'; its spaces are ['raw']"
    )
    with pytest.raises(InputError, match=r"^the table has no ami of hidden states in"):
        figure1(table(), FigureSettings(metric="ami"))

"""Figures of tables and of a verdict: their cells, marks and lines are the numbers they show."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from drawn import assert_nothing_cut_off, sizes
from planted import VIEW_ARI, planted_table, planted_view, sound
from tasklens.core.errors import InputError
from tasklens.findings.curves import curves_of_table
from tasklens.findings.verdict import RULES, Check, Rule, Verdict, Word, judge
from tasklens.report.heatmaps import (
    NAMED_ROWS,
    figure_agreement,
    figure_contingency,
    figure_order,
    figure_world,
)
from tasklens.report.style import render
from tasklens.report.verdict_figure import ARROW, EDGE, LIMIT, WORDS, figure_verdict
from tasklens.report.view import TaskView, View

Values = NDArray[np.float64]


def heat_maps(figure: Figure) -> list[Axes]:
    """Return the panels, without the bar of colours."""
    return [ax for ax in figure.axes if ax.images]


def cells(ax: Axes) -> Values:
    """Return what the colours of a panel say, the lowest row last."""
    image = ax.images[0]
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert image.get_cmap().name == "cividis"
    values = np.ma.filled(np.ma.asarray(image.get_array(), dtype=np.float64), np.nan)
    return values if image.origin == "upper" else values[::-1]


def words(ax: Axes, axis: str) -> list[str]:
    ticks = ax.get_xticklabels() if axis == "x" else ax.get_yticklabels()
    return [tick.get_text() for tick in ticks]


def numbers(ax: Axes) -> dict[tuple[float, float], str]:
    """Return what is written into the cells, by row and column."""
    return {text.get_position()[::-1]: text.get_text() for text in ax.texts}


def title(ax: Axes) -> str:
    return ax.get_title(loc="left")


# --- Agreement ---


def test_agreement_is_that_of_the_table_with_the_input_at_the_bottom() -> None:
    view = planted_view()
    figure = figure_agreement(view, "train_subset")
    task, of_input, output = heat_maps(figure)
    expected = np.array([VIEW_ARI[state] for state in ("block2", "block1", "embed")])
    np.testing.assert_allclose(cells(task), expected)
    np.testing.assert_allclose(cells(of_input), 0.5 - expected / 2)
    np.testing.assert_allclose(cells(output), 0.2)
    titles = [title(ax) for ax in (task, of_input, output)]
    assert titles == [f"ARI against the {of}" for of in ("task", "input", "output")]
    low, high = task.get_ylim()
    assert words(task, "y") == ["embed", "block1", "block2"]
    assert low < high, "the first state is the lowest"
    assert words(task, "x") == ["0", "10", "40"]
    assert figure.get_suptitle() == "training subset"
    np.testing.assert_allclose(cells(heat_maps(figure_agreement(view))[0]), expected + 0.1)


def test_only_what_was_scored_has_a_panel_or_a_colour() -> None:
    view = planted_view(outputs=False)
    rows = [r for r in view.table.to_pylist() if (r["step"], r["layer"]) != (10, "block1")]
    view = dataclasses.replace(view, table=type(view.table).from_pylist(rows, view.table.schema))
    panels = heat_maps(figure_agreement(view))
    assert [title(ax) for ax in panels] == ["ARI against the task", "ARI against the input"]
    assert np.argwhere(np.isnan(cells(panels[0]))).tolist() == [[1, 1]]


def test_columns_of_many_checkpoints_are_named_in_part() -> None:
    view = planted_view()
    steps = tuple(range(0, 41_000, 1000))
    ax = heat_maps(figure_agreement(dataclasses.replace(view, steps=(*steps, 10, 40))))[0]
    assert words(ax, "x")[:4] == ["0", "10k", "21k", "32k"]
    assert ax.get_xticks().tolist() == [0, 10, 21, 32, 42]


def test_a_table_without_agreement_is_refused() -> None:
    view = planted_view()
    view = dataclasses.replace(view, table=view.table.slice(0, 0))
    with pytest.raises(InputError, match=r"^seen: its table holds no ARI of a state on val_subset"):
        figure_agreement(view)


# --- Tasks and clusters ---


def test_counts_are_those_made_by_hand() -> None:
    figure = figure_contingency(planted_view(), "block2", 40, "train_subset")
    (ax,) = heat_maps(figure)
    counts = np.array([[4, 0, 0], [0, 4, 0], [0, 1, 3]])
    np.testing.assert_allclose(cells(ax), counts / 4)
    assert numbers(ax) == {place: str(n) for place, n in np.ndenumerate(counts)}
    assert words(ax, "x") == words(ax, "y") == ["plus", "minus", "swap"]
    assert figure.get_suptitle() == "block2, step 40, training subset: 12 points"
    top, bottom = ax.get_ylim()
    assert top > bottom, "the first task is the highest"


def test_clusters_left_over_come_last() -> None:
    figure = figure_contingency(planted_view())
    assert figure.get_suptitle() == "block2, step 40, unseen pairs: 12 points"
    (ax,) = heat_maps(figure)
    assert words(ax, "x") == ["plus", "minus", "swap", "left over 1"]
    assert numbers(ax) == {
        place: str(n)
        for place, n in np.ndenumerate(np.array([[4, 0, 0, 0], [0, 4, 0, 0], [0, 1, 2, 1]]))
    }


def test_clusters_that_are_fewer_than_the_tasks_are_those_there_are() -> None:
    (ax,) = heat_maps(figure_contingency(planted_view(), "block2", 10, "train_subset"))
    assert words(ax, "y") == ["plus", "minus", "swap"]
    assert words(ax, "x") == ["plus", "swap"]
    np.testing.assert_allclose(cells(ax), [[1, 0], [1, 0], [0, 1]])


@pytest.mark.parametrize(("n", "written"), [(12, 144), (13, 0)])
def test_few_tasks_have_numbers_in_their_cells(n: int, written: int) -> None:
    view = planted_view()
    its = view.splits["val_subset"]
    its = dataclasses.replace(
        its, parts={"task": np.arange(n)}, assigned={"block2": np.tile(np.arange(n), (3, 1))}
    )
    names = {"task": tuple(f"t{i}" for i in range(n))}
    view = dataclasses.replace(view, splits={"val_subset": its}, names=names)
    (ax,) = heat_maps(figure_contingency(view, "block2"))
    np.testing.assert_allclose(cells(ax), np.eye(n))
    assert len(ax.texts) == written


def test_numbers_can_be_read_on_their_colour() -> None:
    (ax,) = heat_maps(figure_contingency(planted_view(), "block2", 40, "train_subset"))
    colors = {text.get_position()[::-1]: text.get_color() for text in ax.texts}
    assert colors[0, 0] == "black"
    assert colors[0, 1] == colors[2, 1] == "white"


# --- The order in which tasks form ---


def test_tasks_stand_in_the_order_in_which_they_formed() -> None:
    (ax,) = heat_maps(figure_order(planted_view(), "block2", "train_subset"))
    # Of two tasks in one cluster, by half each, the first takes it; the last is on its own.
    assert words(ax, "y") == ["plus", "swap", "minus"]
    np.testing.assert_allclose(
        cells(ax), [[1 / 4, 0.5, 1], [1 / 6, 1, 0.75], [1 / 6, 0, 0.8]], atol=1e-12
    )
    (marks,) = ax.lines
    assert np.asarray(marks.get_xydata()).tolist() == [[1, 0], [1, 1], [2, 2]]
    assert title(ax) == "block2, training subset: 3 of 3 tasks formed"
    top, bottom = ax.get_ylim()
    assert top > bottom, "the first to form is the highest"


def test_what_has_not_formed_comes_last_and_has_no_mark() -> None:
    view = planted_view()
    its = view.splits["train_subset"]
    never = dataclasses.replace(its.followed["block1"], formed=(None, 40, 0))
    its = dataclasses.replace(its, followed={"block1": never})
    view = dataclasses.replace(view, splits={"train_subset": its})
    (ax,) = heat_maps(figure_order(view, "block1"))
    assert words(ax, "y") == ["swap", "minus", "plus"]
    assert np.asarray(ax.lines[0].get_xydata()).tolist() == [[0, 0], [2, 1]]
    assert title(ax) == "block1, training subset: 2 of 3 tasks formed"
    (ax,) = heat_maps(figure_order(planted_view(), "embed"))
    assert not np.size(ax.lines[0].get_xdata())
    assert title(ax) == "embed, unseen pairs: 0 of 3 tasks formed"


def test_of_many_tasks_some_are_named() -> None:
    view = planted_view()
    its = view.splits["val_subset"]
    n = NAMED_ROWS + 1
    overlap = np.tile(np.arange(n) / n, (3, 1))
    many = dataclasses.replace(
        its.followed["block2"], overlap=overlap, formed=(None,) * n, tasks=np.arange(n)
    )
    its = dataclasses.replace(its, followed={"block2": many})
    names = {"task": tuple(f"t{i}" for i in range(n))}
    view = dataclasses.replace(view, splits={"val_subset": its}, names=names)
    (ax,) = heat_maps(figure_order(view, "block2"))
    assert words(ax, "y") == [f"t{i}" for i in range(0, n, 2)]
    np.testing.assert_allclose(cells(ax), overlap.T)


# --- What the model was asked about ---


def test_the_world_is_its_two_matrices() -> None:
    view = planted_view()
    output, symbols = heat_maps(figure_world(view))
    assert title(output) == "share of common inputs\nmapped to the same output"
    np.testing.assert_array_equal(cells(output), np.asarray(view.world.same_output))
    assert title(symbols) == "cosine of mean counts\nof symbols"
    np.testing.assert_allclose(cells(symbols), view.world.same_symbols)
    assert numbers(symbols)[1, 2] == "0.71"
    names = ["plus", "minus", "swap"]
    assert words(output, "y") == words(output, "x") == words(symbols, "x") == names


def test_without_functions_it_is_one_matrix() -> None:
    (symbols,) = heat_maps(figure_world(planted_view(outputs=False)))
    assert title(symbols) == "cosine of mean counts\nof tokens"


# --- The verdict ---


def rule(finding: str, above: float = -np.inf, below: float = np.inf, name: str = "a") -> Rule:
    return Rule(finding, f"number {name}", lambda *_: np.zeros(1), ("x",), "", above, below)


def check(
    of: Rule, verdict: Word, value: float, low: float, high: float, note: str = "", split: str = "x"
) -> Check:
    return Check(of, split, (value,), value, low, high, verdict, note)


def rows(ax: Axes) -> dict[float, list[str]]:
    """Return what is written in each row, from left to right."""
    found: dict[float, list[tuple[float, str]]] = {}
    for text in ax.texts:
        x, y = text.get_position()
        found.setdefault(y, []).append((x, text.get_text()))
    return {y: [word for _, word in sorted(its)] for y, its in found.items()}


def drawn(ax: Axes, row: int) -> list[tuple[str, str, list[float]]]:
    """Return what is drawn in a row: shape or line, colour, and where."""
    return [
        (str(line.get_marker()), to_hex(line.get_color()), np.unique(line.get_xdata()).tolist())
        for line in ax.lines
        if np.mean(np.asarray(line.get_ydata(), dtype=float)) == row
    ]


def grey(ax: Axes) -> list[list[float]]:
    boxes = [c.get_paths()[0].get_extents() for c in ax.collections]
    return [[box.x0, box.x1] for box in boxes]


def test_a_check_is_its_interval_its_value_and_its_threshold() -> None:
    a = rule("emergence", above=0.7)
    verdict = Verdict(
        (("r", 0),),
        (
            check(a, "holds", 0.9, 0.8, 0.95),
            check(a, "fails", -0.5, -0.6, -0.4, split="val_subset"),
            check(rule("saturation", -0.1, 0.1, "b"), "undecided", 0.05, 0.0, 0.2),
        ),
        "instructions",
    )
    figure = figure_verdict(verdict)
    (ax,) = figure.axes
    blue, red, orange = (WORDS[word][0] for word in ("holds", "fails", "undecided"))
    assert drawn(ax, 1) == [
        ("None", "#000000", [0.7]),
        ("None", blue, [0.8, 0.95]),
        ("o", blue, [0.9]),
    ]
    assert drawn(ax, 2)[1:] == [("None", red, [-0.6, -0.4]), ("X", red, [-0.5])]
    assert drawn(ax, 4) == [
        ("None", "#000000", [-0.1]),
        ("None", "#000000", [0.1]),
        ("None", orange, [0.0, 0.2]),
        ("D", orange, [0.05]),
    ]
    assert grey(ax) == [[0.7, EDGE], [0.7, EDGE], [-0.1, 0.1]]
    text = rows(ax)
    assert text[0] == ["emergence: ARI in the upper layers rises through training", "fails"]
    assert text[1] == ["number a, > 0.7", "x", "0.90  [0.80, 0.95]"]
    assert text[2] == ["unseen pairs", "-0.50  [-0.60, -0.40]"], "the same number is named once"
    assert text[3] == ["saturation: it saturates at a high value", "undecided"]
    assert text[4] == ["number b, -0.1 to 0.1", "x", "0.05  [0.00, 0.20]"]
    assert text[5][0].startswith("depth: ")
    assert text[6] == ["no data were held out"]
    assert figure.texts[0].get_text() == (
        "r (seed 0): 8 findings: 0 holds, 1 fails, 7 undecided; 95% intervals over instructions"
    )


def test_words_differ_in_shape_and_colour() -> None:
    assert len({color for color, _ in WORDS.values()}) == 3
    assert len({marker for _, marker in WORDS.values()}) == 3
    figure = figure_verdict(Verdict((("r", 0),), (check(rule("depth"), "holds", 0, 0, 0),)))
    handles = figure.legends[0].legend_handles
    shapes = {str(h.get_label()): h.get_marker() for h in handles if hasattr(h, "get_marker")}  # type: ignore[union-attr]
    assert {word: shapes[word] for word in WORDS} == {
        word: marker for word, (_, marker) in WORDS.items()
    }


@pytest.mark.parametrize(
    ("value", "low", "high", "dot", "line", "arrows"),
    [
        (1.9, 1.1, 3.8, LIMIT, [LIMIT], [ARROW]),
        (0.9, 0.5, 1.2, 0.9, [0.5, LIMIT], [ARROW]),
        (-2.0, -3.0, 0.5, -LIMIT, [-LIMIT, 0.5], [-ARROW]),
        (0.0, -2.0, 2.0, 0.0, [-LIMIT, LIMIT], [ARROW, -ARROW]),
        (np.inf, np.inf, np.inf, LIMIT, [LIMIT], [ARROW]),
        (1.0, -1.0, 1.0, 1.0, [-1.0, 1.0], []),
    ],
)
def test_what_is_beyond_the_axis_ends_in_an_arrow(
    value: float, low: float, high: float, dot: float, line: list[float], arrows: list[float]
) -> None:
    one = check(rule("emergence", below=0.5), "fails", value, low, high)
    (ax,) = figure_verdict(Verdict((("r", 0),), (one,))).axes
    _, interval, mark, *beyond = drawn(ax, 1)
    assert interval[2] == line
    assert mark[2] == [dot]
    assert [(marker, x) for marker, _, x in beyond] == [
        (">" if x > 0 else "<", [x]) for x in arrows
    ]
    assert rows(ax)[1][-1] == f"{value:.2f}  [{low:.2f}, {high:.2f}]"


def test_what_is_missing_is_said_and_not_drawn() -> None:
    nan = float("nan")
    checks = (
        check(rule("emergence", above=0.2), "undecided", nan, nan, nan, "a single checkpoint"),
        check(rule("saturation", above=0.2), "undecided", 0.5, nan, nan, "no interval: of a table"),
    )
    (ax,) = figure_verdict(Verdict((("r", 0),), checks)).axes
    assert drawn(ax, 1) == []
    assert rows(ax)[1] == ["number a, > 0.2", "x", "a single checkpoint"]
    assert [marker for marker, _, _ in drawn(ax, 3)] == ["None", "D"], "threshold and value"
    assert rows(ax)[3][-1] == "0.50  no interval"


def test_a_verdict_of_several_runs_names_few_of_them() -> None:
    one = (check(rule("emergence"), "holds", 0.5, 0.4, 0.6),)
    two, five = (
        figure_verdict(Verdict(tuple((f"r{i}", i) for i in range(n)), one)).texts[0].get_text()
        for n in (2, 5)
    )
    assert two.startswith("r0 (seed 0), r1 (seed 1): 8 findings: 1 holds")
    assert five.startswith("5 runs: 8 findings: ")


def test_without_checks_there_is_nothing_to_draw() -> None:
    with pytest.raises(InputError, match=r"^the verdict has no checks: there is nothing to draw$"):
        figure_verdict(Verdict((("r", 0),), ()))


# --- All of them ---


@functools.cache
def whole_verdict() -> Verdict:
    return judge(curves_of_table(planted_table(sound, seeds=(0, 1))))


FIGURES: dict[str, Callable[[View], Figure]] = {
    "agreement": figure_agreement,
    "contingency": figure_contingency,
    "order": figure_order,
    "world": figure_world,
    "verdict": lambda _: figure_verdict(whole_verdict()),
}


@pytest.mark.parametrize("name", sorted(FIGURES.keys() - {"verdict"}))
@pytest.mark.parametrize("long", [False, True])
def test_nothing_is_cut_off(name: str, long: bool) -> None:
    view = planted_view()
    if long:
        names = tuple(f"{name}, a task with a long name" for name in view.names["task"])
        tasks = tuple(TaskView(name) for name in names)
        world = dataclasses.replace(view.world, tasks=tasks)
        view = dataclasses.replace(view, names={**view.names, "task": names}, world=world)
    figure = FIGURES[name](view)
    assert_nothing_cut_off(figure)
    for ax in heat_maps(figure):
        box = ax.get_window_extent()
        assert min(box.width, box.height) > 0.4 * figure.dpi


def test_the_texts_of_a_verdict_are_inside_and_do_not_run_into_each_other() -> None:
    verdict = whole_verdict()
    assert {c.rule for c in verdict.checks} == set(RULES)
    figure = figure_verdict(verdict)
    assert_nothing_cut_off(figure)
    (ax,) = figure.axes
    boxes = [(text.get_window_extent(), text.get_text()) for text in ax.texts]
    for i, (box, one) in enumerate(boxes):
        for other_box, other in boxes[:i]:
            assert not box.overlaps(other_box), (one, other)


def test_global_settings_do_not_change_a_figure() -> None:
    expected = render(figure_order(planted_view()), "png")
    with mpl.rc_context({"font.size": 30, "image.cmap": "jet", "savefig.bbox": "tight"}):
        assert render(figure_order(planted_view()), "png") == expected


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_in_a_style_of_their_own(name: str) -> None:
    expected = sizes(FIGURES[name](planted_view()))
    with mpl.rc_context({"font.size": 30, "axes.titlesize": 40, "lines.linewidth": 9}):
        assert sizes(FIGURES[name](planted_view())) == expected


STATES, STEPS = "there are embed, block1, block2", "there are (0, 10, 40)"
SPLITS = "there are train_subset, val_subset"
MISSING: list[tuple[Callable[..., Figure], dict[str, Any], str]] = [
    (figure_agreement, {"split": "x"}, f"no split 'x'; {SPLITS}"),
    (figure_contingency, {"split": "x"}, f"no split 'x'; {SPLITS}"),
    (figure_contingency, {"step": 11}, f"no checkpoint at step 11; {STEPS}"),
    (figure_contingency, {"state": "block7"}, f"no state 'block7'; {STATES}"),
    (figure_order, {"split": "x"}, f"no split 'x'; {SPLITS}"),
    (figure_order, {"state": "block7"}, f"no state 'block7'; {STATES}"),
]


@pytest.mark.parametrize(("draw", "asked", "message"), MISSING)
def test_what_is_not_there_is_one_line_that_names_what_is(
    draw: Callable[..., Figure], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        draw(planted_view(), **asked)
    assert str(raised.value) == f"seen: {message}"

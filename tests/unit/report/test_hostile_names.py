"""Every figure: a name is drawn as the text that it is, whatever characters it has."""

import dataclasses
import io
import xml.etree.ElementTree
from collections.abc import Callable, Sequence

import matplotlib as mpl
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from drawn import ticks
from hostile import ACTS, HOSTILE
from planted import planted_table
from tasklens.findings.curves import curves_of_table
from tasklens.findings.verdict import judge
from tasklens.report.figure1 import figure1
from tasklens.report.figure2 import figure2
from tasklens.report.heatmaps import (
    figure_agreement,
    figure_contingency,
    figure_order,
    figure_world,
)
from tasklens.report.maps import figure_forming, figure_layers, figure_map
from tasklens.report.style import IN_TITLE, LONGEST, drawable, in_style, render
from tasklens.report.sweep_figures import one_at_a_time, phase_diagram
from tasklens.report.verdict_figure import figure_verdict
from tasklens.report.view import TaskView, View
from views import planted_view

SPLITS, STATES = ("train_subset", "val_subset"), ("embed", "block1", "block2")


def renamed(table: pa.Table, names: dict[str, str]) -> pa.Table:
    """Return a table of scores with other names of splits, states or runs."""
    for column in ("run", "split", "layer"):
        values = [names.get(value, value) for value in table[column].to_pylist()]
        table = table.set_column(table.column_names.index(column), column, pa.array(values))
    return table


def storable(name: str) -> str:
    """Return a name that a table can hold, and that is not empty."""
    return name.encode("utf-8", "replace").decode() or "?"


def named_view(names: Sequence[str]) -> View:
    """Return a view whose tasks, inputs, outputs, splits, states and run have these names."""
    view, (first, second, third) = planted_view(), map(storable, names)
    new = dict(zip(STATES, (first, second, third), strict=True))
    new |= dict(zip(SPLITS, (first, second), strict=True)) | {"seen": first}
    splits = {
        new[split]: dataclasses.replace(
            points,
            maps={(kind, new[state]): each for (kind, state), each in points.maps.items()},
            shown_variance={
                (plane, new[state]): each for (plane, state), each in points.shown_variance.items()
            },
            shown_between={new[state]: each for state, each in points.shown_between.items()},
            assigned={new[state]: each for state, each in points.assigned.items()},
            followed={new[state]: each for state, each in points.followed.items()},
        )
        for split, points in view.splits.items()
    }
    texts = {"task": tuple(names), "input": (*names, "d"), "output": (*names, *"defghijkl")}
    return dataclasses.replace(
        view,
        run=first,
        states=(first, second, third),
        splits=splits,
        names=texts,
        table=renamed(view.table, new),
        world=dataclasses.replace(view.world, tasks=tuple(map(TaskView, names))),
    )


def named_table(names: Sequence[str]) -> pa.Table:
    """Return scores in which two splits, two states and two runs have the names."""
    first, second, third = map(storable, names)
    table = planted_table(seeds=(0, 1), splits=SPLITS)
    runs = sorted(set(table["run"].to_pylist()))
    new = {"val_subset": first, "train_subset": second, "wte": third, "ln_f": first}
    return renamed(table, new | dict(zip(runs, (first, second), strict=False)))


def points(names: Sequence[str]) -> pa.Table:
    """Return the points of a sweep whose settings and values have the names."""
    first, second, third = map(storable, names)
    return pa.Table.from_pylist(
        [
            {"run": f"{x}{y}", "seed": 0, first: x, second: y, "split": split, "layer": "block1"}
            | {"space": "raw", "final": 0.1, "peak": 0.5, "accuracy": 0.2}
            for x, y in ((first, third), (second, third), (first, second))
            for split in ("train_subset", third)
        ]
    )


Names = Sequence[str]
#: Each figure with the names that it shows, of three.
FIGURES: dict[str, tuple[Callable[[Names], Figure], Sequence[int]]] = {
    "figure1": (lambda names: figure1(named_table(names)), (0, 1, 2)),
    "figure2": (lambda names: figure2(named_table(names), *map(storable, names[:2])), (0, 2)),
    "map": (lambda names: figure_map(named_view(names), storable(names[2])), (0, 1, 2)),
    "inputs": (lambda names: figure_forming(named_view(names), color="input"), (0, 1, 2)),
    "outputs": (lambda names: figure_layers(named_view(names), color="output"), (0, 1, 2)),
    "clusters": (lambda names: figure_layers(named_view(names), color="cluster"), (0, 1, 2)),
    "agreement": (lambda names: figure_agreement(named_view(names)), (0, 1, 2)),
    "contingency": (lambda names: figure_contingency(named_view(names)), (0, 1, 2)),
    "order": (lambda names: figure_order(named_view(names)), (0, 1, 2)),
    "world": (lambda names: figure_world(named_view(names)), (0, 1, 2)),
    "verdict": (lambda names: figure_verdict(judge(curves_of_table(named_table(names)))), (0,)),
    "phase": (
        lambda names: phase_diagram(
            points(names), storable(names[0]), storable(names[1]), split=storable(names[2])
        ),
        (0, 1, 2),
    ),
    "around": (
        lambda names: one_at_a_time(
            points(names),
            [(storable(names[0]),), (storable(names[1]),)],
            {storable(names[0]): storable(names[0]), storable(names[1]): storable(names[2])},
            split=storable(names[2]),
        ),
        (0, 1, 2),
    ),
}
#: In threes, each of which is one figure's.
THREES = [list(HOSTILE.values())[i : i + 3] for i in range(0, len(HOSTILE), 3)]


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.long
@pytest.mark.parametrize("figure", FIGURES)
def test_every_name_is_drawn_as_it_is(figure: str) -> None:
    draw, shown = FIGURES[figure]
    for names in THREES:
        drawn = draw(names)
        drawn.draw_without_rendering()
        for text in texts(drawn):
            assert not ACTS.search(text.get_text())
            assert not ("$" in text.get_text() and text.get_parse_math())
        contents = [text.get_text() for text in texts(drawn)]
        for name in (names[i] for i in shown):
            whole = [in_style(drawable)(each) for each in (name, storable(name))]
            short = [in_style(drawable)(each, IN_TITLE) for each in (name, storable(name))]
            assert any(each in text for each in whole + short for text in contents), name


@pytest.mark.long
@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_of_such_names_is_written_in_every_format(figure: str) -> None:
    name = "_$x_{$ \\frac \x00\x1b[2J\t\r\n\u202e 猫 <&]]>--\ud83d"
    drawn = FIGURES[figure][0]([name, f"{name}1", f"2{name}"])
    assert render(drawn, "png").startswith(b"\x89PNG")
    assert render(drawn, "pdf").startswith(b"%PDF")
    content = io.BytesIO()
    drawn.savefig(content, format="svg")
    xml.etree.ElementTree.fromstring(content.getvalue())


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_font_has_is_unchanged(name: str) -> None:
    shown = in_style(drawable)(HOSTILE[name])
    if name in ("mathematics", "broken mathematics", "TeX", "underscore", "formats", "long"):
        assert shown == HOSTILE[name]
    assert len(shown) <= LONGEST
    assert not ACTS.search(shown)
    assert "\n" not in shown


def test_what_no_font_has_is_written_out_and_keeps_names_apart() -> None:
    assert in_style(drawable)("größe 猫") == r"größe \u732b"
    assert in_style(drawable)("犬") != in_style(drawable)("猫")
    long = [f"{'x' * 400}{i}{'y' * 10}" for i in range(2)]
    assert in_style(drawable)(long[0]) != in_style(drawable)(long[1])


@pytest.mark.parametrize("draw", [figure_map, figure_contingency, figure_order])
def test_the_axes_of_a_caller_keep_their_mathematics(draw: Callable[..., Figure]) -> None:
    name = "_$x_{$"
    view = named_view([name, "$5 vs $10", "c"])
    with mpl.rc_context({"text.parse_math": True}):
        figure = Figure()
        ax = figure.subplots()
        mine = ax.text(0, 0, r"$\alpha$")
        draw(view, name, ax=ax)
        figure.draw_without_rendering()
        assert mine.get_parse_math()
        shown = [text for text in texts(figure) if "$" in text.get_text() and text is not mine]
        assert {name, "$5 vs $10"} <= {text.get_text() for text in shown}
        assert not any(text.get_parse_math() for text in shown)
        draw(named_view(["a", "b", "c"]), "a", ax=ax)
        ax.set_title(r"$\beta$")
        assert ax.title.get_parse_math()


def test_axes_that_share_the_ticks_of_a_caller_draw_the_names_too() -> None:
    figure = Figure()
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    figure_contingency(named_view(["_$x_{$", "$5 vs $10", "c"]), ax=axes[0, 0])
    figure.draw_without_rendering()
    assert {"_$x_{$", "$5 vs $10"} <= {*ticks(axes[1, 1])} & {*ticks(axes[1, 0], "y")}


@pytest.mark.parametrize("draw", [figure_map, figure_contingency, figure_order])
def test_tex_reads_no_name(draw: Callable[..., Figure]) -> None:
    with mpl.rc_context({"text.usetex": True}):
        ax = Figure().subplots()
        drawn = draw(named_view(["_$x_{$", "100 %", "a_b"]), "a_b", ax=ax)
        assert not any(text.get_usetex() for text in texts(drawn))


def test_a_title_that_is_set_later_may_be_mathematics() -> None:
    figure = figure_map(planted_view(), "block2")
    for side in ("left", "center", "right"):
        figure.axes[0].set_title(r"$\alpha$", loc=side)
    titles = [text for text in texts(figure) if text.get_text() == r"$\alpha$"]
    assert [text.get_parse_math() for text in titles] == [True] * 3

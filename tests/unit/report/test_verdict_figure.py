"""The figure of a verdict: its marks and texts are the checks."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from drawn import legend
from planted import planted_runs, planted_table
from tasklens.core.errors import InputError
from tasklens.findings.check import Check, Outcome
from tasklens.findings.curves import curves_of_table
from tasklens.findings.rules import RULES, Rule
from tasklens.findings.use import USE, USE_RULES
from tasklens.findings.verdict import Verdict, judge
from tasklens.report.verdict_figure import ARROW, EDGE, LIMIT, LOOKS, figure_verdict


def rule(finding: str, above: float = -np.inf, below: float = np.inf, name: str = "a") -> Rule:
    return Rule(finding, lambda *_: np.zeros(1), f"number {name}", "", above, below, ("x",))


def check(rule: Rule, verdict: Outcome, value: float, *ends: float, **others: str) -> Check:
    split, note = others.get("split", "x"), others.get("note", "")
    return Check(rule, split, (value,), value, ends[0], ends[1], verdict, note)


HOLDS = check(rule("emergence"), "holds", 0.5, 0.4, 0.6)


def rows(ax: Axes) -> dict[float, list[str]]:
    """Return what is written in each row, from left to right."""
    texts = sorted((text.get_position(), text.get_text()) for text in ax.texts)
    return {row: [text for (_, y), text in texts if y == row] for (_, row), _ in texts}


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
    blue, red, orange = (LOOKS[outcome][0] for outcome in ("holds", "fails", "undecided"))
    threshold = ("None", "#000000", [0.7])
    assert drawn(ax, 1) == [threshold, ("None", blue, [0.8, 0.95]), ("o", blue, [0.9])]
    assert drawn(ax, 2) == [threshold, ("None", red, [-0.6, -0.4]), ("X", red, [-0.5])]
    assert drawn(ax, 4) == [
        *(("None", "#000000", [-0.1]), ("None", "#000000", [0.1])),
        *(("None", orange, [0.0, 0.2]), ("D", orange, [0.05])),
    ]
    assert grey(ax) == [[0.7, EDGE], [0.7, EDGE], [-0.1, 0.1]]
    text = rows(ax)
    assert text[0] == ["emergence: ARI in the upper layers rises through training", "fails"]
    assert text[1] == ["number a, > 0.7", "x", "0.90  [0.80, 0.95]"]
    assert text[2] == ["val_subset", "-0.50  [-0.60, -0.40]"], "the same number is named once"
    assert text[3] == ["saturation: the ARI saturates at a high value", "undecided"]
    assert text[4] == ["number b, -0.1 to 0.1", "x", "0.05  [0.00, 0.20]"]
    assert text[5][0].startswith("depth: ")
    assert text[6] == ["no data were held out"]
    assert figure.texts[0].get_text() == (
        "r (seed 0): 8 findings: 0 holds, 1 fails, 7 undecided; 95% intervals over instructions"
    )


def test_outcomes_differ_in_shape_and_colour() -> None:
    assert len({color for color, _ in LOOKS.values()}) == 3
    assert len({marker for _, marker in LOOKS.values()}) == 3
    figure = figure_verdict(Verdict((("r", 0),), (HOLDS,)))
    assert legend(figure)[:4] == [*LOOKS, "threshold"]
    drawn = {line.get_label(): line.get_marker() for line in figure.findobj(Line2D)}
    assert {outcome: drawn[outcome] for outcome in LOOKS} == {
        outcome: marker for outcome, (_, marker) in LOOKS.items()
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
    beyond_axis = check(rule("emergence", below=0.5), "fails", value, low, high)
    (ax,) = figure_verdict(Verdict((("r", 0),), (beyond_axis,))).axes
    _, interval, mark, *beyond = drawn(ax, 1)
    assert interval[2] == line
    assert mark[2] == [dot]
    assert [(marker, x) for marker, _, x in beyond] == [
        (">" if x > 0 else "<", [x]) for x in arrows
    ]
    assert rows(ax)[1][-1] == f"{value:.2f}  [{low:.2f}, {high:.2f}]"


def test_missing_numbers_are_written_and_not_drawn() -> None:
    nan = float("nan")
    checks = (
        check(rule("emergence", above=0.2), "undecided", nan, nan, nan, note="a single checkpoint"),
        check(rule("saturation", above=0.2), "undecided", 0.5, nan, nan, note="no interval"),
    )
    (ax,) = figure_verdict(Verdict((("r", 0),), checks)).axes
    assert drawn(ax, 1) == []
    assert rows(ax)[1] == ["number a, > 0.2", "x", "a single checkpoint"]
    assert [marker for marker, _, _ in drawn(ax, 3)] == ["None", "D"], "threshold and value"
    assert rows(ax)[3][-1] == "0.50  no interval"


def test_a_verdict_of_several_runs_names_few_of_them_and_one_without_checks_is_refused() -> None:
    two, five = (
        figure_verdict(Verdict(tuple((f"r{i}", i) for i in range(n)), (HOLDS,))).texts[0].get_text()
        for n in (2, 5)
    )
    assert two.startswith("r0 (seed 0), r1 (seed 1): 8 findings: 1 holds")
    assert five.startswith("5 runs: 8 findings: ")
    with pytest.raises(InputError, match=r"^the verdict has no checks: there is nothing to draw$"):
        figure_verdict(Verdict((("r", 0),), ()))


def test_use_stands_apart_below_the_findings() -> None:
    figure = figure_verdict(judge(planted_runs()))
    (ax,) = figure.axes
    text = rows(ax)
    (at,) = [row for row, texts in text.items() if texts[0].startswith("used: ")]
    assert text[at] == [f"used: {USE['used']}", "holds"]
    assert text[at - 1] == [
        "apart from the findings, in block6; earlier tokens still carry the own task"
    ]
    assert at - 2 not in text, "there is an empty row above"
    assert text[max(text) - 1][0] == "p value of a shift among random directions, < 0.01"
    assert text[max(text)][-1] == "0.005  [0.005, 0.005]"
    assert (
        figure.texts[0]
        .get_text()
        .endswith(": 8 findings: 8 holds, 0 fails, 0 undecided; 95% intervals over runs")
    )


@pytest.mark.parametrize("use", [False, True])
def test_no_text_runs_into_another(use: bool) -> None:
    verdict = judge(planted_runs() if use else curves_of_table(planted_table(seeds=(0, 1))))
    assert {c.rule for c in verdict.checks} == {*RULES, *(USE_RULES if use else ())}
    figure = figure_verdict(verdict)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = [(text.get_window_extent(), text.get_text()) for text in ax.texts]
    for i, (box, text) in enumerate(boxes):
        for other_box, other in boxes[:i]:
            assert not box.overlaps(other_box), (text, other)

"""The axis of training steps: its scale, its label and its ticks."""

import pytest
from matplotlib.axes import Axes

from drawn import assert_no_texts_overlap, ticks
from tasklens.report.step_axis import step_axis, step_label
from tasklens.report.style import in_style, new_figure


def axes(steps: tuple[int, ...], wide: float = 2.0, *, linear: bool = False) -> Axes:
    ax = in_style(new_figure)(wide, 2, "constrained").subplots()
    in_style(step_axis)(ax, steps, linear=linear)
    return ax


LONG = (0, *range(1000, 143_001, 1000))


@pytest.mark.parametrize(
    ("steps", "linear_to", "labels"),
    [
        ((0, 1, 2, 4, *range(8, 161, 8)), 8, ["0", "8", "20", "50", "160"]),
        ((0, 1, 2, *range(200, 2001, 200)), 200, ["0", "200", "500", "1k", "2k"]),
        (LONG, 1000, ["0", "1k", "10k", "143k"]),
        ((0, 1, 2, 4, 8, 16, 32), 1, ["0", "1", "2", "5", "10", "32"]),
    ],
)
def test_the_axis_is_linear_up_to_the_even_checkpoints(
    steps: tuple[int, ...], linear_to: int, labels: list[str]
) -> None:
    ax = axes(steps)
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlim() == (steps[0], steps[-1])
    assert ax.xaxis.get_transform().linthresh == linear_to  # type: ignore[attr-defined]
    assert ticks(ax) == labels
    named = step_label(linear_to)
    assert ax.get_xlabel() == f"training step\n(linear to {named}, then log)"
    (mark,) = ax.get_xticks(minor=True)
    assert mark == linear_to, "a long tick and a line mark the change"
    assert ax.xaxis.get_minor_ticks()[0].gridline.get_visible()


@pytest.mark.parametrize("steps", [(0,), (0, 500, 1000), tuple(range(0, 1001, 50))])
def test_few_even_steps_are_on_a_linear_axis(steps: tuple[int, ...]) -> None:
    ax = axes(steps)
    assert ax.get_xscale() == "linear"
    assert ax.get_xlabel() == "training step"
    assert len(ax.get_xticks(minor=True)) == 0


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("wide", [0.7, 1.2, 3.0, 8.0])
def test_both_ends_have_a_tick_at_every_width_and_no_labels_collide(
    wide: float, linear: bool
) -> None:
    for steps in (LONG, (0, 1, 2, 4, *range(150, 4801, 150))):
        ax = axes(steps, wide, linear=linear)
        assert ax.get_xscale() == ("linear" if linear else "symlog")
        ax.set_xlabel("")
        assert_no_texts_overlap(ax.figure.figure)
        shown = ticks(ax)
        assert (shown[0], shown[-1]) == ("0", step_label(steps[-1]))


def test_a_step_is_short_if_it_has_round_hundreds() -> None:
    steps = (0, 150, 1000, 4800, 4801, 143_000)
    assert [step_label(step) for step in steps] == ["0", "150", "1k", "4.8k", "4,801", "143k"]

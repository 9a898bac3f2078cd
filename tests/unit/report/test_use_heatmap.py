"""The heat map of effects: its cells are those of the scores and of the effects."""

import dataclasses

import numpy as np
import pytest
from matplotlib.axes import Axes

from drawn import ticks, title
from tasklens.core.errors import InputError
from tasklens.report.use_heatmap import figure_use
from tasklens.report.view import View
from views import EDITED_STEPS, VIEW_ARI, VIEW_EFFECTS, planted_edits, planted_view

STATES = ("embed", "block1", "block2")


@pytest.fixture(scope="module")
def view() -> View:
    return dataclasses.replace(planted_view(), edits=planted_edits())


def cells(ax: Axes) -> np.ndarray:
    """Return the values of the colours, the first state first."""
    image = ax.images[0]
    assert (image.norm.vmin, image.norm.vmax, image.origin) == (0, 1, "lower")
    return np.ma.filled(np.ma.asarray(image.get_array(), dtype=np.float64), np.nan)


@pytest.mark.parametrize(
    ("edit", "effect"), [("shift", "becomes"), ("patch", "becomes"), ("shift", "stays")]
)
def test_ari_and_effect_are_those_of_the_same_checkpoints(
    view: View, edit: str, effect: str
) -> None:
    ari, use, _ = figure_use(view, edit=edit, effect=effect).axes  # type: ignore[arg-type]
    np.testing.assert_allclose(cells(ari), [np.add(VIEW_ARI[s][1:], 0.1) for s in STATES])
    np.testing.assert_allclose(cells(use), [VIEW_EFFECTS[edit, effect][s] for s in STATES])
    assert f"after {edit}" in title(use)
    highest = max(value for s in STATES for value in VIEW_EFFECTS[edit, effect][s])
    assert title(use).endswith(f", at most {highest:.2f}")
    assert ticks(ari, "y") == list(STATES)
    assert ticks(ari) == ticks(use) == [str(step) for step in EDITED_STEPS]


def test_an_effect_that_is_not_known_has_neither_color_nor_number(view: View) -> None:
    figure = figure_use(view, effect="becomes_normalised")
    _, use, _ = figure.axes
    np.testing.assert_array_equal(np.isfinite(cells(use)), [[False] * 2, [True] * 2, [False] * 2])
    assert [text.get_text() for text in use.texts] == ["0.5", "0.75"]
    heading = "val_subset (unseen pairs); earlier tokens still carry the own task"
    assert figure.get_suptitle() == heading


def test_what_was_not_edited_is_refused(view: View) -> None:
    with pytest.raises(InputError, match="'shift' on train_subset; there are none"):
        figure_use(view, "train_subset")
    with pytest.raises(InputError, match="'erase' on val_subset; there are patch, random, shift"):
        figure_use(view, edit="erase")
    with pytest.raises(InputError, match="no effect 'logits'; there are becomes, becomes_norm"):
        figure_use(view, effect="logits")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^seen: there are no interventions: tasklens intervene"):
        figure_use(planted_view())

"""Figure 3: its lines are the planted scores and effects, and its bands their intervals."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from drawn import legend, ticks, title
from planted import BLOCKS, EDITED, LAST, PATCH, SHIFT, final, planted_runs, risen, used
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.findings.curves import Curves
from tasklens.report.figure3 import GREY, LOOKS, figure3

LAYERS = ["embed", *(f"block{i + 1}" for i in range(BLOCKS))]
UNSEEN = "val_subset"


def lines(ax: Axes) -> dict[str, NDArray[np.float64]]:
    """Return the points of each line, (2, X), by its name in `LOOKS`."""
    names = {look.color: name for name, look in LOOKS.items()}
    return {names[str(line.get_color())]: np.array(line.get_xydata()).T for line in ax.lines}


def bands(ax: Axes) -> dict[str, NDArray[np.float64]]:
    """Return the lowest and highest value of each band by x, (X, 2), by its colour."""
    found_bands = {}
    for band in ax.collections:
        assert isinstance(band, PolyCollection)
        (path,) = band.get_paths()
        points = np.asarray(path.vertices)
        xs = np.unique(points[:, 0])
        ends = [points[points[:, 0] == x, 1] for x in xs]
        (face,) = np.asarray(band.get_facecolor(), dtype=float)
        color = to_hex(tuple(face[:3]))
        found_bands[color] = np.array([(y.min(), y.max()) for y in ends])
    return found_bands


def test_the_first_panel_has_the_layers_and_the_others_one_layer_each_by_step() -> None:
    (run, *_) = planted_runs()
    run.ari["train_subset", "block4", "raw"][:, -1] = 0.95
    figure = figure3(run)
    layers, best, last = figure.axes
    titles = ["(a) all hidden states", "(b) block4, the best by ARI", "(c) block6"]
    assert [title(ax) for ax in figure.axes] == titles
    assert ticks(layers) == LAYERS
    got = lines(layers)
    assert got.keys() == LOOKS.keys()
    np.testing.assert_array_equal(got["shift"], [range(7), SHIFT])
    np.testing.assert_array_equal(got["patch"], [range(7), PATCH])
    np.testing.assert_array_equal(got["random"][1], 0.01)
    np.testing.assert_array_equal(got["probe"][1], 1)
    np.testing.assert_allclose(got["ari"][1], [final(UNSEEN, i) for i in range(7)], atol=0.003)
    for ax, i in ((best, 4), (last, 6)):
        got = lines(ax)
        np.testing.assert_array_equal(got["shift"][0], EDITED)
        np.testing.assert_allclose(got["shift"][1], [used("shift", i, s) for s in EDITED])
        np.testing.assert_allclose(got["patch"][1], [PATCH[i] * risen(s) for s in EDITED])
        np.testing.assert_allclose(got["probe"][1], [min(s / 400, 1) for s in EDITED])
    assert f"step {LAST:,}" in layers.get_xlabel()


def test_lines_are_means_over_runs_and_bands_their_intervals() -> None:
    first, second = planted_runs()[:2]
    assert second.effects
    key = UNSEEN, "block6", "shift", "becomes"
    second.effects.effect[key][:] += 0.2
    ax = figure3([first, second]).axes[-1]
    expected = np.array([used("shift", 6, step) for step in EDITED])
    np.testing.assert_allclose(lines(ax)["shift"][1], expected + 0.1)
    got = bands(ax)[LOOKS["shift"].color]
    np.testing.assert_allclose(got, np.stack([expected, expected + 0.2], axis=1))
    assert "95% interval over runs" in legend(figure3([first, second]))
    assert "95% interval over runs and instructions" in legend(figure3([resampled(first), second]))


def resampled(run: Curves) -> Curves:
    """Return the run with 50 copies of each effect of a shift, which differ by a number each."""
    assert run.effects
    noise = stream(0, "copies").uniform(-0.1, 0.1, size=(50, 1))
    effect = {
        key: np.concatenate([y, y + noise]) if key[2] == "shift" else y
        for key, y in run.effects.effect.items()
    }
    return replace(run, effects=replace(run.effects, effect=effect))


def test_the_band_of_one_run_is_over_instructions_and_random_has_the_range_of_draws() -> None:
    (run, *_) = planted_runs()
    figure = figure3(resampled(run))
    got = bands(figure.axes[-1])
    assert got.keys() == {LOOKS["shift"].color, to_hex(GREY)}, "one copy has no interval"
    width = np.diff(got[LOOKS["shift"].color], axis=1)
    assert (width > 0.17).all()
    assert (width < 0.2).all()
    # More directions are drawn at the end, of which only the first count.
    np.testing.assert_allclose(got[to_hex(GREY)][:-1], [(0, 0.02)] * (len(EDITED) - 1))
    np.testing.assert_allclose(got[to_hex(GREY)][-1], (0, 0.02 * 19 / 198))
    assert legend(figure) == [
        *("clusters: ARI", "linear probe: accuracy"),
        *("answers that follow a shift", "answers that follow a patch"),
        *("random directions: mean and range of 20", "95% interval over instructions"),
    ]
    assert "95%" not in "".join(legend(figure3(run))), "nothing was resampled"


def test_what_was_not_measured_is_left_out() -> None:
    (run, *_) = planted_runs()
    assert run.effects
    run.decoded.clear()
    for key in list(run.effects.effect):
        if key[1:3] == ("block2", "patch"):
            del run.effects.effect[key]
    ax, *_ = figure3(run).axes
    got = lines(ax)
    assert "probe" not in got
    assert np.isnan(got["patch"][1]).tolist() == [layer == "block2" for layer in LAYERS]


def test_one_checkpoint_has_no_course() -> None:
    (run, *_) = planted_runs()
    assert run.effects
    effect = {key: y[:, -1:] for key, y in run.effects.effect.items()}
    draws = {key: y[-1:] for key, y in run.effects.draws.items()}
    last = replace(run.effects, steps=(LAST,), effect=effect, draws=draws)
    assert len(figure3(replace(run, effects=last)).axes) == 1


def test_layers_and_columns_are_chosen() -> None:
    (run, *_) = planted_runs()
    figure = figure3(run, layers=["block1", "block2", "block3"], columns=1)
    assert [title(ax)[4:] for ax in figure.axes[1:]] == ["block1", "block2", "block3"]
    assert len({ax.get_position().x0 for ax in figure.axes}) == 1
    assert figure.get_figwidth() == 3.4
    assert figure3(run).get_figwidth() == 6.8


def test_the_heading_has_the_edited_position_and_what_remains() -> None:
    (heading,) = figure3(planted_runs()[0], "val_instruction_subset").texts
    assert heading.get_text() == (
        "val_instruction_subset (unseen instructions), edited at input; "
        "earlier tokens still carry the own task"
    )


def test_what_cannot_be_drawn_is_refused_in_one_line() -> None:
    run, other, *_ = planted_runs()
    assert other.effects
    with pytest.raises(InputError, match=r"^no run to draw: give at least one$"):
        figure3([])
    with pytest.raises(InputError, match=r"^run 'planted' has no interventions: tasklens interv"):
        figure3(replace(run, effects=None))
    with pytest.raises(InputError, match=r"^no edits on the split 'train_subset'; there are val_i"):
        figure3(run, "train_subset")
    with pytest.raises(InputError, match=r"^no edits of 'block9'; there are embed, block1, .*6$"):
        figure3(run, layers=["block9"])
    later = replace(other, effects=replace(other.effects, steps=(1, *EDITED[1:])))
    with pytest.raises(InputError, match=r"^the runs have edits at different checkpoints"):
        figure3([run, later])

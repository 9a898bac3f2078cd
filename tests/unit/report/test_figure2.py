"""Figure 2: its lines are the means of the table."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from drawn import title
from tasklens.core.errors import InputError
from tasklens.report.figure2 import figure2
from tasklens.scoring.score_table import Row, score_rows, to_table

LAYERS = ("wte", "embed", "block1", "block2", "ln_f")
METRICS = ("ari", "ari_input", "ari_output", "variance_task", "variance_input", "variance_output")
PROBES = ("probe_task", "neighbours_task")
BEST = "block2"


def value(metric: str, layer: str, step: int) -> float:
    """Return a number of its own for each point of a line, highest in the best layer."""
    number = (*METRICS, *PROBES).index(metric) / 100 + LAYERS.index(layer) / 10
    return number / 2 + (0.3 if layer == BEST and step else 0.0)


def table(steps: tuple[int, ...]) -> pa.Table:
    """Return scores in which block 1 is the best of the unseen pairs at every step."""
    rows: list[Row] = []
    for split, step, layer in itertools.product(("train_subset", "val_subset"), steps, LAYERS):
        for metric in METRICS if split == "train_subset" else (*METRICS, *PROBES):
            v = value(metric, layer, step) + 0.5 * (split != "train_subset" and layer == "block1")
            for s in (0, 1) if metric.startswith("ari") else (None,):
                rows += score_rows(
                    {metric: v + 0.02 * (s or 0)}, run="r", seed=0, step=step, split=split,
                    position="", layer=layer, cluster_seed=s,
                )  # fmt: skip
    return to_table(rows)


def test_lines_are_the_means_of_the_table_in_the_layer_chosen_on_the_training_subset() -> None:
    steps = (0, 10, 20)
    figure = figure2(table(steps))
    axes = figure.get_axes()
    assert len(axes) == 6
    for i, metrics in enumerate((METRICS[:3], METRICS[3:], (*PROBES, "ari"))):
        assert f"{BEST}\n" in title(axes[3 + i])
        for above, below, metric in zip(
            axes[i].get_lines(), axes[3 + i].get_lines(), metrics, strict=True
        ):
            shift = 0.01 if metric.startswith("ari") else 0.0  # the mean over two cluster seeds
            more = np.array([0, 0, 0.5, 0, 0])
            layers = np.array([value(metric, layer, 20) for layer in LAYERS])
            np.testing.assert_allclose(np.asarray(above.get_ydata(), float), layers + more + shift)
            course = [value(metric, BEST, step) + shift for step in steps]
            np.testing.assert_allclose(np.array(below.get_xydata()).T, [steps, course])
    band = axes[3].collections[0].get_paths()[0].get_extents()
    lowest, highest = value("ari", BEST, 0), value("ari", BEST, 20) + 0.02
    np.testing.assert_allclose([band.y0, band.y1], [lowest, highest])
    heading = figure._suptitle  # type: ignore[attr-defined]
    assert heading.get_text() == "val_subset (unseen pairs); bands: range of 2 KMeans seeds"


def test_of_several_numbers_of_clusters_the_first_is_drawn() -> None:
    rows = [row | {"k": 4} for row in table((0, 10)).to_pylist()]
    others = [row | {"k": 9, "value": 0.0} for row in rows]
    plain, figure = (figure2(to_table(each)) for each in (rows, [*rows, *others]))
    for ax, same in zip(plain.get_axes(), figure.get_axes(), strict=True):
        for line, other in zip(ax.get_lines(), same.get_lines(), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())


def test_embed_is_a_layer_and_wte_and_ln_f_are_never_the_best() -> None:
    rows = table((0, 10)).to_pylist()
    top = [r | {"value": 0.99} if r["layer"] in ("wte", "embed", "ln_f") else r for r in rows]
    assert "embed\n" in title(figure2(to_table(top)).get_axes()[3])


def test_a_panel_without_scores_has_no_lines_and_no_legend() -> None:
    complete = table((20,))
    figure = figure2(complete.filter(pc.invert(pc.starts_with(complete["metric"], "variance"))))
    assert [len(ax.lines) for ax in figure.get_axes()] == [3, 0, 3], "one checkpoint has no course"
    texts = [[text.get_text() for text in each.get_texts()] for each in figure.legends]
    assert texts == [
        ["against the task", "against the input", "against the output"],
        ["linear probe: accuracy", "10 neighbours: accuracy", "clusters: ARI"],
    ]


def test_a_table_without_scores_of_states_is_refused() -> None:
    for split, other in (("val_subset", "train_subset"), ("train_subset", "mine")):
        with pytest.raises(InputError, match=f"no ARI of a hidden state.* {split} and {other}"):
            figure2(to_table([]) if other != "mine" else table((20,)), split, other)

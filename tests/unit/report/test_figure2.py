"""Figure 2: what its lines show is what stands in the table."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.report.figure2 import figure2
from tasklens.scoring.score_table import Row, to_table

LAYERS = ("wte", "embed", "block1", "block2", "ln_f")
METRICS = ("ari", "ari_input", "ari_output", "variance_task", "variance_input", "variance_output")
PROBES = ("probe_task", "neighbours_task")
BEST = "block2"


def value(metric: str, layer: str, step: int) -> float:
    """Return a number of its own for each line's points, highest in the best layer."""
    place = (*METRICS, *PROBES).index(metric) / 100 + LAYERS.index(layer) / 10
    return place / 2 + (0.3 if layer == BEST and step else 0.0)


def table(steps: tuple[int, ...], misleading: bool = False) -> pa.Table:
    """Plant scores; where misleading, validation likes block 1 best, at every step."""
    rows: list[Row] = []
    for split in ("train_subset", "val_subset"):
        probes = PROBES if split == "val_subset" else ()
        for step in steps:
            for layer in LAYERS:
                for metric in (*METRICS, *probes):
                    v = value(metric, layer, step)
                    if misleading and split == "val_subset" and layer == "block1":
                        v += 0.5
                    seeds = (0, 1) if metric.startswith("ari") else (None,)
                    rows += [
                        {
                            "run": "r", "seed": 0, "step": step, "split": split, "layer": layer,
                            "space": "raw", "k": 3, "cluster_seed": s, "metric": metric,
                            "value": v + 0.02 * (s or 0),
                        }
                        for s in seeds
                    ]  # fmt: skip
    return to_table(rows)


def numbers(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def test_lines_are_the_means_of_the_table() -> None:
    steps = (0, 10, 20)
    figure = figure2(table(steps))
    axes = figure.get_axes()
    assert len(axes) == 6
    for i, metrics in enumerate((METRICS[:3], METRICS[3:], (*PROBES, "ari"))):
        for line, metric in zip(axes[i].get_lines(), metrics, strict=True):
            shift = 0.01 if metric.startswith("ari") else 0.0  # the mean over two cluster seeds
            expected = [value(metric, layer, 20) + shift for layer in LAYERS]
            np.testing.assert_allclose(numbers(line.get_ydata()), numbers(expected))
        for line, metric in zip(axes[3 + i].get_lines(), metrics, strict=True):
            shift = 0.01 if metric.startswith("ari") else 0.0
            np.testing.assert_allclose(numbers(line.get_xdata()), numbers(steps))
            expected = [value(metric, BEST, step) + shift for step in steps]
            np.testing.assert_allclose(numbers(line.get_ydata()), numbers(expected))


def test_the_layer_is_chosen_on_the_training_subset() -> None:
    figure = figure2(table((0, 10, 20), misleading=True))
    assert f"{BEST}, " in figure.get_axes()[3].get_title(loc="left")
    rows = table((0, 10)).to_pylist()
    top = [r | {"value": 0.99} if r["layer"] in ("wte", "embed", "ln_f") else r for r in rows]
    figure = figure2(to_table(top))
    assert "embed, " in figure.get_axes()[3].get_title(loc="left"), "layer 0 is a layer, too"


def test_one_checkpoint_has_no_course() -> None:
    assert len(figure2(table((20,))).get_axes()) == 3


def test_a_table_without_scores_of_states_is_refused() -> None:
    for split, other in (("val_subset", "train_subset"), ("train_subset", "mine")):
        with pytest.raises(InputError, match=f"no final ARI of a state on {split} and {other}"):
            figure2(to_table([]) if other != "mine" else table((20,)), split, other)

"""Tables and figures of long training, and of several distributions per task."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from figures.bands import draw_band
from figures.distributions import draw_distributions
from figures.positions import draw_positions
from figures.rise import draw_rise
from matplotlib.figure import Figure
from rise_courses import courses
from tables.distribution_tables import (
    distributions_course,
    distributions_table,
    kinds_table,
    lead_of_distributions,
    within_tasks,
)
from tables.rise_tables import Courses, rise_table
from tables.run_scores import Scores
from test_page_tables import points

from drawn import legend, title
from tasklens.interventions.effect_table import SCHEMA as EFFECTS
from tasklens.scoring.score_table import Row, accuracy_row, score_rows, table_to_csv_bytes, to_table

STEPS = (0, 150, 300, 450)
#: ARI of block1 by step, on the training subset; it rises and falls. Block 2 never gets so high.
RISE = {0: 0.125, 150: 0.5, 300: 0.875, 450: 0.625}


def lines(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each line of the first panel, by name."""
    return {
        str(line.get_label()): [(x, y) for x, y in np.asarray(line.get_xydata()).tolist()]
        for line in figure.axes[0].lines
        if not str(line.get_label()).startswith("_")
    }


# --- Long training ---


def write_sweep(path: Path) -> None:
    """Write the tables of a sweep of two seeds; the second one is lower by 0.125."""
    scores: list[Row] = []
    effects: list[dict[str, Any]] = []
    for seed in (302, 303):
        less = 0.125 * (seed == 303)
        base: dict[str, Any] = {"run": f"r{seed}", "seed": seed}
        for split, step in itertools.product(("train_subset", "val_subset"), STEPS):
            at: dict[str, Any] = {**base, "step": step, "split": split}
            scores.append(accuracy_row(f"r{seed}", seed, step, split, step / 450))
            for layer, value in (("block1", RISE[step]), ("block2", 0.25), ("ln_f", 1.0)):
                state: dict[str, Any] = {**at, "position": "input", "layer": layer}
                for s in (0, 1):
                    ari = {"ari": value - less + 0.0625 * (2 * s - 1)}
                    scores += score_rows(ari, **state, cluster_seed=s, k=4)
                    scores += score_rows({"ari": 9.0}, **state, space="tsne", cluster_seed=s, k=4)
                    other = {**state, "position": "instruction_last"}
                    scores += score_rows({"ari": 9.0}, **other, cluster_seed=s, k=4)
                scores += score_rows({"probe_task": 1 - less, "separation": value}, **state)
                if split == "val_subset" and step in (0, 450) and layer != "ln_f":
                    effect = {**at, "position": "input", "state": layer, "metric": "becomes"}
                    effect |= {"target": "", "alpha": None, "draw": None}
                    effects += [
                        effect | {"edit": "shift", "alpha": 1.0, "value": step / 900 - less / 4},
                        effect | {"edit": "shift", "alpha": 2.0, "value": 9.0},
                        effect | {"edit": "shift", "target": "t", "alpha": 1.0, "value": 9.0},
                        effect | {"edit": "random", "value": 0.0625},
                        effect | {"edit": "random", "draw": 3, "value": 9.0},
                        effect | {"edit": "patch", "metric": "stays", "value": 9.0},
                    ]
    pq.write_table(to_table(scores), path / "scores.parquet")
    pq.write_table(pa.Table.from_pylist(effects, schema=EFFECTS), path / "interventions.parquet")
    rows = [{"run": f"r{seed}", "tasks.n_outputs": 24, "layer": "embed"} for seed in (302, 303)]
    pq.write_table(pa.Table.from_pylist(rows * 2), path / "points.parquet")


@pytest.fixture
def long_training(tmp_path: Path) -> Courses:
    write_sweep(tmp_path)
    table = pa.Table.from_pandas(courses(tmp_path), preserve_index=False)
    file = tmp_path / "rise_courses.csv"
    file.write_bytes(table_to_csv_bytes(table))
    return Courses(file)


def test_courses_are_of_the_first_position_and_of_means(long_training: Courses) -> None:
    ari = long_training.course(24, 303, "block1", "ari")
    assert ari == {step: value - 0.125 for step, value in RISE.items()}
    assert long_training.course(24, 302, "block1", "shift") == {0: 0.0, 450: 0.5}
    assert long_training.course(24, 302, "block1", "random") == {0: 0.0625, 450: 0.0625}
    assert long_training.course(24, 302, "block1", "patch") == {}
    assert long_training.layers == ["block1", "block2"]


def test_scores_fall_from_the_peak_of_the_ari_to_the_end(long_training: Courses) -> None:
    rows = [line.strip("| ").split(" | ") for line in rise_table(long_training).splitlines()[2:]]
    cells = {(row[1], row[2]): row[3:] for row in rows}
    at = "block1 at 300, block1 at 300"
    expected = [at, "0.88, 0.75", "0.62, 0.50", "0.25, 0.25"]
    assert cells["best layer", "ARI"] == expected
    assert cells["best layer", "linear probe"] == [at, "1.00, 0.88", "1.00, 0.88", "0.00, 0.00"]
    assert cells["best layer", "accuracy"] == [at, "0.67, 0.67", "1.00, 1.00", "-0.33, -0.33"]
    # The edits of step 450 are the nearest.
    follow = cells["best layer", "answers that follow a shift"]
    assert follow == ["block1 at 450, block1 at 450", "0.50, 0.47", "0.50, 0.47", "0.00, 0.00"]
    assert cells["block2", "ARI"][1:] == ["0.25, 0.12", "0.25, 0.12", "0.00, 0.00"]
    assert cells["best layer", "10 neighbours"] == ["-, -", "-", "-", "-"]


def test_the_figure_of_long_training_has_the_means_over_seeds(long_training: Courses) -> None:
    figure = draw_rise(long_training)
    names = [title(ax) for ax in figure.axes]
    assert names == ["24 outputs: best layer (block1)", "24 outputs: block2"]
    first = lines(figure)
    means = [(float(step), value - 0.0625) for step, value in RISE.items()]
    assert first["clusters: ARI"] == means
    assert first["answers that follow a shift"] == [(0.0, -0.0156), (450.0, 0.4844)]
    assert legend(figure) == [*first]
    assert figure.get_suptitle() == "val_subset; means, bands: ranges over 2 seeds"


# --- Several distributions per task ---


@pytest.fixture
def distributions(tmp_path: Path) -> Scores:
    """Three seeds: at step 150 the clusters are distributions, at the end they are tasks."""
    rows: list[Row] = []
    task, part = {0: 0.0, 150: 0.25, 300: 1.0}, {0: 0.0, 150: 0.75, 300: 0.5}
    splits = ("train_subset", "val_subset", "val_instruction_subset", "unseen_task_subset")
    for seed, split, step in itertools.product((11, 12, 13), splits, task):
        rows.append(accuracy_row("r", seed, step, split, step / 300))
        state: dict[str, Any] = {"run": "r", "seed": seed, "step": step, "split": split}
        state |= {"position": "input", "layer": "block1", "cluster_seed": 0}
        values = {"ari": task[step], "ari_distribution": 0.125}
        rows += score_rows(values, **state, k=4)
        values = {"ari": 0.375, "ari_distribution": part[step] - 0.125 * (seed - 11)}
        rows += score_rows(values, **state, k=12)
        rows += score_rows({"ari_distribution_within_task": 1.0 - task[step]}, **state)
        if split == "val_instruction_subset":
            state["cluster_seed"] = None
            rows += score_rows({"error_auroc": 0.75}, **state)
    pq.write_table(to_table(rows), tmp_path / "s.parquet")
    return Scores([tmp_path / "s.parquet"])


def test_distributions_are_compared_with_as_many_clusters(distributions: Scores) -> None:
    (line,) = distributions_table(distributions).splitlines()[2:]
    cells = ["1.00 (1.00 to 1.00)", "0.38 (0.25 to 0.50)", "0.00 (0.00 to 0.00)"]
    assert line == f"| block1 | {' | '.join(cells)} |"
    _, line, _ = distributions_course(distributions).splitlines()[2:]
    cells = ["0.25 (0.25 to 0.25)", "0.62 (0.50 to 0.75)", "0.75 (0.75 to 0.75)"]
    assert line == f"| 150 | {' | '.join(cells)} | 0.50 (0.50 to 0.50) |"
    assert lead_of_distributions(distributions) == [0.5, 0.375, 0.25]
    assert within_tasks(distributions) == ([1.0] * 3, [0.0] * 3)


def test_kinds_of_unseen_data_have_a_column_each(distributions: Scores) -> None:
    table = [line.strip("| ").split(" | ") for line in kinds_table(distributions).splitlines()]
    assert table[0][1:] == [
        *("train_subset", "val_subset", "val_instruction_subset", "unseen_task_subset")
    ]
    rows = {row[0]: row[1:] for row in table[2:]}
    assert rows["ARI"] == ["1.00 (1.00 to 1.00)"] * 4
    assert rows["distance against error (AUROC)"] == ["-", "-", "0.75 (0.75 to 0.75)", "-"]
    assert set(rows["share in the span of the centroids"]) == {"-"}


def test_the_figure_of_distributions_has_three_ari_per_block(distributions: Scores) -> None:
    figure = draw_distributions(distributions)
    first = lines(figure)
    assert first["against the task, k = 4"] == [(0.0, 0.0), (150.0, 0.25), (300.0, 1.0)]
    assert first["against the distribution, k = 12"][1] == (150.0, 0.625)
    assert first["the same within each task alone"][1] == (150.0, 0.75)


# --- Positions, and bands ---


def test_the_figure_of_positions_has_a_panel_for_each(tmp_path: Path) -> None:
    ends = {6: 0.25, 24: 0.5, 96: 0.75, 480: 1.0}
    names = ("input", "instruction_mean")
    both = points(
        tmp_path,
        "positions",
        lambda values, seed, position, layer: ends[values["tasks.n_outputs"]] - (seed - 302) / 8,
        names,
    )
    figure = draw_positions(both)
    assert [title(ax) for ax in figure.axes] == [*names, "", ""]
    first = lines(figure)
    assert [y for _, y in first["trained"]] == [value - 0.0625 for value in ends.values()]
    assert [y for _, y in first["untrained"]] == [(value - 0.0625) / 4 for value in ends.values()]
    assert [y for _, y in first["bag of symbols"]] == [0.375] * 4


def test_a_band_reaches_from_the_lowest_to_the_highest_seed() -> None:
    ax = Figure().subplots()
    draw_band(ax, [1, 2, 3], [[0.5, math.nan, math.nan], [0.25, 0.75, math.nan]], "red", "x")
    (line,) = ax.lines
    assert np.asarray(line.get_xydata()).tolist() == [[1.0, 0.375], [2.0, 0.75]]
    band = np.asarray(ax.collections[0].get_paths()[0].vertices)
    assert sorted(set(band[band[:, 0] == 1, 1])) == [0.25, 0.5]
    draw_band(ax, [1], [[math.nan]], "red", "nothing")
    assert len(ax.lines) == 1

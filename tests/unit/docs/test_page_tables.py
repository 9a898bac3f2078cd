"""The tables of the page on the runs are those of the committed files, and of several seeds."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tables.all_tables import all_tables
from tables.answers import Answer, joined
from tables.markdown import spread
from tables.page import filled
from tables.small_world import STATEMENTS
from tables.statements import FIRST_SEED, Statement, judged, statements_table, values_of
from tables.sweep_points import Points
from tables.sweep_tables import positions_table, sweep_table

from tasklens.runs.sweep_file import read_sweep
from tasklens.scoring.score_table import table_to_csv_bytes

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "results" / "reproduction.md").read_text()
BLOCKS = ("embed", *(f"block{i}" for i in range(1, 7)))


@pytest.fixture(scope="module")
def tables() -> dict[str, str]:
    return all_tables(DOCS / "data")


def test_every_table_of_the_page_is_that_of_the_committed_files(tables: dict[str, str]) -> None:
    assert filled(PAGE, tables) == PAGE, "run: python docs/scripts/make_tables.py"
    number = sum(table.count("\n| --- |") for table in tables.values())
    assert PAGE.count("\n| --- |") == number, "no table is written by hand"


def test_a_number_of_the_answers_that_does_not_follow_is_noticed(tables: dict[str, str]) -> None:
    numbers = [*re.finditer(r"\d\.\d\d", tables["answers"])]
    assert len(numbers) > 20
    for match in numbers:
        start = PAGE.index(tables["answers"]) + match.start()
        wrong = PAGE[:start] + "7.77" + PAGE[start + 4 :]
        assert filled(wrong, tables) != wrong


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "b", "b"]])
def test_a_page_has_each_table_once(names: list[str]) -> None:
    page = "".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in names)
    with pytest.raises(ValueError, match=r"^each table should be in the page once: [abc]"):
        filled(page, {"a": "1", "b": "2"})


def test_cells_have_each_of_two_seeds_and_the_range_of_more() -> None:
    assert spread([0.5]) == "0.50"
    assert spread([0.5, math.nan]) == "0.50, -"
    assert spread([-0.001, 0.256]) == "0.00, 0.26"
    assert spread([0.5, 0.25, 0.9]) == "0.55 (0.25 to 0.90)"
    assert spread([0.5, math.nan, 0.9]) == "0.50, -, 0.90"
    assert spread([math.nan]) == "-"


def test_statements_that_wait_for_one_study_share_a_row() -> None:
    rows = [Answer("a", "not run", "go", "x"), Answer("b", "holds", "1", "y")]
    rows += [Answer("c", "not run", "go", "z"), Answer("d", "not run", "other", "x")]
    assert [(r.statement, r.number) for r in joined(rows)] == [
        *(("b", "1"), ("a; c", "go"), ("d", "other"))
    ]


# --- Sweeps of several seeds and positions ---


def points(path: Path, name: str, finals: Any, positions: tuple[str, ...] = ("input",)) -> Points:
    """Write the summary of a sweep of the docs, as `tasklens sweep` does, and read it.

    ``finals`` returns the final ARI of a run (values, seed), position and layer; None: not run.
    """
    rows = []
    for point in read_sweep(DOCS / f"data/sweeps/{name}.toml").points:
        seed = point.settings.seed
        base: dict[str, Any] = {"run": point.name, "seed": seed, **point.values}
        for split in ("train_subset", "val_subset", "val_instruction_subset"):
            for position in positions:
                for layer in BLOCKS:
                    final = finals(point.values, seed, position, layer)
                    if final is not None:
                        row = base | {"split": split, "position": position, "layer": layer}
                        numbers = {"initial": final / 4, "final": final, "peak": final + 0.125}
                        numbers |= {"peak_step": 450, "ari_output": 0.25, "accuracy": 1.0}
                        numbers |= {"probe_task": 0.75}
                        rows += [row | numbers | {"space": space} for space in ("raw", "tsne")]
            control = {"split": split, "position": "", "layer": "control:symbols"}
            rows.append(base | control | {"space": "raw", "final": 0.375})
    (path / "results").mkdir(exist_ok=True)
    (path / "world.toml").write_bytes((DOCS / "data/sweeps/world.toml").read_bytes())
    names = list(dict.fromkeys(key for row in rows for key in row))
    table = pa.table({key: [row.get(key) for row in rows] for key in names})
    file = path / "results" / f"{name}.csv"
    file.write_bytes(table_to_csv_bytes(table))
    return Points(file)


def outputs_of(values: Mapping[str, Any]) -> int:
    return int(values["tasks.n_outputs"])


def test_a_sweep_has_the_value_of_each_seed_and_names_what_is_missing(tmp_path: Path) -> None:
    def finals(values: Mapping[str, Any], seed: int, position: str, layer: str) -> float | None:
        if (outputs_of(values), seed) == (96, 303):
            return None
        return 0.5 + 0.25 * (seed == 303) if layer == "block6" else 0.25

    lines = sweep_table(points(tmp_path, "positions", finals), "mine").splitlines()
    assert lines[0].startswith("| mine, seeds 302, 303 | embed | block1 | ")
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in lines[2:]}
    assert cells["the small world"] == ["0.25, 0.25"] * 6 + [
        *("0.50, 0.75", "0.62 at 450, 0.88 at 450", "0.50, 0.75", "0.25, 0.25", "1.00, 1.00 |")
    ]
    assert cells["n_outputs = 96"][6:8] == ["0.50, -", "0.62 at 450, -"]


def test_positions_have_a_best_layer_each_before_and_after_training(tmp_path: Path) -> None:
    def finals(values: Mapping[str, Any], seed: int, position: str, layer: str) -> float:
        best = {"input": "block2", "instruction_mean": "block5"}[position]
        return 0.5 + 0.25 * (position == "input") if layer == best else 0.25

    both = points(tmp_path, "positions", finals, ("input", "instruction_mean"))
    lines = positions_table(both).splitlines()[2:]
    assert len(lines) == 2 * 4
    for position, best, before, after in (
        ("input", "block2", "0.19", "0.75"),
        ("instruction_mean", "block5", "0.12", "0.50"),
    ):
        cells = [f"{x}, {x}" for x in (best, before, after, before, after, "0.38", "1.00")]
        assert f"| {position} | 24 | {' | '.join(cells)} |" in lines


def statement(above: float | None = None, below: float | None = None) -> Statement:
    def compute(points: Points, seed: int) -> float:
        return points.value("the small world", seed, "block6")

    return Statement("positions", "it is so", "ARI", compute, above, below)


def test_a_statement_is_judged_on_other_seeds_than_its_own() -> None:
    over = statement(above=0.5)
    for values, expected in (
        ({FIRST_SEED: 0.9}, "not run"),
        ({FIRST_SEED: 0.1, 302: 0.6}, "holds"),
        ({302: 0.6, 303: 0.5}, "undecided"),
        ({FIRST_SEED: 0.9, 302: 0.4, 303: 0.3}, "fails"),
        ({}, "not run"),
    ):
        assert judged(over, values) == expected
    between = statement(above=-0.1, below=0.1)
    assert [between.holds(x) for x in (-0.1, 0.0, 0.1)] == [False, True, False]
    assert between.limits == "> -0.1 and < 0.1"


def test_a_seed_without_a_run_that_a_statement_needs_has_no_number(tmp_path: Path) -> None:
    def finals(values: Mapping[str, Any], seed: int, position: str, layer: str) -> float | None:
        return None if (outputs_of(values), seed) == (480, 302) else 0.75

    sweeps = {"positions": points(tmp_path, "positions", finals)}
    assert values_of(statement(above=0.5), sweeps) == {303: 0.75}
    assert values_of(statement(above=0.5), {}) == {}
    others = {"trials": Points(DOCS / "data/sweeps/results/trials.csv")}  # have another seed
    (line,) = statements_table([statement(above=0.5)], sweeps | others).splitlines()[2:]
    assert line == "| positions | it is so | ARI: > 0.5 | - | 0.75 | holds |"


def test_every_statement_has_its_runs_in_the_sweep_that_it_names(tmp_path: Path) -> None:
    """Otherwise a misspelt run would never be judged."""
    positions = ("input", "instruction_last", "instruction_mean")
    sweeps = {
        name: points(tmp_path, name, lambda *_: 0.5, positions)
        for name in {each.sweep for each in STATEMENTS}
    }
    for each in STATEMENTS:
        assert values_of(each, sweeps).keys() == {302, 303}, each.text

"""Files that are broken at random: each command ends well, or in one line and exit status 2.

What is drawn derives from the source of a test alone, so that a failure comes again; hypothesis
prints the smallest change that fails.
"""

import io
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from e2e.conftest import Finished, Probed, assert_refused, call, changes
from e2e.damage import CUT, VALUES, Change, change_of
from e2e.stock import QUICK, Stock, csv_of, records
from e2e.sweeps import SWEEP

pytestmark = pytest.mark.fuzz


def assert_ends_well(*arguments: str | Path) -> None:
    """Run ``tasklens ...``; what it raises fails the test, as does more than one line of error.

    Exit status 1 is that of `verify` if a finding fails, and of a cell that cannot be measured.
    """
    result = call(*arguments)
    if result.status == 2:
        assert_refused(result)
    else:
        assert result.status in (0, 1), result
        assert "Traceback" not in result.err


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# --- Settings, tasks and sweeps ---


@examples(15)
@given(change=change_of("sweep.toml"))
def test_a_sweep(directory: Path, change: Change) -> None:
    file = directory / "sweep.toml"
    file.write_bytes(change(SWEEP.encode()))
    assert_ends_well("sweep", file, "--dry-run", "--out", directory / "sweep")


@examples(8)
@given(change=change_of("tasks.json"))
def test_a_task_file(tiny: Finished, directory: Path, change: Change) -> None:
    file = directory / "tasks.json"
    file.write_bytes(change((tiny.path / "data" / "tasks.json").read_bytes()))
    out = directory / "run"
    shutil.rmtree(out, ignore_errors=True)
    assert_ends_well("data", "smoke", *changes(tasks__file=file), "--out", out)


# --- Labelled prompts ---


def probe(stock: Stock, prompts: Path, directory: Path) -> None:
    """Measure a checkpoint on prompts, as far as they can be read."""
    out = directory / "probe"
    shutil.rmtree(out, ignore_errors=True)
    quick = [word for item in QUICK for word in ("--set", item)]
    model = stock.checkpoints[100]
    assert_ends_well("probe", model, "--prompts", prompts, *quick, "--dry-run", "--out", out)


@examples(10)
@given(change=change_of("prompts.jsonl"))
def test_prompts_in_jsonl(stock: Stock, directory: Path, change: Change) -> None:
    file = directory / "prompts.jsonl"
    file.write_bytes(change(stock.prompts.read_bytes()))
    probe(stock, file, directory)


@examples(8)
@given(change=CUT)
def test_prompts_in_csv(stock: Stock, directory: Path, change: Change) -> None:
    file = directory / "prompts.csv"
    file.write_bytes(change(csv_of(stock.rows)))
    probe(stock, file, directory)


@examples(8)
@given(
    change=CUT,
    column=st.sampled_from([*records()[0]]),
    value=st.sampled_from(VALUES),
    whole=st.booleans(),
)
def test_prompts_in_parquet(
    stock: Stock, directory: Path, change: Change, column: str, value: Any, whole: bool
) -> None:
    """Break the bytes of the file, or write a column of other values."""
    table = pd.DataFrame(stock.rows)
    if whole:
        table[column] = [value] * len(table)
    content = io.BytesIO()
    try:
        table.to_parquet(content)
    except (TypeError, ValueError, OverflowError, pa.ArrowException):
        return  # no Parquet
    file = directory / "prompts.parquet"
    file.write_bytes(content.getvalue() if whole else change(content.getvalue()))
    probe(stock, file, directory)


# --- Run directories ---


def broken_copy(path: Path, directory: Path, name: str, change: Change) -> Path:
    """Copy a run, and break a file of it."""
    broken = directory / "broken" / path.name
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(path, broken)
    (broken / name).write_bytes(change((broken / name).read_bytes()))
    return broken


#: The commands that read a run, or do what is left to do in it.
READERS = st.sampled_from(["show", "verify", "measure", "plot", "report", "train"])


def names_in(path: Path) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", ["manifest.json", "config.toml"])
@examples(10)
@given(data=st.data())
def test_what_a_run_knows_of_itself(
    tiny: Finished, directory: Path, name: str, data: st.DataObject
) -> None:
    path = broken_copy(tiny.path, directory, name, data.draw(change_of(name)))
    assert_ends_well(data.draw(READERS), path)


@examples(10)
@given(data=st.data())
def test_a_file_of_a_training_run(tiny: Finished, directory: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names_in(tiny.path)))
    path = broken_copy(tiny.path, directory, name, data.draw(change_of(name)))
    assert_ends_well(data.draw(READERS), path)


@examples(10)
@given(data=st.data())
def test_a_file_of_a_model_run(probed: Probed, directory: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names_in(probed.path)))
    path = broken_copy(probed.path, directory, name, data.draw(change_of(name)))
    assert_ends_well(data.draw(READERS), path)

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.data.dataset import MEASURED, PAD, SPLITS, Dataset
from tasklens.data.synthetic import DataSettings, make_dataset
from tasklens.data.synthetic_files import dataset_files, read_dataset
from tasklens.data.tasks import TaskSettings

ALL = (*SPLITS, *MEASURED)


@pytest.fixture(scope="module")
def files(dataset: Dataset) -> dict[str, bytes]:
    return dataset_files(dataset)


def table(files: dict[str, bytes], name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(files[f"{name}.parquet"]))


def one_line_error(files: dict[str, bytes]) -> str:
    with pytest.raises(InputError) as error:
        read_dataset(files.__getitem__)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_reading_gives_the_same_dataset_and_the_same_bytes(
    dataset: Dataset, files: dict[str, bytes]
) -> None:
    again = read_dataset(files.__getitem__)
    assert again.instructions == dataset.instructions
    assert np.array_equal(again.instruction_task, dataset.instruction_task)
    assert again.vocabulary.tokens == dataset.vocabulary.tokens
    assert set(again.splits) == set(ALL)
    for split in ALL:
        for column in ("instruction", "input", "output"):
            ours, theirs = (getattr(d.splits[split], column) for d in (again, dataset))
            assert ours.dtype == theirs.dtype == np.int64
            assert np.array_equal(ours, theirs)
    assert dataset_files(again) == files


def test_a_seed_is_bytes(
    files: dict[str, bytes], task_settings: TaskSettings, data_settings: DataSettings
) -> None:
    assert dataset_files(make_dataset(task_settings, data_settings, seed=1)) == files
    other = dataset_files(make_dataset(task_settings, data_settings, seed=2))
    assert set(other) == set(files)
    assert all(other[f"{split}.parquet"] != files[f"{split}.parquet"] for split in ALL)


def test_a_row_has_all_of_an_instance(dataset: Dataset, files: dict[str, bytes]) -> None:
    for split in ALL:
        assert len(table(files, split)) == len(dataset.splits[split])
        for i, row in enumerate(table(files, split).to_pylist()):
            instruction = dataset.splits[split].instruction[i]
            assert row["instruction_id"] == instruction
            assert row["instruction"] == dataset.instructions[instruction]
            task = dataset.tasks.tasks[dataset.task(split)[i]]
            assert row["task"] == task.name
            assert row["output"] == task.function[row["input"]]
            assert row["text"].split(" ") == [*row["instruction"], row["input"], row["output"]]


def test_hugging_face_datasets_loads_the_directory_offline(
    dataset: Dataset, files: dict[str, bytes], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, content in files.items():
        (data / name).write_bytes(content)
    program = (
        "import datasets, json, sys\n"
        "datasets.disable_progress_bars()\n"
        "loaded = {c: datasets.load_dataset(sys.argv[1], *c) for c in ((), ('measured',))}\n"
        "print(json.dumps([{s: [len(d), d[0]] for s, d in l.items()} for l in loaded.values()]))\n"
    )
    cache = {"HF_HOME": str(tmp_path / "home"), "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(data)],
        env=os.environ | cache | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    default, measured = json.loads(done.stdout)
    for loaded, names in ((default, SPLITS), (measured, tuple(MEASURED))):
        assert tuple(loaded) == names
        for name, (size, first) in loaded.items():
            assert size == len(dataset.splits[name])
            assert first == table(files, name).slice(0, 1).to_pylist()[0]


def test_the_tokenizer_turns_text_into_the_ids_of_training(
    dataset: Dataset, files: dict[str, bytes], tmp_path: Path
) -> None:
    from transformers import PreTrainedTokenizerFast

    file = tmp_path / "tokenizer.json"
    file.write_bytes(files["tokenizer.json"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token=PAD)
    assert len(tokenizer) == len(dataset.vocabulary)
    for split in ALL:
        prompts = dataset.prompts(split)
        texts = table(files, split)["text"].to_pylist()
        ids = tokenizer(texts)["input_ids"]
        for i, output in enumerate(dataset.splits[split].output):
            row = prompts.ids[i, : prompts.position[i] + 1].tolist()
            assert ids[i] == [*row, output]
        assert tokenizer.decode(ids[0]) == texts[0]


def test_the_readme_has_the_sizes(dataset: Dataset, files: dict[str, bytes]) -> None:
    readme = files["README.md"].decode()
    for name, split in dataset.splits.items():
        n_instructions = len(set(split.instruction.tolist()))
        assert f"| {name} | {len(split)} | {n_instructions} |" in readme
    assert table(files, "train")["text"][0].as_py() in readme


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda content: content[: len(content) // 2],
    "all but a byte": lambda content: content[:-1],
    "empty": lambda content: b"",
    "other": lambda content: b"not Parquet at all",
    "zeros": lambda content: content[:100] + bytes(len(content) - 108) + content[-8:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["train", "val_subset"])
def test_damaged_parquet_is_named(
    files: dict[str, bytes], name: str, damage: Callable[[bytes], bytes]
) -> None:
    file = f"{name}.parquet"
    message = one_line_error(files | {file: damage(files[file])})
    assert message.startswith(f"data/{file} is damaged (")
    assert message.endswith("); remove it and run again with --resume")


def test_other_columns_are_named(files: dict[str, bytes]) -> None:
    right = (
        "task (string), distribution (int32), instruction_id (int32), instruction (string), "
        "input (string), output (string), text (string)"
    )
    val = table(files, "val")
    for content, present in (
        (parquet_bytes(val.drop_columns(["text"])), right.removesuffix(", text (string)")),
        (
            replaced(val, "input", pa.array(range(len(val)), pa.int32())),
            right.replace("input (string)", "input (int32)"),
        ),
    ):
        assert one_line_error(files | {"val.parquet": content}) == (
            f"data/val.parquet has the columns {present}; it should have {right}"
        )


def replaced(content: pa.Table, column: str, values: pa.Array) -> bytes:
    return parquet_bytes(content.set_column(content.schema.get_field_index(column), column, values))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("output", pa.scalar("nonsense"), "data: a token in the Parquet files is not in data/tas"),
        ("task", pa.scalar("nonsense"), "data: the task 'nonsense' in the Parquet files is not in"),
        ("instruction_id", pa.scalar(0, pa.int32()), "data: instruction_id should number the in"),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(
    files: dict[str, bytes], column: str, value: pa.Scalar, message: str
) -> None:
    changed = {}
    for name in ALL:
        content = table(files, name)
        changed[f"{name}.parquet"] = replaced(content, column, pa.repeat(value, len(content)))
    assert one_line_error(files | changed).startswith(message)
    assert "data/tasks.json" in one_line_error(files | {"tasks.json": b"\xff\xfe\x00"})

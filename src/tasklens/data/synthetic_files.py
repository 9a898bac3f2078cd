"""Write and read a dataset as Parquet files with a README, tasks.json and tokenizer.json."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasklens.core.errors import InputError, first_line
from tasklens.core.parquet import parquet_bytes, read_parquet
from tasklens.data.dataset import PAD, Dataset, Split, Vocabulary, measured_splits
from tasklens.data.task_file import tasks_from_json, tasks_to_json
from tasklens.data.tasks import TaskSet

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("distribution", pa.int32()),
        ("instruction_id", pa.int32()),
        ("instruction", pa.string()),
        ("input", pa.string()),
        ("output", pa.string()),
        ("text", pa.string()),
    ]
)


def dataset_files(dataset: Dataset) -> dict[str, bytes]:
    """Return the files of a data directory, {name: content}; equal datasets give equal bytes.

    There is one Parquet file per split and measured subset, ``README.md`` with the metadata that
    ``datasets.load_dataset(DIR)`` reads, ``tasks.json`` and ``tokenizer.json``.
    """
    files = {f"{name}.parquet": parquet_bytes(_table(dataset, name)) for name in dataset.splits}
    return files | {
        "README.md": _readme(dataset).encode(),
        "tasks.json": tasks_to_json(dataset.tasks).encode(),
        "tokenizer.json": tokenizer_json(dataset.vocabulary),
    }


def read_dataset(read: Callable[[str], bytes]) -> Dataset:
    """Rebuild a dataset from its files; `read` returns the content of the file with a name.

    InputError if a file is damaged or does not match the others.
    """
    tasks = tasks_from_json(read("tasks.json"), "data/tasks.json")
    measured = measured_splits(tasks)
    whole = [*measured.values()]
    tables = {}
    for name in (*whole, *measured):
        path = f"data/{name}.parquet"
        try:
            table = read_parquet(read(f"{name}.parquet"))
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{path} is damaged ({first_line(error)}); remove it and run again with --resume"
            ) from error
        if not table.schema.equals(SCHEMA):
            raise InputError(
                f"{path} has the columns {_columns(table.schema)}; it should have "
                f"{_columns(SCHEMA)}"
            )
        tables[name] = table
    task_id = {task.name: i for i, task in enumerate(tasks.all_tasks)}
    instances = pa.concat_tables([tables[name] for name in whole])
    columns = ["instruction_id", "instruction", "task", "distribution"]
    known = instances.group_by(columns, use_threads=False).aggregate([]).sort_by("instruction_id")
    if known["instruction_id"].to_pylist() != list(range(len(known))):
        raise InputError("data: instruction_id should number the instructions 0, 1, 2, ...")
    names = known["task"].to_pylist()
    for name in sorted(set(names) - task_id.keys()):
        raise InputError(f"data: the task {name!r} in the Parquet files is not in data/tasks.json")
    dataset = Dataset(
        tasks,
        tuple(known["instruction"].to_pylist()),
        np.array([task_id[name] for name in names]),
        known["distribution"].to_numpy().astype(np.int64),
    )
    for name, table in tables.items():
        x, y = (_ids(table[column], dataset.vocabulary) for column in ("input", "output"))
        dataset.splits[name] = Split(table["instruction_id"].to_numpy().astype(np.int64), x, y)
        right = y[:0] if measured.get(name, name) == "unseen_task" else y
        if (x < 0).any() or (right < 0).any():
            raise InputError(f"data/{name}.parquet: an instance lacks its input or its output")
    return dataset


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def tokenizer_json(vocabulary: Vocabulary) -> bytes:
    """Return a ``tokenizer.json`` (Hugging Face tokenizers) that splits at white space.

    A word that is not in the vocabulary is an error in that tokenizer, not an unknown token.
    """
    pad: dict[str, Any] = {"id": vocabulary.id[PAD], "content": PAD}
    pad |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    pad["special"] = True
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [pad],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary.id, "unk_token": "<unk>"},
    }
    return (json.dumps(tokenizer, indent=1, ensure_ascii=False) + "\n").encode()


def _table(dataset: Dataset, name: str) -> pa.Table:
    split = dataset.splits[name]
    tokens = pa.array(dataset.vocabulary.tokens)
    instructions = pa.array(dataset.instructions)
    spaced = pa.array([" ".join(instruction) for instruction in dataset.instructions])
    names = pa.array([task.name for task in dataset.tasks.all_tasks])
    inputs = tokens.take(split.input)
    outputs = tokens.take(pa.array(split.output, mask=split.output < 0))
    columns = {
        "task": names.take(dataset.task(name)),
        "distribution": dataset.instruction_distribution[split.instruction],
        "instruction_id": split.instruction,
        "instruction": instructions.take(split.instruction),
        "input": inputs,
        "output": outputs,
        "text": pc.binary_join_element_wise(
            spaced.take(split.instruction), inputs, outputs, " ", null_handling="skip"
        ),
    }
    return pa.table(columns, schema=SCHEMA)


def _ids(column: pa.ChunkedArray, vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Return the ids of tokens, (N,); -1 for none."""
    index = pc.index_in(column.combine_chunks(), pa.array(vocabulary.tokens))
    if index.null_count > column.null_count:
        raise InputError("data: a token in the Parquet files is not in data/tasks.json")
    return index.fill_null(-1).to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def _readme(dataset: Dataset) -> str:
    default, measured = (
        "\n".join(f"  - split: {name}\n    path: {name}.parquet" for name in names)
        for names in (dataset.measured.values(), dataset.measured)
    )
    tasks = dataset.tasks
    sizes = "\n".join(
        f"| {name} | {len(split):,} | {len(np.unique(split.instruction)):,} |"
        for name, split in dataset.splits.items()
    )
    unseen = f" and {len(tasks.unseen_tasks)} unseen ones" if tasks.unseen_tasks else ""
    example = _table(dataset, "train")["text"][0].as_py()
    return f"""---
pretty_name: tasklens instruction-following data
task_categories:
- text-generation
tags:
- synthetic
configs:
- config_name: default
  default: true
  data_files:
{default}
- config_name: measured
  data_files:
{measured}
---

# Synthetic instruction-following data

Made by tasklens after Wu and Varshney, "Clusters Emerge in Transformer-based Causal Language
Models" (arXiv 2402.12151). A task is a random function from inputs to outputs; its instructions are
strings of a random regular expression of its own. An instance is the sequence [I; x; y], printed
with a space between tokens: `{example}`.

{len(tasks.tasks)} tasks{unseen}, {len(dataset.instructions):,} instructions of \
{tasks.min_length} to {tasks.max_length} symbols, {len(tasks.inputs)} inputs,
{len(tasks.outputs)} outputs, {len(dataset.vocabulary)} tokens. Functions and expressions are in
`tasks.json`; `tokenizer.json` turns `text` into the ids that training used.

| split | instances | instructions |
|---|---|---|
{sizes}

`val`: (instruction, input) pairs not in `train`; `val_instruction`: instructions not in `train`.
{_unseen_lines(tasks)}`distribution` is the number of the expression within its task.
The configuration `measured` holds the random samples whose hidden states are clustered, all of the
same {len(np.unique(dataset.task("train_subset")))} tasks{", but for unseen ones" * bool(unseen)}.

```python
from datasets import load_dataset

instances = load_dataset("DIR", split="val")
```
"""


def _unseen_lines(tasks: TaskSet) -> str:
    """Return what the splits are that training never reads, one line each."""
    splits = measured_splits(tasks).values()
    lines = ""
    if "unseen_distribution" in splits:
        lines += """\
`unseen_distribution`: instructions of further expressions of the same tasks, none of which is in
any split above. Nothing tells a model to which task such an expression belongs: an accuracy of
about chance is to be expected.
"""
    if "unseen_task" in splits:
        lines += """\
`unseen_task`: instructions of tasks that are in no other split. These tasks have no function, so
there is no right answer: `output` is null, and `text` ends with the input.
"""
    return lines

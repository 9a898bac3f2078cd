"""Reading prompts does not depend on the order of the rows, or on what holds them."""

import dataclasses
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.data.cell_values import look
from tasklens.data.labelled_prompts import LabelledPrompts, read_prompts, read_table, table_of

Rows = list[dict[str, Any]]

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1)
SEEN = TEXTS.filter(look)
CELLS = st.sampled_from([None, "", " ", "x", "y", "nan", "1", "1.0"])


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Draw prompts of two or three labels, in which each label has two prompts or more."""
    labels = draw(st.lists(SEEN, min_size=2, max_size=3, unique_by=look))
    extra = draw(st.lists(st.sampled_from(labels), max_size=4))
    optional = draw(st.sampled_from(["output", "answer", "input", "instruction", "more"]))
    rows = [
        {"text": draw(SEEN), "label": label, optional: draw(CELLS)}
        for label in [*labels, *labels, *extra]
    ]
    return draw(st.permutations(rows))


def outcome(source: Any) -> LabelledPrompts | str:
    """Return the prompts without their sources, or the reason why they are refused."""
    try:
        prompts = read_prompts(source)
    except InputError as error:
        _, _, reason = str(error).partition(": ")
        return reason.split(" of ")[0].split(" looks like ")[0]
    return dataclasses.replace(prompts, source=())


def is_read(source: Any) -> bool:
    return isinstance(outcome(source), LabelledPrompts)


@given(rows=tables(), data=st.data())
def test_the_order_of_the_rows_decides_nothing(rows: Rows, data: st.DataObject) -> None:
    turned = data.draw(st.permutations(rows))
    first, second = outcome(rows), outcome(turned)
    assert isinstance(first, str) == isinstance(second, str)
    if isinstance(first, LabelledPrompts) and isinstance(second, LabelledPrompts):
        assert len(set(first.label)) == len({row["label"] for row in rows})
        parts = [
            sorted(
                zip(
                    p.text,
                    p.label,
                    *filter(None, (p.input, p.output, *p.groups.values())),
                    strict=True,
                )
            )
            for p in (first, second)
        ]
        assert parts[0] == parts[1]


@given(rows=tables())
def test_what_holds_the_prompts_decides_nothing(rows: Rows) -> None:
    # A CSV has no null beside the empty text.
    rows = [{name: value or "" for name, value in row.items()} for row in rows]
    frame = pd.DataFrame(rows)
    csv = io.StringIO()
    frame.to_csv(csv, index=False)
    files = {
        "a.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "a.csv": csv.getvalue().encode(),
        "a.parquet": parquet_bytes(pa.Table.from_pylist(rows)),
        "b.parquet": parquet_bytes(pa.table(frame.astype("category"))),
    }
    outcomes = [outcome(rows), outcome(frame), outcome(frame.to_dict("list"))]
    with TemporaryDirectory() as directory:
        for name, content in files.items():
            (path := Path(directory) / name).write_bytes(content)
            outcomes.append(outcome(path))
    expected, *others = outcomes
    for other in others:
        if isinstance(expected, LabelledPrompts):
            assert isinstance(other, LabelledPrompts), other
            names = dict.fromkeys(other.splits, expected.splits["all"])
            assert dataclasses.replace(expected, splits=names) == other
        else:
            assert other == expected


@given(rows=tables())
def test_prompts_come_back_from_their_table(rows: Rows) -> None:
    if is_read(rows):
        prompts = read_prompts(rows)
        assert read_table(parquet_bytes(table_of(prompts))) == prompts

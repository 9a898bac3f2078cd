"""Convert tables to the content of Parquet files and back."""

import itertools
from collections.abc import Iterable
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

#: Bytes of memory for each value of a table whose rows are Python's, at least.
BYTES_PER_VALUE = 64


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the content of a Parquet file with the table; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def write_parquet(file: BinaryIO, tables: Iterable[pa.Table]) -> None:
    """Write one or more tables of one schema to an open file, each as a row group."""
    tables = iter(tables)
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def read_parquet(content: bytes) -> pa.Table:
    """Return the table of a Parquet file's content; ArrowException or OSError if it is damaged.

    The file is read in this thread alone. `pyarrow.parquet.read_table` gives it to threads, and the
    process aborts if one of them releases it while the interpreter ends.
    """
    with pyarrow.parquet.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(use_threads=False)


def read_foreign_parquet(content: bytes, most: int) -> pa.Table:
    """Return the table of a Parquet file that another program has written.

    A small file may declare, or repeat, more values than any memory holds. Columns of texts are
    arrays of a dictionary, in which a repeated text is stored once. The values within lists are not
    counted.

    Raises
    ------
    ArrowException or OSError
        If the file is damaged.
    MemoryError
        If the table would need more than ``most`` bytes, estimated before it is read.
    """
    with pyarrow.parquet.ParquetFile(pa.BufferReader(content)) as file:
        head = file.metadata
        # The process aborts if the head of a column is asked for, and is damaged.
        parts = [head.row_group(i) for i in range(head.num_row_groups)]
        n_bytes = sum(part.total_byte_size for part in parts)
        _check_size(max(n_bytes, BYTES_PER_VALUE * head.num_columns * head.num_rows), most)
        texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
    with pyarrow.parquet.ParquetFile(pa.BufferReader(content), read_dictionary=texts) as file:
        table = file.read(use_threads=False)
    arrays = [chunk for column in table.columns for chunk in column.chunks]
    repeated = [
        pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0
        for array in arrays
        if pa.types.is_dictionary(array.type) and _is_text(array.type.value_type)
    ]
    _check_size(sum(repeated), most)
    return table


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary())


def _check_size(n_bytes: int, most: int) -> None:
    if n_bytes > most:
        raise MemoryError(
            f"its values need about {n_bytes / 1e9:,.1f} GB of memory, but {most / 1e9:,.1f} GB "
            "can be used"
        )

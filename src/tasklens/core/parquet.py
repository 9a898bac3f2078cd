"""Convert tables to the content of Parquet files and back."""

import itertools
from collections.abc import Iterable
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet


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

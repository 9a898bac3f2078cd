"""Tables as the bytes of Parquet files, and back. No science."""

import itertools
from collections.abc import Iterable
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the table as a Parquet file; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def write_parquet(file: BinaryIO, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema, at least one, to an open file, each as a row group."""
    tables = iter(tables)
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def read_parquet(content: bytes) -> pa.Table:
    """Return the table of a Parquet file; ArrowException or OSError if it is damaged.

    In this thread alone: `pyarrow.parquet.read_table` leaves the file to threads of its own. If one
    of them lets go of it while the interpreter ends, the process aborts.
    """
    with pyarrow.parquet.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(use_threads=False)

"""Tables as the bytes of Parquet files, and back. No science."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the table as a Parquet file; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def write_parquet(file: BinaryIO, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema, at least one, to an open file, each as a row group."""
    writer = None
    try:
        for table in tables:
            writer = writer or pyarrow.parquet.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def rows_where(
    table: pa.Table, columns: Sequence[str], **wanted: Collection[str]
) -> Iterator[tuple[Any, ...]]:
    """Yield some columns of the rows that have one of the wanted values in each column named.

    Many times faster than ``to_pylist`` where few of many rows are wanted.
    """
    for column, values in wanted.items():
        those = pa.array(sorted(values), type=table.schema.field(column).type)
        table = table.filter(pyarrow.compute.is_in(table[column], value_set=those))
    yield from zip(*(table[column].to_pylist() for column in columns), strict=True)


def read_parquet(content: bytes) -> pa.Table:
    """Return the table of a Parquet file.

    In this thread alone: `pyarrow.parquet.read_table` leaves the file to threads of its own, and
    where one of them lets go of it while the interpreter ends, the process aborts.

    Raises
    ------
    pyarrow.ArrowException, OSError
        Where the file is damaged.
    """
    with pyarrow.parquet.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(use_threads=False)

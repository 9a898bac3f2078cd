"""Tables as the bytes of Parquet files, and back. No science."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the table as a Parquet file; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def write_parquet(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema, of which there is at least one, as a file, each a row group."""
    writer = None
    try:
        for table in tables:
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


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

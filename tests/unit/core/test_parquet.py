import subprocess
import sys

import pyarrow as pa
import pytest

from tasklens.core.parquet import parquet_bytes, read_parquet

TABLE = pa.table({"x": [1, 2, None], "name": ["a", "", "é"]})


def test_what_is_written_is_read() -> None:
    content = parquet_bytes(TABLE)
    assert content == parquet_bytes(TABLE)
    assert read_parquet(content).equals(TABLE)


def test_what_is_damaged_is_refused() -> None:
    content = parquet_bytes(TABLE)
    for damaged in (b"", content[:-1], content[: len(content) // 2]):
        with pytest.raises(pa.ArrowException):
            read_parquet(damaged)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_thread_is_left_to_outlive_the_interpreter() -> None:
    program = (
        "import os, pyarrow as pa, numpy\n"
        "from tasklens.core.parquet import parquet_bytes, read_parquet\n"
        "content = parquet_bytes(pa.table({c: range(100_000) for c in 'abcdef'}))\n"
        "before = os.listdir('/proc/self/task')\n"
        "assert len(read_parquet(content)) == 100_000\n"
        "assert os.listdir('/proc/self/task') == before\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

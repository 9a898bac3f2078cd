import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasklens.core.errors import InputError
from tasklens.core.memory import UNKNOWN, check_sizes, free_memory
from tasklens.core.workers import check_workers, default_workers, start_workers


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, UNKNOWN),
        (MEMINFO, 8_192_000),
        (  # version 2: the limit of a group above
            {
                **MEMINFO,
                "proc/self/cgroup": "0::/jobs/one\n",
                "sys/fs/cgroup/jobs/one/memory.max": "max\n",
                "sys/fs/cgroup/jobs/one/memory.current": "5\n",
                "sys/fs/cgroup/jobs/memory.max": "1000\n",
                "sys/fs/cgroup/jobs/memory.current": "900\n",
                "sys/fs/cgroup/jobs/memory.stat": "anon 1\ninactive_file 300\n",
            },
            400,
        ),
        (  # version 1, in a container, whose group is the root
            {
                **MEMINFO,
                "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "500",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 7\ntotal_inactive_file 20\n",
            },
            1520,
        ),
        ({**MEMINFO, "proc/self/cgroup": "0::/\n"}, 8_192_000),
    ],
)
def test_free_memory_is_that_of_the_machine_or_of_its_container(
    tmp_path: Path, files: dict[str, str], free: int
) -> None:
    assert free_memory(write(tmp_path, files)) == free


def test_the_message_names_the_setting_and_what_would_fit() -> None:
    sizes = {"a.rows": 10**9, "a.columns": 8, "a.other": 3}

    def n_bytes(sizes: Mapping[str, int]) -> int:
        return 4 * sizes["a.rows"] * sizes["a.columns"] + sizes["a.other"]

    check_sizes("the table", sizes, n_bytes, 32 * 10**9 + 3)
    with pytest.raises(InputError) as error:
        check_sizes("the table", sizes, n_bytes, 2**30, resource="disk")
    assert str(error.value) == (
        "a.rows = 1000000000: the table needs at least 32 GB of disk, and 1.1 GB are free: should "
        "be at most 33000000 (with a.columns = 8)"
    )
    both = {"a": 10**6, "b": 10**6}
    with pytest.raises(InputError, match="free: lower other settings, too"):
        check_sizes("it", both, lambda sizes: 100 * max(sizes.values()), 2**26 - 1)
    check_sizes("it", {"a": 5}, lambda sizes: 5, 0)  # what is small is not checked


def test_a_pool_of_processes_is_as_large_as_the_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasklens.core.memory.free_memory", lambda: 2**33)
    for count in (10**9, 2**31, 2**63, 10**30):
        with pytest.raises(InputError, match=r"^workers = \d+: a pool .* should be at most 85"):
            check_workers(count, "workers")
    with pytest.raises(InputError, match="a pool of processes"):
        start_workers("local", 10**9)
    check_workers(80, "workers")
    monkeypatch.setattr("tasklens.core.memory.free_memory", lambda: math.nan)
    check_workers(default_workers(), "workers")  # one per core is never refused

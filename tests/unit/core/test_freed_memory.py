import ctypes
import resource

import numpy as np
import pytest

from tasklens.core.freed_memory import freed_memory_kept

MEGABYTE = 2**20


def page_faults_of_a_step() -> int:
    """Allocate and free 100 MB, as steps of training do; return the number of page faults."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [np.ones(MEGABYTE, dtype=np.uint8) for _ in range(100)]
    del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_freed_memory_is_kept_until_the_block_ends() -> None:
    pages = 100 * MEGABYTE // resource.getpagesize()
    with freed_memory_kept():
        page_faults_of_a_step()
        assert min(page_faults_of_a_step() for _ in range(3)) < pages / 10
    assert page_faults_of_a_step() > pages / 10


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept():
        pass

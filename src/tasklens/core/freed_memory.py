"""Keep freed memory in this process."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

#: Parameters of glibc's mallopt. The first limits the free memory at the top of the heap. From the
#: second on, a block is mapped on its own and returned when it is freed.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
#: The largest thresholds that glibc reaches by itself, in bytes.
LARGEST_MAPPED, LARGEST_TRIMMED = 2**25, 2**26


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep memory that is freed for later use by this process, until the block ends.

    The steps of training free equal tensors and allocate them again. By default glibc returns them
    to the system in between, and each page of them costs a page fault. Other C libraries are left
    as they are. At the end the memory is returned; glibc's thresholds are then the largest of those
    that it chooses by itself.
    """
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    library.mallopt(MMAP_THRESHOLD, LARGEST_MAPPED)
    library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.mallopt(TRIM_THRESHOLD, LARGEST_TRIMMED)
        library.malloc_trim(0)

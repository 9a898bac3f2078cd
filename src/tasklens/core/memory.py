"""Measure the memory of this machine."""

import re
from pathlib import Path


def free_memory() -> int:
    """Return the bytes of memory that are free; a number beyond any memory if it is not known."""
    meminfo = Path("/proc/meminfo")
    available = meminfo.exists() and re.search(r"MemAvailable:\s*(\d+)", meminfo.read_text())
    return 1024 * int(available[1]) if available else 2**62

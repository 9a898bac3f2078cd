"""The free memory of this machine, and a check of what is about to fill it."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tasklens.core.errors import InputError

#: Free memory that is not known: more than any machine has.
UNKNOWN = 2**62
#: What needs less is not checked, because to read the free memory takes longer.
SMALL = 2**24


def free_memory(root: Path = Path("/")) -> int:
    """Return the free bytes of memory, or those that a container leaves if these are fewer.

    ``root`` is the directory in which ``proc`` and ``sys`` are. `UNKNOWN` without both.
    """
    free = UNKNOWN
    for line in _read(root / "proc/meminfo").splitlines():
        if match := re.fullmatch(r"MemAvailable:\s*(\d+) kB", line):
            free = 1024 * int(match[1])
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        groups = root / "sys/fs/cgroup"
        names = "memory.max", "memory.current", "inactive_file"
        if controllers == "memory":  # version 1
            groups /= "memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        elif controllers:
            continue
        group = groups / path.lstrip("/")
        # A limit of a group above counts too. In a container the group itself is the root.
        for each in (group, *group.parents):
            if each.is_relative_to(groups):
                free = min(free, _left(each, *names))
    return free


def check_sizes(
    subject: str,
    sizes: Mapping[str, int],
    n_bytes: Callable[[Mapping[str, int]], float],
    free: int | None = None,
    *,
    resource: str = "memory",
) -> None:
    """Check that the memory holds what some settings ask for, before it is allocated.

    Parameters
    ----------
    subject : str
        What needs the memory, as the subject of a sentence in the singular.
    sizes : {setting: int}
        The values of the settings that it depends on, by key.
    n_bytes : callable
        Returns the bytes that are certainly needed under such values; no value lowers it.
    free : int, optional
        The bytes that are free; by default those of this machine.
    resource : str
        What the bytes are taken of, if not of memory.

    Raises
    ------
    InputError
        Names the setting that is the most to blame, and the largest value that would fit.
    """
    needed = n_bytes(sizes)
    if needed <= SMALL:
        return
    free = free_memory() if free is None else free
    if needed <= free:
        return
    key = min(sizes, key=lambda each: n_bytes({**sizes, each: 1}))
    fits, too_much = 0, sizes[key]
    while too_much - fits > 1:
        middle = (fits + too_much) // 2
        fits, too_much = (
            (middle, too_much) if n_bytes({**sizes, key: middle}) <= free else (fits, middle)
        )
    others = ", ".join(
        f"{each} = {value}"
        for each, value in sizes.items()
        if each != key and n_bytes({**sizes, each: 1}) < 0.9 * needed
    )
    remedy = f"should be at most {_rounded(fits)}" if fits else "lower other settings, too"
    raise InputError(
        f"{key} = {sizes[key]}: {subject} needs at least {gigabytes(needed)} of {resource}, and "
        f"{gigabytes(free)} are free: {remedy}{f' (with {others})' if others else ''}"
    )


def gigabytes(n_bytes: float) -> str:
    """Return a number of bytes in GB."""
    size = n_bytes / 1e9
    return f"{size:,.0f} GB" if size >= 10 else f"{size:.2g} GB"


def _rounded(n: int) -> int:
    """Return a number without its digits after the second, which an estimate does not have."""
    unit: int = 10 ** max(0, len(str(n)) - 2)
    return n // unit * unit


def _left(group: Path, limit: str, used: str, cache: str) -> int:
    """Return the bytes that a control group leaves; the cache of files can be given up."""
    most, now = _read(group / limit).strip(), _read(group / used).strip()
    if not most.isdecimal() or not now.isdecimal():  # "max", or no such group
        return UNKNOWN
    match = re.search(rf"^{cache} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
    return max(0, int(most) - int(now) + (int(match[1]) if match else 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

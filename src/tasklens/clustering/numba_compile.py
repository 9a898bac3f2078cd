"""Compile kernels by numba, if it runs, and limit libraries to one thread."""

import functools
import multiprocessing
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController

from tasklens.core.progress import warn

try:
    with warnings.catch_warnings(record=True) as caught:
        import numba
except ImportError as error:  # no numba for this Python or platform
    numba = None
    #: The reason why nothing is compiled; empty if numba runs.
    MISSING = f"numba cannot be imported ({error})"
else:
    MISSING = ""
    for each in caught:  # on variables of the environment, with tracebacks
        if multiprocessing.parent_process() is None:  # otherwise that one has reported it
            warn(str(each.message).splitlines()[0])


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function by `numba.njit` and keeps the code on disk.

    No ``fastmath``: each operation is that of the source, in its order, rounded once (IEEE 754). So
    neither vectors nor the processor nor the cache change a byte. With sums in any order, memory
    would decide. Of a loop that also writes, the compiler keeps a second form, without vectors. It
    takes this form if two arrays happen to be close to each other. To be vectorised, kernels add
    rows to a row of sums, and sum one row by `total`.

    The code is cached for this processor, beside the source or in the user's cache; if neither can
    be written, every process compiles anew. Without numba the function is left as it is, and
    callers ask `MISSING` first.
    """

    def decorate(function: Any) -> Any:
        if numba is None:
            return function
        options.update(nogil=True, error_model="numpy")
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no place for a cache
            return numba.njit(**options)(function)

    return decorate


@compiled(inline="always")
def total(values: Any) -> Any:
    """Return the sum of a vector of at least one value, which is overwritten.

    The last three quarters are added to the first, in a loop that is vectorised, until few values
    are left. The rounding error grows with the logarithm of the length.
    """
    n = len(values)
    while n > 16:
        q = n >> 2
        n -= 3 * q
        first, rest = values[:q], values[n : n + 3 * q]
        for i in range(q):
            first[i] += rest[i] + (rest[q + i] + rest[2 * q + i])
    for i in range(1, n):
        values[0] += values[i]
    return values[0]


def one_thread() -> AbstractContextManager[Any]:
    """Limit the libraries below numpy and scikit-learn to one thread.

    Sums split over threads round differently, and labels and embeddings may follow.
    """
    limiter: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limiter


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks for libraries, which takes milliseconds

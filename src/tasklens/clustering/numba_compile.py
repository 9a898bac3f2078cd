"""Compiled kernels: numba where it runs, and a word about it where it does not; one thread."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController

try:
    import numba
except ImportError as error:  # no numba for this Python or platform
    numba = None
    #: Why nothing is compiled; empty where numba runs.
    MISSING = f"numba cannot be imported ({error})"
else:
    MISSING = ""


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function without the interpreter, and keeps it on disk.

    The compiled code is cached for this processor, beside the source or in the user's cache; where
    neither can be written, it is compiled anew in every process. Without numba the function is left
    as it is, and whoever would call it asks `MISSING` first.

    Parameters
    ----------
    **options
        Further options of `numba.njit`, e.g. ``fastmath``. A function that others of ours call has
        to have ``inline="always"``: else the process that compiles runs another machine code of it
        than those that find it in the cache, and rounds otherwise (seen with AVX512).
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


def one_thread() -> AbstractContextManager[Any]:
    """Limit the libraries below numpy and scikit-learn to one thread.

    Sums split over threads round differently, and labels and embeddings may follow.
    """
    limiter: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limiter


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks for libraries, which takes milliseconds

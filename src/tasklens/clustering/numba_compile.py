"""Compile kernels by numba, if it runs, and limit libraries to one thread."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController

try:
    import numba
except ImportError as error:  # no numba for this Python or platform
    numba = None
    #: The reason why nothing is compiled; empty if numba runs.
    MISSING = f"numba cannot be imported ({error})"
else:
    MISSING = ""

#: Flags that let sums and quotients be vectorised: sums may be reordered, products fused. It is not
#: "fast", which would change infinities and NaN.
FAST = {"reassoc", "contract", "arcp", "nsz"}


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function by `numba.njit` and keeps the code on disk.

    The code is cached for this processor, beside the source or in the user's cache; if neither can
    be written, every process compiles anew. Without numba the function is left as it is, and
    callers ask `MISSING` first. A function that others of ours call needs ``inline="always"``:
    otherwise the process that compiles runs other machine code than those that find it in the
    cache, and rounds differently (seen with AVX512).
    """

    def decorate(function: Any) -> Any:
        if numba is None:
            return function
        options.update(fastmath=FAST, nogil=True, error_model="numpy")
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

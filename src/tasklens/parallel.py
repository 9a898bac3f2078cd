"""Map a function over many items, in this process or in a pool of others. No science."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Processes that map functions over items; started once, used by any number of calls.

    With one worker everything happens in this process and no other is started.

    Parameters
    ----------
    count : int
        Number of processes; 1 or less means this one.
    apart : bool
        Start a process even for one worker.

    Examples
    --------
    >>> with Workers(1) as workers:
    ...     list(workers.map(abs, [-1, 2]))
    [1, 2]
    """

    def __init__(self, count: int, *, apart: bool = False) -> None:
        self.count = max(1, count)
        self._here = self.count == 1 and not apart
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop what has not begun and let the processes end."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        progress: str | None = None,
    ) -> Iterator[Result]:
        """Yield `function(item)` for each item, in the order of the items.

        Parameters
        ----------
        function : callable
            Where there are several workers, a function at the top level of a module, or a
            `functools.partial` of one, whose result depends on its argument alone.
        items : iterable
            Read as workers come free: at most two for each worker are held at a time.
        progress : str, optional
            Label of a progress bar on standard error, shown only on a terminal.

        Raises
        ------
        Exception
            Whatever `function` raised, as it is, at its item's turn.
        """
        results = map(function, items) if self._here else self._in_pool(function, items)
        if progress is None:
            yield from results
        else:
            total = len(items) if isinstance(items, Sized) else None
            yield from tqdm(results, desc=progress, total=total, disable=None)

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Begin `function(item)`; what it returns or raises is the future's.

        In this process it is done before this returns. What is begun is not bounded here.
        """
        if not self._here:
            return self._started().submit(function, item)
        future: Future[Result] = Future()
        try:
            future.set_result(function(item))
        except Exception as error:
            future.set_exception(error)
        return future

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not fork: a forked child may wait for ever on a lock that a thread held.
            self._pool = ProcessPoolExecutor(
                self.count,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_end_with_the_parent,
            )
        return self._pool

    def _in_pool(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._started().submit(function, item))
                if len(waiting) >= 2 * self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _end_with_the_parent() -> None:
    # Ctrl-C reaches every process of the terminal; only the first should print anything.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A parent that is killed tells nobody: its workers would wait for their next item for ever.
    threading.Thread(target=_wait_for_the_parent, daemon=True).start()


def _wait_for_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

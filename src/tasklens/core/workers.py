"""Map a function over many items: in this process, in a pool of others, or on Ray. No science."""

import abc
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

from tqdm import tqdm

from tasklens.core.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

_GONE = (
    "a worker process was killed (for lack of memory, perhaps); what was finished is kept: run it "
    "again with --resume, or with fewer workers"
)


def default_workers() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Outcome(NamedTuple, Generic[Item]):
    """What became of an item."""

    item: Item
    result: Any
    """None where it failed."""
    error: Exception | None


class Workers(abc.ABC):
    """What maps functions over items; started once, used by any number of calls.

    A function is one at the top level of a module, or a `functools.partial` of one, and its result
    depends on its argument alone.

    Attributes
    ----------
    count : int
        How many items are worked on at a time.
    """

    count: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abc.abstractmethod
    def submit(
        self, function: Callable[[Item], Result], item: Item, *, gpus: float | None = None
    ) -> Future[Result]:
        """Begin `function(item)`; what it returns or raises is the future's.

        What is begun is not bounded here.

        Parameters
        ----------
        function : callable
        item : object
        gpus : float, optional
            GPUs that this one takes; heeded where somebody shares them out.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Drop what has not begun, and let the workers end."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in the order of the items.

        Parameters
        ----------
        function : callable
        items : iterable
            Read as workers come free: at most two for each worker are held at a time.

        Raises
        ------
        Exception
            Whatever `function` raised, as it is, at its item's turn.
        """
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self.submit(function, item))
                if len(waiting) >= self._at_a_time:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def outcomes(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        progress: str | None = None,
    ) -> Iterator[Outcome[Item]]:
        """Yield what became of each item as it is done: what fails holds nothing else up.

        Parameters
        ----------
        function : callable
        items : iterable
            Read as workers come free, as by `map`.
        progress : str, optional
            Label of a progress bar on standard error, shown only on a terminal.

        Raises
        ------
        InputError
            Where the workers themselves are gone.
        """
        total = len(items) if isinstance(items, Sized) else None
        done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        running: dict[Future[Result], Item] = {}
        hidden = None if progress else True
        with tqdm(desc=progress, total=total, disable=hidden) as bar:
            try:
                for item in items:
                    future = self.submit(function, item)
                    running[future] = item
                    future.add_done_callback(done.put)
                    while len(running) >= self._at_a_time:
                        yield _outcome(running, done.get())
                        bar.update()
                while running:
                    yield _outcome(running, done.get())
                    bar.update()
            finally:
                for future in running:
                    future.cancel()

    @property
    def _at_a_time(self) -> int:
        return 2 * self.count


def _outcome(running: dict[Future[Result], Item], future: Future[Result]) -> Outcome[Item]:
    item = running.pop(future)
    error = failure(future)
    return Outcome(item, None if error else future.result(), error)


def failure(future: Future[Any]) -> Exception | None:
    """Return why a future that is waited for failed, or None.

    Raises
    ------
    InputError
        Where that was not its own failure: the workers are gone.
    """
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        raise InputError(_GONE) from error
    if error is None or isinstance(error, Exception):
        return error
    raise error


def reason(error: Exception) -> str:
    """Return in a line why something failed."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


class Processes(Workers):
    """Processes of this machine.

    With one worker everything happens in this process and no other is started.

    Parameters
    ----------
    count : int
        Number of processes; 1 or less means this one.
    apart : bool
        Start a process even for one worker.

    Examples
    --------
    >>> with Processes(1) as workers:
    ...     list(workers.map(abs, [-1, 2]))
    [1, 2]
    """

    def __init__(self, count: int, *, apart: bool = False) -> None:
        self.count = max(1, count)
        self._here = self.count == 1 and not apart
        self._pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        """Drop what has not begun and let the processes end."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def submit(
        self, function: Callable[[Item], Result], item: Item, *, gpus: float | None = None
    ) -> Future[Result]:
        """Begin `function(item)`; in this process it is done before this returns."""
        if not self._here:
            try:
                return self._started().submit(function, item)
            except BrokenProcessPool as error:
                raise InputError(_GONE) from error
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

    @property
    def _at_a_time(self) -> int:
        return 1 if self._here else super()._at_a_time


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

"""Map a function over many items: in this process, in a pool of others, or on a Ray cluster."""

import multiprocessing
import os
import queue
import re
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from tasklens.core.errors import InputError
from tasklens.core.progress import Progress, progress

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")

#: The engine that needs nothing: processes of this machine.
LOCAL = "local"

_GONE = (
    "a worker process was killed (for lack of memory, perhaps); what was finished is kept: run it "
    "again with --resume, or with fewer workers"
)


class Outcome(NamedTuple, Generic[Item]):
    """The result or the error of an item."""

    item: Item
    result: Any
    """None if it failed."""
    error: Exception | None


class Workers(Executor):
    """An executor that works on a bounded number of items at a time.

    Start it once and use it for any number of calls. A function is one at the top level of a
    module, or a `functools.partial` of one, and its result depends on its arguments alone. The end
    of a ``with`` block drops what has not begun.
    """

    count: int
    """How many items are worked on at a time."""
    remote: bool
    """Whether a worker may be on another machine, which need not see the disk of this one."""

    def map(  # type: ignore[override]
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Yield `function(item)` for each item, in the order of the items.

        Items are read as workers come free: at most two per worker are held at a time. What
        `function` raises is raised as it is, at its item's turn.
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
        stage: str = "",
        unit: str = "",
    ) -> Iterator[Outcome[Item]]:
        """Yield the result or the error of each item as it is done; no error stops the others.

        Items are read as by `map`. If ``stage`` is given, its progress is shown in items, which
        ``unit`` names. InputError is raised if the workers themselves are gone.
        """
        total = len(items) if isinstance(items, Sized) else None
        done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        running: dict[Future[Result], Item] = {}

        def next_done() -> Outcome[Item]:
            future = done.get()
            error = failure(future)
            if shown is not None:
                shown.update()
            return Outcome(running.pop(future), None if error else future.result(), error)

        shown: Progress | None
        with progress(stage, total, unit) if stage else nullcontext() as shown:
            try:
                for item in items:
                    future = self.submit(function, item)
                    running[future] = item
                    future.add_done_callback(done.put)
                    while len(running) >= self._at_a_time:
                        yield next_done()
                while running:
                    yield next_done()
            finally:
                for future in running:
                    future.cancel()

    @property
    def _at_a_time(self) -> int:
        return 2 * self.count


def failure(future: Future[Any]) -> Exception | None:
    """Wait for a future and return why it failed, or None; InputError if the workers are gone."""
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        raise InputError(_GONE) from error
    if error is None or isinstance(error, Exception):
        return error
    raise error


def reason(error: Exception) -> str:
    """Return in one line why something failed."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


class Processes(Workers):
    """Processes of this machine; a single worker is this process, unless it is to be ``apart``."""

    remote = False

    def __init__(self, count: int, *, apart: bool = False) -> None:
        self.count = max(1, count)
        self._inline = self.count == 1 and not apart
        self._pool: ProcessPoolExecutor | None = None

    def submit(
        self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[Result]:
        """Begin `function(*args)`; in this process it is done before this returns."""
        future: Future[Result] = Future()
        if not self._inline:
            # Not fork: a forked child may wait for ever on a lock that a thread held.
            self._pool = self._pool or ProcessPoolExecutor(
                self.count,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_end_with_the_parent,
            )
            try:
                return self._pool.submit(function, *args, **kwargs)
            except BrokenProcessPool as error:
                raise InputError(_GONE) from error
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Drop what has not begun and let the processes end."""
        if self._pool is not None:
            self._pool.shutdown(wait, cancel_futures=cancel_futures)
            self._pool = None

    @property
    def _at_a_time(self) -> int:
        return 1 if self._inline else super()._at_a_time


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


# Ray's workers are a subclass of `Workers`, so their module is imported inside the functions.


@contextmanager
def opened(engine: str) -> Iterator[None]:
    """Connect to an engine (local, ray, ray:local, ray:ADDRESS) for the time of the block.

    InputError for another name, if Ray is not installed, or if there is no cluster. See
    `tasklens.core.ray_workers.connect`.
    """
    if engine == LOCAL:
        yield
        return
    if not re.fullmatch(r"ray(:(?!//)\S+)?", engine):
        raise InputError(
            f"--engine {engine}: should be local, ray (the cluster of this machine, or a new one), "
            "ray:local (a new one) or ray:ADDRESS, e.g. ray:10.0.0.1:6379"
        )
    from tasklens.core.ray_workers import connected

    with connected(engine.partition(":")[2]):
        yield


def start_workers(
    engine: str, count: int, *, apart: bool = False, cpus: int = 1, gpus: float = 0
) -> Workers:
    """Return the workers of an engine, ``count`` items at a time; 0: as many as there is room for.

    ``apart`` is that of `Processes`. Only Ray heeds the CPUs and GPUs per item; InputError if no
    node of the cluster has them.
    """
    if engine == LOCAL:
        return Processes(count or default_workers(), apart=apart)
    from tasklens.core.ray_workers import RayWorkers

    return RayWorkers(engine.partition(":")[2], limit=count, cpus=cpus, gpus=gpus)


def cores_of_nodes(engine: str) -> list[int]:
    """Return how many CPUs each machine of an engine has."""
    if engine == LOCAL:
        return [default_workers()]
    from tasklens.core.ray_workers import nodes

    return [int(node.get("CPU", 0)) for node in nodes()]


def default_workers() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def need_seen(directory: Path) -> None:
    """Raise InputError if a worker does not see a directory that the driver has made."""
    if not directory.is_dir():
        raise InputError(
            f"{directory} is not to be seen on {socket.gethostname()}; several machines need a "
            "directory that all of them see: name one with --out"
        )

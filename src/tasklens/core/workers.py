"""Map a function over items: in this process, in a pool of processes, or on a Ray cluster."""

import multiprocessing
import os
import queue
import re
import signal
import socket
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from tasklens.core.errors import InputError
from tasklens.core.memory import check_sizes
from tasklens.core.progress import Progress, progress
from tasklens.core.text import visible

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")

#: The engine that runs processes on this machine.
LOCAL = "local"
#: Bytes of a process that has imported what it needs, which it shares with no other.
WORKER_BYTES = 100_000_000

_KILLED = (
    "a worker process was killed, perhaps because the memory was full; all finished work is kept: "
    "run again with --resume, or with fewer workers"
)


class Outcome(NamedTuple, Generic[Item]):
    """The result or the error of an item."""

    item: Item
    result: Any
    """None if the item failed."""
    error: Exception | None


class Workers(Executor):
    """Executor that works on a bounded number of items at a time.

    One executor serves any number of calls. A function has to be at the top level of a module, or a
    `functools.partial` of such a function. Its result has to depend on its arguments alone. The end
    of a ``with`` block drops the items that have not started.
    """

    count: int
    """Number of items that are worked on at a time."""
    remote: bool
    """Whether a worker may be on another machine, which may not see this machine's disk."""

    def map(  # type: ignore[override]
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Yield `function(item)` for each item, in the order of the items.

        Items are read as workers become free: at most two per worker are held at a time. An
        exception of `function` is raised unchanged, at the turn of the item.
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
        """Yield the result or the error of each item as it ends; no error stops the others.

        Items are read as by `map`. If ``stage`` is given, its progress is shown in items, which
        ``unit`` names. InputError if a worker process was killed.
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
    """Wait for a future and return its error, or None; InputError if a worker was killed."""
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        raise InputError(_KILLED) from error
    if error is None or isinstance(error, Exception):
        return error
    raise error


def reason(error: Exception) -> str:
    """Return the reason of a failure in one line."""
    if isinstance(error, InputError):
        return visible(str(error))
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class _ProcessWithoutMain(SpawnProcess):
    """A spawned process that does not import the main module.

    Workers call functions of this package only. If they imported the caller's script, a script
    without ``if __name__ == "__main__"`` would start all of its work again in each of them.
    """

    _starting = threading.Lock()

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802, the name in multiprocessing
        with _ProcessWithoutMain._starting:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                return SpawnProcess._Popen(process_obj)
            finally:
                sys.modules["__main__"] = main


class _SpawnWithoutMain(SpawnContext):
    """Starts processes without the main module, and can end all of them."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override] # noqa: N802
        self._started.append(_ProcessWithoutMain(*args, **kwargs))
        return self._started[-1]

    def terminate(self) -> None:
        for process in self._started:
            if process.pid is not None:  # it was started
                process.terminate()


class Processes(Workers):
    """Processes of this machine; a single worker is this process, unless it is ``separate``."""

    remote = False

    def __init__(self, count: int, *, separate: bool = False) -> None:
        self.count = max(1, count)
        self._inline = self.count == 1 and not separate
        self._pool: ProcessPoolExecutor | None = None
        self._context = _SpawnWithoutMain()

    def submit(
        self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[Result]:
        """Start `function(*args)`; in this process, run it before returning."""
        future: Future[Result] = Future()
        if not self._inline:
            if self._pool is None:
                _start_tracker()
                # A forked child may wait for ever on a lock that a thread held.
                self._pool = ProcessPoolExecutor(
                    self.count, mp_context=self._context, initializer=_end_with_the_parent
                )
            try:
                return self._pool.submit(function, *args, **kwargs)
            except BrokenProcessPool as error:
                raise InputError(_KILLED) from error
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> bool | None:
        """End the processes; at once if this one is interrupted, so that nothing is waited for."""
        if kind is not None and not issubclass(kind, Exception):
            self._context.terminate()
        return super().__exit__(kind, *rest)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Drop the items that have not started and end the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait, cancel_futures=cancel_futures)
            self._pool = None

    @property
    def _at_a_time(self) -> int:
        return 1 if self._inline else super()._at_a_time


def _start_tracker() -> None:
    """Start the process in which Python removes semaphores, so that it ignores SIGHUP.

    It ignores the other signals by itself. If it were gone, it would be started again as this
    process ends, and print a traceback for each semaphore.
    """
    before = signal.getsignal(signal.SIGHUP)
    if before is None or threading.current_thread() is not threading.main_thread():
        return  # only the main thread may change how signals are handled
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, before)


def _end_with_the_parent() -> None:
    # Ctrl-C reaches every process of the terminal; only the parent should print a message.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Without this thread, the workers of a killed parent would wait for ever for their next item.
    threading.Thread(target=_wait_for_the_parent, daemon=True).start()


def _wait_for_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# `ray_workers` imports this module, so the functions below import it inside.


@contextmanager
def opened(engine: str) -> Iterator[None]:
    """Connect to an engine (local, ray, ray:local, ray:ADDRESS) until the block ends.

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
    engine: str, count: int, *, separate: bool = False, cpus: int = 1, gpus: float = 0
) -> Workers:
    """Return the workers of an engine, for ``count`` items at a time; 0: as many as have a CPU.

    ``separate`` is that of `Processes`. Only Ray uses the CPUs and GPUs per item; InputError if no
    node of the cluster has that many.
    """
    if engine == LOCAL:
        check_workers(count, "workers")
        return Processes(count or default_workers(), separate=separate)
    from tasklens.core.ray_workers import RayWorkers

    return RayWorkers(engine.partition(":")[2], limit=count, cpus=cpus, gpus=gpus)


def check_workers(count: int, key: str) -> None:
    """Raise InputError if the memory does not hold so many processes; the setting is ``key``."""
    if count > default_workers():
        check_sizes("a pool of processes", {key: count}, lambda sizes: WORKER_BYTES * sizes[key])


def cores_of_nodes(engine: str) -> list[int]:
    """Return the number of CPUs of each machine of an engine."""
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
    """Raise InputError if this machine does not see a directory that the driver created."""
    if not directory.is_dir():
        raise InputError(
            f"{directory} cannot be seen on {socket.gethostname()}; give a directory with --out "
            "that all machines see"
        )

"""Workers on a Ray cluster: each item is a Ray task that declares the CPUs and GPUs it takes.

Ray schedules the items, carries them and retries what was killed. Moritz et al., "Ray: A
Distributed Framework for Emerging AI Applications" (2018), https://docs.ray.io.
"""

import contextlib
import io
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasklens.core.errors import InputError, first_line
from tasklens.core.workers import P, Result, Workers

#: The address of a cluster that is started here.
NEW = "local"
#: How often an item is begun again whose worker was killed.
RETRIES = 3
#: Seconds for which the size of the cluster is remembered: nodes come and go.
FRESH = 5.0


def import_ray() -> Any:
    """Import Ray, or say what to install."""
    # Nothing leaves the machine unasked. Ray reads it when it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        advice = "--engine ray: Ray is not installed: pip install 'tasklens[ray]'"
        raise InputError(advice) from error
    return ray


def connect(address: str = "") -> Any:
    """Connect to a Ray cluster, unless that is done already, and return the module ``ray``.

    The address is HOST:PORT. If it is empty, it is that of the cluster in RAY_ADDRESS or of the one
    that ``ray start`` has left on this machine; otherwise, as for `NEW`, a cluster of this
    machine's cores is started, which ends with this process. As any Ray it listens to other
    machines, and obeys whoever has the token in ``~/.ray/auth_token``. InputError if there is no
    cluster, or one of another version.
    """
    ray = import_ray()
    if ray.is_initialized():
        return ray
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        try:  # Ray would try for minutes.
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--engine ray:{address}: no Ray cluster there: {getattr(error, 'strerror', error)}"
            ) from error
    # What workers print comes back with what they have done: Ray would put it on standard output.
    words: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address in ("", NEW):
        words["include_dashboard"] = False
    try:
        ray.init(address or None, **words)
    except Exception as error:  # of any of the ways in which two versions do not fit
        raise InputError(
            f"--engine ray:{address}: {first_line(error)} (if the cluster has a token, "
            "RAY_AUTH_MODE=token has to be set here, too)"
        ) from error
    return ray


@contextlib.contextmanager
def connected(address: str = "") -> Iterator[None]:
    """`connect` for the time of the block, or longer if this process was connected before.

    What Ray prints of its workers goes to standard error: standard output is for paths and tables.
    """
    before = import_ray().is_initialized()
    ray = connect(address)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield
        finally:
            if not before:
                ray.shutdown()


def nodes() -> list[dict[str, float]]:
    """Return the resources of each node of the cluster that this process is connected to."""
    return [node["Resources"] for node in connect().nodes() if node["Alive"]]


class RayWorkers(Workers):
    """Ray tasks on the cluster that `connect` finds.

    An item goes there and its result comes back through Ray's object store, so the cluster needs
    no file system for them. An item whose worker is killed is begun again, `RETRIES` times at most.
    ``limit`` bounds the items at a time (0: as many as the cluster has CPUs for), each of which
    takes ``cpus`` and ``gpus``. InputError if no node has them: an item would wait for ever.
    """

    remote = True

    def __init__(
        self, address: str = "", *, limit: int = 0, cpus: int = 1, gpus: float = 0
    ) -> None:
        self._ray = connect(address)
        self._limit, self._cpus, self._gpus = limit, cpus, gpus
        room = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes()]
        if not any(node_cpus >= cpus and node_gpus >= gpus for node_cpus, node_gpus in room):
            most_cpus, most_gpus = map(max, zip(*room, (0, 0), strict=True))
            raise InputError(
                f"no node of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs; at most they have "
                f"{most_cpus:g} CPUs and {most_gpus:g} GPUs"
            )
        self._task = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_work)
        self._functions: dict[int, tuple[object, Any]] = {}
        self._counted, self._cluster_count = -FRESH, 1

    @property
    def count(self) -> int:  # type: ignore[override]
        """How many items the cluster works on at a time, as it is now."""
        if time.monotonic() - self._counted > FRESH:
            self._counted = time.monotonic()
            self._cluster_count = max(1, sum(map(self._fit, nodes())))
        return min(self._limit or self._cluster_count, self._cluster_count)

    @property
    def _at_a_time(self) -> int:
        return self.count if self._limit else super()._at_a_time

    def submit(
        self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[Result]:
        """Begin `function(*args)` on the cluster."""
        arrays: list[pickle.PickleBuffer] = []
        rest = self._ray.cloudpickle.dumps(
            (args, kwargs), protocol=5, buffer_callback=arrays.append
        )
        views = [np.frombuffer(array.raw(), dtype=np.uint8) for array in arrays]
        ref = self._task.remote(self._stored(function), rest, views, str(Path.cwd()))
        return _RayFuture(self._ray, ref)

    def _stored(self, function: Callable[..., Any]) -> Any:
        """Return the function's reference in the object store; what is bound to it may be large."""
        if id(function) not in self._functions:
            ref = self._ray.put(self._ray.cloudpickle.dumps(function))
            self._functions[id(function)] = (function, ref)  # kept, so that its id is its own
        return self._functions[id(function)][1]

    def _fit(self, node: dict[str, float]) -> int:
        """Return how many items a node works on at a time."""
        n = node.get("CPU", 0) / self._cpus
        return int(min(n, node.get("GPU", 0) / self._gpus) if self._gpus else n)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Let go of the functions; what was begun ends by itself, or with the connection.

        It is not cancelled: if a task ends at that moment, Ray 2.60 aborts the driver ("Tried to
        complete task that was not pending").
        """
        self._functions.clear()


class _RayFuture(Future[Any]):
    """The future of a Ray task, whose errors are those of the function."""

    def __init__(self, ray: Any, ref: Any) -> None:
        super().__init__()
        self._ray = ray
        ref.future().add_done_callback(self._end)

    def _end(self, ended: Future[Any]) -> None:
        with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
            error = ended.exception()
            if error is None:
                result, printed = ended.result()
                print(printed, end="", file=sys.stderr)
                self.set_result(result)
            elif isinstance(error, self._ray.exceptions.RayTaskError):
                self.set_exception(error.cause)
            else:
                died = f"its worker died {RETRIES + 1} times (killed, or for lack of memory)"
                about = f"{type(error).__name__}: {first_line(error)}"
                self.set_exception(InputError(f"{died}: {about}"))


def _work(
    function: bytes, rest: bytes, arrays: list[npt.NDArray[np.uint8]], directory: str
) -> tuple[Any, str]:
    """Call a function in a Ray worker, in the driver's directory so that paths mean the same.

    Returns the result, and what was printed on standard error.
    """
    with contextlib.suppress(OSError):
        os.chdir(directory)
    # Copied: what lies in the object store cannot be written to, and the kernels are compiled for
    # arrays that can.
    args, kwargs = pickle.loads(rest, buffers=[bytearray(array) for array in arrays])
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        return pickle.loads(function)(*args, **kwargs), printed.getvalue()

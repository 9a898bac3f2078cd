"""Map over items on a Ray cluster: each item is a Ray task that declares its CPUs and GPUs.

Ray schedules the items, transfers them and retries those that were killed. Moritz et al., "Ray: A
Distributed Framework for Emerging AI Applications" (2018), https://docs.ray.io.
"""

import contextlib
import io
import os
import pickle
import re
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
from tasklens.core.extras import import_extra
from tasklens.core.workers import P, Result, Workers

#: The address that starts a new cluster on this machine.
NEW = "local"
#: How often an item is restarted if its worker is killed.
RETRIES = 3
#: Seconds for which the size of the cluster is remembered: nodes join and leave.
FRESH = 5.0


def import_ray() -> Any:
    """Import Ray, with usage reports off unless the user enabled them."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return import_extra("ray", "--engine ray")


def connect(address: str = "") -> Any:
    """Connect to a Ray cluster, unless this process is connected, and return the module ``ray``.

    The address is HOST:PORT. If it is empty, the cluster in RAY_ADDRESS is used, or the one that
    ``ray start`` started on this machine. If there is neither, or for `NEW`, a cluster of this
    machine's cores is started, which ends with this process. It listens to other machines, as any
    Ray cluster does, and accepts all who have the token in ``~/.ray/auth_token``. InputError if
    there is no cluster, or one of another version.
    """
    ray = import_ray()
    if ray.is_initialized():
        return ray
    host, _, port = address.rpartition(":")
    if host and re.fullmatch(r"[0-9]{1,5}", port):
        try:  # because Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--engine ray:{address}: no Ray cluster answers at this address: "
                f"{getattr(error, 'strerror', error)}"
            ) from error
    # The workers' output is returned with their results; Ray would print it on standard output.
    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address in ("", NEW):
        options["include_dashboard"] = False
    try:
        ray.init(address or None, **options)
    except Exception as error:  # two versions can fail to connect in many ways
        raise InputError(
            f"--engine ray:{address}: {first_line(error)} (if the cluster has a token, "
            "set RAY_AUTH_MODE=token for this command, too)"
        ) from error
    return ray


@contextlib.contextmanager
def connected(address: str = "") -> Iterator[None]:
    """Connect until the block ends, or longer if this process was connected before.

    Ray's own output goes to standard error: standard output is for paths and tables.
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
    """Workers that are Ray tasks, on the cluster that `connect` finds.

    Items and results travel through Ray's object store, so the cluster needs no shared file system.
    An item whose worker is killed is restarted, `RETRIES` times at most. ``limit`` bounds the items
    at a time (0: as many as the cluster has CPUs for). Each item takes ``cpus`` and ``gpus``.
    InputError if no node has that many: an item would wait for ever.
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
        """Number of items that the present cluster works on at a time."""
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
        """Start `function(*args)` on the cluster."""
        arrays: list[pickle.PickleBuffer] = []
        rest = self._ray.cloudpickle.dumps(
            (args, kwargs), protocol=5, buffer_callback=arrays.append
        )
        views = [np.frombuffer(array.raw(), dtype=np.uint8) for array in arrays]
        ref = self._task.remote(self._stored(function), rest, views, str(Path.cwd()))
        return _RayFuture(self._ray, ref)

    def _stored(self, function: Callable[..., Any]) -> Any:
        """Return the function's reference in the object store, because bound data may be large."""
        if id(function) not in self._functions:
            ref = self._ray.put(self._ray.cloudpickle.dumps(function))
            self._functions[id(function)] = (function, ref)  # keeps the function: ids are reused
        return self._functions[id(function)][1]

    def _fit(self, node: dict[str, float]) -> int:
        """Return the number of items that a node works on at a time."""
        n = node.get("CPU", 0) / self._cpus
        return int(min(n, node.get("GPU", 0) / self._gpus) if self._gpus else n)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Release the functions; tasks that have started end by themselves or with the connection.

        No task is cancelled: if it ends at that moment, Ray 2.60 aborts the driver ("Tried to
        complete task that was not pending").
        """
        self._functions.clear()


class _RayFuture(Future[Any]):
    """Future of a Ray task, whose errors are those of the function."""

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
                died = f"its worker died {RETRIES + 1} times (killed, or out of memory)"
                reason = f"{type(error).__name__}: {first_line(error)}"
                self.set_exception(InputError(f"{died}: {reason}"))


def _work(
    function: bytes, rest: bytes, arrays: list[npt.NDArray[np.uint8]], directory: str
) -> tuple[Any, str]:
    """Call a function in a Ray worker; return its result and what it printed on standard error.

    The call runs in the driver's directory, so that relative paths mean the same.
    """
    with contextlib.suppress(OSError):
        os.chdir(directory)
    # The arrays are copied: those of the object store are read-only, and the kernels are compiled
    # for writable arrays.
    args, kwargs = pickle.loads(rest, buffers=[bytearray(array) for array in arrays])
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        return pickle.loads(function)(*args, **kwargs), printed.getvalue()

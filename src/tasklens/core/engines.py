"""Where the work is done: in processes of this machine, or on a Ray cluster. No science."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasklens.core import ray_workers
from tasklens.core.errors import InputError
from tasklens.core.workers import Processes, Workers, default_workers

#: The engine that needs nothing.
LOCAL = "local"


@contextmanager
def opened(engine: str) -> Iterator[None]:
    """Make sure of an engine, for the time of the block.

    Parameters
    ----------
    engine : {"local", "ray", "ray:local", "ray:ADDRESS"}
        See `tasklens.core.ray_workers.connect`.

    Raises
    ------
    InputError
        For another name, where Ray is not installed, or where there is no cluster.
    """
    if engine == LOCAL:
        yield
        return
    if not re.fullmatch(r"ray(:(?!//)\S+)?", engine):
        raise InputError(
            f"--engine {engine}: should be local, ray (the cluster of this machine, or a new one), "
            "ray:local (a new one) or ray:ADDRESS, e.g. ray:10.0.0.1:6379"
        )
    with ray_workers.connected(engine.partition(":")[2]):
        yield


def start_workers(
    engine: str, count: int, *, apart: bool = False, cpus: int = 1, gpus: float = 0
) -> Workers:
    """Return the workers of an engine.

    Parameters
    ----------
    engine : str
        See `opened`.
    count : int
        Items at a time; 0: as many as there are CPUs, and GPUs, for.
    apart : bool
        See `Processes`.
    cpus : int
        CPUs that an item takes; heeded by Ray.
    gpus : float
        GPUs that it takes; heeded by Ray.
    """
    if engine == LOCAL:
        return Processes(count or default_workers(), apart=apart)
    return ray_workers.RayWorkers(engine.partition(":")[2], limit=count, cpus=cpus, gpus=gpus)


def cores_of_nodes(engine: str) -> list[int]:
    """Return how many CPUs each machine of an engine has."""
    if engine == LOCAL:
        return [default_workers()]
    return [int(node.get("CPU", 0)) for node in ray_workers.nodes()]


def need_seen(directory: Path) -> None:
    """Raise InputError where a worker does not see a directory that the driver has made."""
    if not directory.is_dir():
        raise InputError(
            f"{directory} is not to be seen on {socket.gethostname()}; several machines need a "
            "directory that all of them see: name one with --out"
        )

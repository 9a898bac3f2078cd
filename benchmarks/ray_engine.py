"""Measure the Ray engine: two workers against one, cost per cell, transport, memory of the driver.

The cluster is one machine, on which each worker has a core.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from common import Report, Result, begin, medians, parser, peak_megabytes, printed, timed

from tasklens.clustering.cluster import Cell, ClusterSettings, cluster
from tasklens.core.files import sha256
from tasklens.core.ray_workers import RayWorkers, import_ray
from tasklens.core.workers import Processes, Workers

#: Points and width of the cells, as the preset `default` has them.
N, WIDTH, K = 1500, 256, 50
#: Seconds that a cell should take, by its number of starts.
CELL_SECONDS = 0.5


class State(NamedTuple):
    """A hidden state, either its array or the file that has it."""

    file: str
    sha256: str
    name: str
    x: Any = None


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--cells", type=int, default=24, help="cells a round")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--trivial", type=int, default=100_000, help="trivial cells")
    options.add_argument("--driver", action="store_true", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.driver:
        drive(arguments.trivial)
        return
    report = begin(arguments)
    workers_and_overhead(report, arguments.cells, arguments.rounds)
    transport(report, arguments.rounds)
    driver(report, arguments.trivial)


@contextmanager
def cluster_of(n: int) -> Iterator[Workers]:
    """Start a cluster of one node with n CPUs, until the block ends."""
    ray = import_ray()
    quiet = {"logging_level": "error", "log_to_driver": False, "include_dashboard": False}
    ray.init("local", num_cpus=n, _node_ip_address="127.0.0.1", **quiet)
    try:
        with RayWorkers() as workers:
            yield workers
    finally:
        ray.shutdown()


def all_of(workers: Workers, function: Callable[[Any], Any], items: list[Any]) -> None:
    """Call the function for all items, and raise the first error."""
    for _, _, error in workers.outcomes(function, items):
        if error:
            raise error


def workers_and_overhead(report: Report, n_cells: int, rounds: int) -> None:
    """Time the same cells in this process, on one Ray worker and on two, in turns."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, WIDTH), dtype=np.float32)
    cells = [Cell(0, step, "val", "block1", "raw", K, x) for step in range(n_cells)]
    work = settings_of_half_a_second(cells)
    seconds: dict[str, list[float]] = {"here": [], "one": [], "two": []}
    for _ in range(rounds):
        seconds["here"].append(timed(partial(all_of, Processes(1), work, cells)))
        for name, n in (("one", 1), ("two", 2)):
            with cluster_of(n) as workers:
                all_of(workers, work, cells[: 2 * n])  # starts and imports
                seconds[name].append(timed(partial(all_of, workers, work, cells)))
    took = medians(seconds)
    report.add(
        Result(
            what="cells on two Ray workers of a core each",
            against="on one",
            ours=n_cells / took["two"],
            theirs=n_cells / took["one"],
            unit="cells/s",
            ratio=took["one"] / took["two"],
            target=">= 1.8",
        )
    )
    report.add(
        Result(
            what="a cell on one Ray worker",
            against="in this process",
            ours=took["one"] / n_cells,
            theirs=took["here"] / n_cells,
            unit="s",
            ratio=took["one"] / took["here"],
            target="<= 1.05",
            note=f"N = {N}, D = {WIDTH}, k = {K}, {work.keywords['settings'].n_init} starts",
        )
    )


def settings_of_half_a_second(cells: list[Cell]) -> partial[Any]:
    """Return a function that clusters a cell in about `CELL_SECONDS` on this machine."""
    few = ClusterSettings(n_init=100, cluster_seeds=1)
    cluster_cell(cells[0], few)  # compiles
    seconds = timed(partial(cluster_cell, cells[0], few))
    n_init = max(1, round(100 * CELL_SECONDS / seconds))
    return partial(cluster_cell, settings=ClusterSettings(n_init=n_init, cluster_seeds=1))


def cluster_cell(cell: Cell, settings: ClusterSettings) -> float:
    """Cluster a cell."""
    return float(cluster([cell], settings)[0].inertia[0])


def transport(report: Report, rounds: int) -> None:
    """Time the transport of a state to a worker, through the object store or from its file.

    The first case is a file with the states of a checkpoint, whose hash a worker checks for each
    state. The second case is one file per state, whose hash the driver has checked.
    """
    for what, n, width, n_states, n_items in (
        ("a run's", N, WIDTH, 24, 240),
        ("a probe's", 20_000, 4096, 1, 8),
    ):
        rng = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as directory, cluster_of(1) as workers:
            file = str(Path(directory) / "states.safetensors")
            x = rng.standard_normal((n, width), dtype=np.float32)
            safetensors.numpy.save_file({str(i): x for i in range(n_states)}, file)
            digest = sha256(Path(file).read_bytes()) if n_states > 1 else ""
            carried = [State(file, "", "0", x)] * n_items
            placed = [State(file, digest, "0")] * n_items
            all_of(workers, read_state, [carried[0], placed[0]])
            seconds: dict[str, list[float]] = {"store": [], "file": []}
            for _ in range(rounds):
                seconds["store"].append(timed(partial(all_of, workers, read_state, carried)))
                seconds["file"].append(timed(partial(all_of, workers, read_state, placed)))
        took = {name: total / n_items for name, total in medians(seconds).items()}
        report.add(
            Result(
                what=f"{what} state of {n:,} x {width} through the object store",
                against="from its file" + (", whose hash is looked at" if digest else ""),
                ours=1e3 * took["store"],
                theirs=1e3 * took["file"],
                unit="ms",
                ratio=took["file"] / took["store"],
                note=f"{x.nbytes / 1e6:,.1f} MB; on one machine, the file in its page cache",
            )
        )


def read_state(state: State) -> float:
    """Read every number of a state."""
    x = state.x
    if x is None:
        if state.sha256 and sha256(Path(state.file).read_bytes()) != state.sha256:
            raise ValueError(f"{state.file} is damaged")
        with safetensors.safe_open(state.file, framework="numpy") as file:
            x = file.get_tensor(state.name)
    return float(x.max())


def driver(report: Report, n: int) -> None:
    """Measure the driver of many trivial cells, in a process of its own."""
    command = [sys.executable, __file__, "--driver", "--trivial", str(n)]
    seconds, before, after = printed(command, 3)
    report.add(
        Result(
            what=f"memory of a driver of {n:,} trivial cells",
            against="of one that has done none",
            ours=after,
            theirs=before,
            unit="MB",
            ratio=after / before,
            target="< 1000 MB",
            note=f"{seconds:.0f} s, {1e3 * seconds / n:.2f} ms a cell, on two workers",
        )
    )


def drive(n: int) -> None:
    """Run trivial cells, and print the seconds, and the megabytes before and after."""
    with cluster_of(2) as workers:
        all_of(workers, abs, list(range(8)))
        before = peak_megabytes()
        began = time.perf_counter()
        for i, outcome in enumerate(workers.outcomes(abs, range(n))):
            if outcome.error:
                raise outcome.error
            if i % 10_000 == 0:
                print(f"{i:,} cells, {peak_megabytes():.0f} MB", flush=True)
        print(time.perf_counter() - began, before, peak_megabytes())


if __name__ == "__main__":
    main()

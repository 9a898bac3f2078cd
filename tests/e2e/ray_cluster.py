"""A Ray cluster of several nodes on this machine, in a process of its own, for test_ray.py.

The program prints the address, then obeys each line that it reads: `drop` kills a node with all
that runs on it, `add` starts one. It ends with its standard input.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from ray._private import services
from ray.cluster_utils import Cluster

N_NODES = 3
#: As in tests/conftest.py, which this process does not see.
HANG = 600


def patient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Repeat a function that fails until a node is up, for which Ray allows 30 seconds alone."""

    def call(*arguments: Any) -> Any:
        end = time.monotonic() + HANG
        while True:
            try:
                return function(*arguments)
            except (RuntimeError, TimeoutError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    return call


def main() -> None:
    """Run until standard input ends."""
    services.get_node = patient(services.get_node)
    services.wait_for_node = patient(services.wait_for_node)
    # The head has no CPU, so that a node can go without the cluster.
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    nodes = [cluster.add_node(num_cpus=1) for _ in range(N_NODES)]
    patient(cluster.wait_for_nodes)()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "drop":
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
        else:
            nodes.append(cluster.add_node(num_cpus=1))
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()

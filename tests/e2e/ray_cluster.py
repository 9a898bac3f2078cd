"""A Ray cluster of several nodes on this machine, in a process of its own, for test_ray.py.

Prints its address, then does what it reads, a line at a time: `drop` kills a node with all that is
on it, `add` starts one. Ends with its standard input.
"""

import sys

from ray.cluster_utils import Cluster

N_NODES = 3


def main() -> None:
    """Run until nobody wants it any more."""
    # The head has no CPU, so that a node can go without the cluster.
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    nodes = [cluster.add_node(num_cpus=1) for _ in range(N_NODES)]
    cluster.wait_for_nodes()
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

"""Compute the agreement of two partitions from their contingency table alone.

scikit-learn's scores give the same numbers. With a thousand instances they take twenty times as
long, since they check labels that were checked before.
"""

import numpy as np
import numpy.typing as npt
from sklearn.metrics.cluster import expected_mutual_information

Table = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def contingency(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> Table:
    """Return the number of elements in each part of a and each part of b, (parts, parts).

    ``a`` and ``b``, (N,), are the part of each element, as any integers.
    """
    return counted(ranks(a), ranks(b))


def ranks(part: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return the part of each element, (N,), numbered 0 .. P - 1 in the order of the numbers."""
    rank: npt.NDArray[np.int64] = np.unique(part, return_inverse=True)[1]
    return rank


def counted(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> Table:
    """Return the table of `contingency`, of parts that are numbered from 0."""
    shape = int(a.max()) + 1, int(b.max()) + 1
    return np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)


def adjusted_rand(table: Table) -> float:
    """Return the adjusted Rand index (Hubert and Arabie, "Comparing partitions", 1985, eq. 5)."""
    # Python's integers: from about 100,000 elements on, the products exceed 64 bits.
    n = int(table.sum())
    both = int((table**2).sum()) - n
    of_a = int((table.sum(axis=1) ** 2).sum()) - n
    of_b = int((table.sum(axis=0) ** 2).sum()) - n
    if both == of_a == of_b:
        return 1.0
    pairs = n * (n - 1)
    return 2 * (pairs * both - of_a * of_b) / (pairs * (of_a + of_b) - 2 * of_a * of_b)


def one_against_rest(table: Table) -> Floats:
    """Return the index of each part of a against each part of b, and the rest, (parts, parts).

    Entry (i, j) is the adjusted Rand index of two partitions: part i of a and all other elements,
    and part j of b and all other elements.
    """
    inside = table.astype(np.float64)
    n = inside.sum()
    a, b = inside.sum(axis=1, keepdims=True), inside.sum(axis=0, keepdims=True)
    both = inside**2 + (a - inside) ** 2 + (b - inside) ** 2 + (n - a - b + inside) ** 2 - n
    of_a, of_b = (size**2 + (n - size) ** 2 - n for size in (a, b))
    pairs = n * (n - 1)
    room = pairs * (of_a + of_b) - 2 * of_a * of_b
    above = 2 * (pairs * both - of_a * of_b)
    # Without room, both partitions have one part.
    index: Floats = np.divide(above, room, out=np.ones_like(inside), where=room > 0)
    return index


def extremes(
    task: npt.NDArray[np.integer], partitions: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.integer], float, float]:
    """Return the partitions with the lowest and the highest ARI against the task, (2, N), and both.

    ``task``, (N,), and ``partitions``, (P, N), have the part of each element. The first partition
    counts if several have the same ARI.
    """
    part, labels = ranks(task), partitions.astype(np.int64)
    values = [adjusted_rand(counted(part, each)) for each in labels]
    low, high = int(np.argmin(values)), int(np.argmax(values))
    return partitions[[low, high]], values[low], values[high]


def agreement(table: Table) -> dict[str, float]:
    """Return all measures of the agreement of clusters (columns) with classes (rows), by name.

    They are `ari`; `ami` (Vinh, Epps and Bailey, JMLR 2010, arithmetic mean); `homogeneity`,
    `completeness` and `v_measure` (Rosenberg and Hirschberg, 2007).
    """
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    h_rows, h_columns = _entropy(rows), _entropy(columns)
    mutual = max(0.0, h_rows + h_columns - _entropy(table.ravel()))
    homogeneity = mutual / h_rows if h_rows else 1.0
    completeness = mutual / h_columns if h_columns else 1.0
    both = homogeneity + completeness
    return {
        "ari": adjusted_rand(table),
        "ami": _adjusted_mutual_information(table, mutual, (h_rows + h_columns) / 2),
        "homogeneity": homogeneity,
        "completeness": completeness,
        "v_measure": 2 * homogeneity * completeness / both if both else 0.0,
    }


def _adjusted_mutual_information(table: Table, mutual: float, mean_entropy: float) -> float:
    """Return the adjusted mutual information, see `agreement`."""
    if 1 in table.shape:
        return 1.0 if table.shape == (1, 1) else 0.0
    expected = float(expected_mutual_information(table, int(table.sum())))
    # Neither part may become zero if only rounding decides its sign.
    smallest = float(np.finfo(np.float64).eps)
    above, room = mutual - expected, mean_entropy - expected
    above = min(above, -smallest) if above < 0 else max(above, smallest)
    room = min(room, -smallest) if room < 0 else max(room, smallest)
    return above / room


def _entropy(counts: Table) -> float:
    """Return the entropy of a partition with these sizes, in nats."""
    if len(counts) == 1:
        return 0.0
    counts = counts[counts > 0]
    n = counts.sum()
    return float(np.log(n) - (counts @ np.log(counts)) / n)

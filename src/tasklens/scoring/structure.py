"""Score what is in the hidden states of a cell without clusters: variance, spectrum, neighbours."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tasklens.clustering.cluster import Cell
from tasklens.clustering.numba_compile import one_thread
from tasklens.scoring.decodability import task_decodability
from tasklens.scoring.spectrum import alpha, gram, rankme, spectra
from tasklens.scoring.variance import centred, nc1, separation, variance_share


def structure(cell: Cell, parts: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, float]:
    """Return the scores of a cell's hidden states by metric, without those that are not defined.

    `variance_task` and so on for each of the parts, (N,) each, of which one is "task", see
    `variance_share`; `separation`, `nc1`, `rankme`, `alpha` and `task_decodability`, see the
    functions of these names.
    """
    with one_thread():  # so that the last bits do not depend on the number of threads
        task, x = parts["task"], centred(cell.x)
        # The rows' products serve several scores, and are no larger than the states.
        products = gram(cell.x) if len(x) < x.shape[1] else None
        singular, eigenvalues = spectra(cell.x, products)
        scores = {f"variance_{name}": variance_share(x, part) for name, part in parts.items()}
        scores |= {
            "separation": separation(x, task, products),
            "nc1": nc1(x, task),
            "rankme": rankme(singular),
            "alpha": alpha(eigenvalues),
            "task_decodability": task_decodability(cell.x, task, cell.seed, cell.split, products),
        }
    return {name: score for name, score in scores.items() if not math.isnan(score)}

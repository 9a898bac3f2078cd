"""Hidden states whose clusters are planted: a part for the task, one for the input, and noise."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
TASKS, INPUTS, WIDTH = 10, 48, 64


@dataclass(frozen=True)
class Planted:
    """N states of width D with their tasks and inputs."""

    states: Floats  # (N, D)
    task: Ints  # (N,)
    input: Ints  # (N,)


def planted(input_scale: float, seed: int, n: int = 1000) -> Planted:
    """Return n states: a vector of the task, one of the input times a scale, and noise.

    The vectors are those of one world, the instances are drawn by the seed. A vector of a task has
    standard deviation 1 per dimension, and so has that of an input at scale 1; noise has 0.5.
    """
    world = np.random.default_rng(0)
    of_task = world.standard_normal((TASKS, WIDTH))
    of_input = world.standard_normal((INPUTS, WIDTH))
    rng = np.random.default_rng([1, seed])
    task, x = rng.integers(TASKS, size=n), rng.integers(INPUTS, size=n)
    noise = 0.5 * rng.standard_normal((n, WIDTH))
    states = of_task[task] + input_scale * of_input[x] + noise
    return Planted(states.astype(np.float32), task, x)

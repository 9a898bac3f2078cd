"""Compute the learning rate of each step, and the steps of the checkpoints."""

import math
from collections.abc import Iterable

import numpy as np


def learning_rate(step: int, *, peak: float, floor: float, warmup: int, total: int) -> float:
    """Return the learning rate of optimiser step ``step`` (0 .. total - 1).

    It rises linearly over ``warmup`` steps and reaches ``peak`` at step ``warmup - 1``. It then
    falls along half a cosine to ``floor`` at the last step (Loshchilov and Hutter, SGDR, 2017,
    equation 5, without restarts).
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup + 1) / max(total - warmup, 1)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def checkpoint_steps(total: int, every: int) -> tuple[int, ...]:
    """Return the checkpoint steps: 0, the powers of two below ``every``, its multiples, the last.

    As in Pythia (Biderman et al., 2023), they are dense when a network changes fastest.
    """
    powers = [2**i for i in range(every.bit_length()) if 2**i < every]
    return tuple(
        sorted({0, *(p for p in powers if p <= total), *range(0, total + 1, every), total})
    )


def evenly_spaced(steps: Iterable[int], n: int) -> tuple[int, ...]:
    """Return at most ``n`` of the steps, about evenly spaced, with the first and the last.

    Only the last if n is 1.
    """
    every = np.array(sorted(steps))
    if n >= len(every):
        return tuple(every.tolist())
    wanted = np.linspace(every[0], every[-1], n) if n > 1 else every[len(every) - n :]
    nearest = np.abs(every - wanted[:, None]).argmin(axis=1)
    return tuple(every[np.unique(nearest)].tolist())

"""Compute the learning rate of each step, and the steps of the checkpoints."""

import math


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


def sparse_steps(steps: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Return ``n`` of the steps, spread evenly over their order and including the last."""
    if n >= len(steps):
        return steps
    return tuple(steps[-1 - (i * (len(steps) - 1)) // max(n - 1, 1)] for i in range(n))[::-1]

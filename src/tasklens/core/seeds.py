"""Streams of random numbers, each derived from the root seed and its purpose.

Adding a consumer changes no other: there is no global generator and no order of calls.
"""

import hashlib

import numpy as np


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``derived_seed(0, "batches", epoch)``.

    The words of the purpose are joined unambiguously and hashed with SHA-256, so streams of
    different purposes are independent for all practical ends and equal on every machine.
    """
    words = repr((int(seed), *purpose)).encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:8], "little") >> 1


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return NumPy's PCG64 generator for one purpose under a root seed."""
    return np.random.default_rng(derived_seed(seed, *purpose))

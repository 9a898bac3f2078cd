"""Derive streams of random numbers, each from the root seed and a purpose.

A new consumer changes no other stream: there is no global generator and no order of calls.
"""

import hashlib

import numpy as np


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``derived_seed(0, "batches", epoch)``.

    The parts of the purpose are joined unambiguously and hashed with SHA-256. Streams of different
    purposes are therefore independent in practice, and equal on every machine.
    """
    content = repr((int(seed), *purpose)).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return NumPy's PCG64 generator for one purpose under a root seed."""
    return np.random.default_rng(derived_seed(seed, *purpose))

"""Restore the training or evaluation mode of a network, and the type of its weights."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def mode_kept(network: nn.Module) -> Iterator[None]:
    """Restore the mode of every module when the block ends."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, without dropout, until the block ends."""
    with mode_kept(network):
        network.eval()
        yield


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Restore what code of others may change in this process until the block ends.

    That is the mode of every module, the global random generators of Python, NumPy and PyTorch, and
    the number of threads. The block runs without the automatic mixed precision of a caller.
    """
    devices = {each.device for each in network.parameters() if each.device.type == "cuda"}
    device = next(iter(devices), torch.device("cpu"))
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is restored
    threads = torch.get_num_threads()
    try:
        with (
            mode_kept(network),
            torch.random.fork_rng([each.index for each in devices]),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def in_float32(network: nn.Module) -> Iterator[None]:
    """Make the weights of bfloat16 or float16 float32 until the block ends.

    Nothing is lost: float32 holds all values of both types.
    """
    types = (torch.bfloat16, torch.float16)
    before = [(each, each.dtype) for each in network.parameters() if each.dtype in types]
    try:
        for parameter, _ in before:
            parameter.data = parameter.data.float()
        yield
    finally:
        for parameter, dtype in before:
            parameter.data = parameter.data.to(dtype)

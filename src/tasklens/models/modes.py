"""Restore the training or evaluation mode of a network, and the type of its weights."""

from collections.abc import Iterator
from contextlib import contextmanager

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

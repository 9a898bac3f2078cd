"""Restore the training or evaluation mode of a network."""

from collections.abc import Iterator
from contextlib import contextmanager

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

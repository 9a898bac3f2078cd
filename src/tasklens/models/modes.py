"""Leave a network in training or evaluation mode as the caller had it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def mode_kept(network: nn.Module) -> Iterator[None]:
    """Restore the mode of every module at the end of the block, whatever the block does."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for the block: without dropout."""
    with mode_kept(network):
        network.eval()
        yield

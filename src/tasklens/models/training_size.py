"""Estimate the memory of a network and of a step of its training, before either is made.

The estimates are less than what is used, so that nothing that works is refused.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from tasklens.core.memory import check_sizes

#: Bytes of a block's modules in Python, besides its weights.
BLOCK_BYTES = 60_000
#: Bytes that a weight needs in training besides itself: its gradient and two moments of AdamW.
TRAINED_WEIGHT = 12
#: Bytes of a logit: of itself, its logarithm of the probability, and both gradients.
LOGIT = 12
#: Bytes of a token of a training instance while instances of one instruction are joined to rows.
JOINED_TOKEN = 32
#: Numbers that a block keeps of a token for its gradient, in widths of the residual stream.
KEPT_WIDTHS = 16


class Network(NamedTuple):
    """Sizes of a network, on which its memory and that of its training steps depend."""

    n_layer: int
    n_embd: int
    n_head: int
    vocab_size: int
    n_positions: int
    tied: bool

    @property
    def n_parameters(self) -> int:
        """The number of weights."""
        D = self.n_embd
        embeddings = self.vocab_size * (1 if self.tied else 2) + self.n_positions
        return embeddings * D + self.n_layer * (12 * D**2 + 13 * D) + 2 * D

    @property
    def n_bytes(self) -> int:
        """The bytes of the network."""
        return 4 * self.n_parameters + BLOCK_BYTES * self.n_layer

    def with_sizes(self, sizes: Mapping[str, int]) -> "Network":
        """Return the network with the numbers of blocks and columns of some settings."""
        return self._replace(n_layer=sizes["model.n_layer"], n_embd=sizes["model.n_embd"])

    @property
    def sizes(self) -> dict[str, int]:
        """The settings that `with_sizes` takes."""
        return {"model.n_layer": self.n_layer, "model.n_embd": self.n_embd}


class Step(NamedTuple):
    """Sizes of a training step, besides those of the network and the number of rows."""

    length: int
    """Symbols of an instruction."""
    inputs: int
    """Inputs of a row."""
    itemsize: int
    """Bytes of a number that is kept for the gradient."""


def check_network(network: Network, free: int | None = None) -> None:
    """Raise InputError if the weights do not fit the free memory, by default this machine's."""
    check_sizes("the network", network.sizes, lambda sizes: network.with_sizes(sizes).n_bytes, free)


def check_training(network: Network, rows: int, step: Step, free: int | None = None) -> None:
    """Raise InputError if a training step of some rows does not fit the free memory."""

    def n_bytes(sizes: Mapping[str, int]) -> int:
        return training_bytes(network.with_sizes(sizes), sizes["train.instructions_per_step"], step)

    sizes = {**network.sizes, "train.instructions_per_step": rows}
    check_sizes("a training step", sizes, n_bytes, free)


def check_rows(n_instances: int, n_tokens: int) -> None:
    """Raise InputError if so many training instances of so many tokens cannot be joined to rows."""
    check_sizes(
        "the training data",
        {"training instances": n_instances, "tokens of each": n_tokens},
        lambda sizes: JOINED_TOKEN * math.prod(sizes.values()),
    )


def training_bytes(network: Network, rows: int, step: Step) -> int:
    """Return the bytes of a network that is trained, and of a step of some rows, at least."""
    row = step.length + step.inputs
    kept = KEPT_WIDTHS * network.n_embd + network.n_head * row  # and its scores
    per_token = network.n_layer * kept * step.itemsize + LOGIT * network.vocab_size
    return network.n_bytes + TRAINED_WEIGHT * network.n_parameters + rows * row * per_token

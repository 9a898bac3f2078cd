"""Compute the loss on shared-prefix rows, and its gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tasklens.models.distributed import SINGLE_PROCESS, ProcessGroup
from tasklens.models.training_batches import TrainingBatch


def loss_and_hits(
    model: Callable[..., Any],
    batch: TrainingBatch,
    *,
    loss: str = "all",
    output_weight: float = 1.0,
    group: ProcessGroup = SINGLE_PROCESS,
) -> tuple[Tensor, Tensor]:
    """Return a GPT-2's loss on the plain sequences of the rows, and the hits, bool (B, m).

    The loss, a float32 scalar, is a mean cross-entropy in nats over the B * m sequences [I; x; y].
    With ``loss="output"`` it is taken over y alone. With ``loss="all"`` it is taken over I from its
    second symbol on, x and y; y has the weight ``output_weight``, all others 1. A token that m
    sequences share counts m times. A hit is a y that is the most likely token after [I; x].

    If the rows are a rank's share of a step, the losses of all ranks sum up to the loss of the
    step. All ranks have to call this together.
    """
    prefix, length, inputs, outputs = batch
    (B, L), m = prefix.shape, inputs.shape[1]
    logits, _ = model(torch.cat([prefix, inputs], dim=1), L, length)
    T, V = logits.shape[1:]
    device = logits.device
    log_p = logits.log_softmax(dim=-1, dtype=torch.float32)  # (B, T, V)
    # A target is predicted at one token of the row and has a weight; (B, number of targets) each.
    token, target = torch.arange(L, T, device=device).expand(B, m), outputs
    weight = torch.ones(B, m, device=device)
    if loss == "all":
        symbol = torch.arange(L - 1, device=device).expand(B, L - 1)
        last = (length - 1)[:, None]  # (B, 1)
        token = torch.cat([symbol, last.expand(B, m), token], dim=1)
        target = torch.cat([prefix[:, 1:], inputs, outputs], dim=1)
        weight = torch.cat([m * (symbol < last), weight, output_weight * weight], dim=1)
    row = torch.arange(B, device=device)[:, None]
    # One selection of single numbers: slices would cost a pass over (B, T, V) each on the way back.
    chosen = log_p.flatten().index_select(0, ((row * T + token) * V + target).flatten())
    total, weights = -(chosen * weight.flatten()).sum(), weight.sum()
    if group.size > 1:
        weights = group.sum(weights)
    return total / weights, log_p[:, L:].argmax(dim=-1) == outputs


def compute_gradients(
    model: Callable[..., Any],
    batch: TrainingBatch,
    *,
    precision: str,
    group: ProcessGroup = SINGLE_PROCESS,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Compute the model's gradients; return those two of `loss_and_hits`, which has ``options``."""
    model.zero_grad()  # type: ignore[attr-defined]
    device = batch.prefix.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
        value, hits = loss_and_hits(model, batch, group=group, **options)
    # DDP averages over the ranks, but the gradient of the step's loss is the sum of the parts'.
    (value if group.size == 1 else group.size * value).backward()  # type: ignore[no-untyped-call]
    return value.detach(), hits

"""Compute the loss on shared-prefix rows, and its gradients."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, the usual name
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
    logits = logits.float()  # (B, L + m, V)
    answers = logits[:, L:]  # (B, m, V)
    total = F.cross_entropy(answers.flatten(0, 1), outputs.flatten(), reduction="sum")
    weight: Tensor | float = B * m
    if loss == "all":
        padding = torch.arange(1, L, device=length.device) >= length[:, None]  # (B, L - 1)
        symbols = prefix[:, 1:].masked_fill(padding, -100).flatten()  # -100: no target
        total = output_weight * total + m * F.cross_entropy(
            logits[:, : L - 1].flatten(0, 1), symbols, ignore_index=-100, reduction="sum"
        )
        row = torch.arange(B, device=length.device)
        next_input = logits[row, length - 1].log_softmax(dim=-1)  # (B, V)
        total = total - next_input.gather(1, inputs).sum()
        weight = m * (length + output_weight).sum()
    if group.size > 1:
        weight = group.sum(torch.as_tensor(weight, dtype=torch.float32, device=length.device))
    return total / weight, answers.argmax(dim=-1) == outputs


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

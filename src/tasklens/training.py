"""Training: one step, the loop, and the state it goes on from."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F  # noqa: N812, the name everybody knows it by
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from tasklens.dataset import Dataset
from tasklens.errors import InputError
from tasklens.gpt2 import GPT2, check_length
from tasklens.randomness import derived_seed
from tasklens.rows import Rows, batches, shared_prefix_rows
from tasklens.schedule import learning_rate
from tasklens.settings import CONFIG


@dataclass(frozen=True, config=CONFIG)
class TrainSettings:
    """The optimiser, the schedule and what is kept of the run."""

    steps: Annotated[int, Field(ge=1)] = 1600
    """Optimiser steps."""
    instructions_per_step: Annotated[int, Field(ge=1)] = 24
    """Rows in a step, each an instruction with all its training inputs."""
    learning_rate: Annotated[float, Field(gt=0)] = 4e-4
    """Peak learning rate."""
    final_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """Floor that the cosine ends at."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps of linear warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled decay, on matrices only (embeddings are matrices; biases and norms not)."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's decay rate of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """AdamW's decay rate of the second moment."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's epsilon."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    loss: Literal["all", "output"] = "all"
    """Next-token prediction over the whole sequence, or of the output alone."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast in training (weights, norms and the loss stay fp32; measuring is always fp32).
    Faster on CPUs with AMX or AVX512-BF16, slower on others."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of training and harvesting; 0: all cores. Sums differ in their last bits between
    thread counts, so bytes repeat only at an equal number."""

    def __post_init__(self) -> None:
        """Check what spans two keys."""
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate = {self.final_learning_rate} is above learning_rate = "
                f"{self.learning_rate}; the cosine falls"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps = {self.warmup_steps} is more than steps = {self.steps}"
            )


class StepLog(NamedTuple):
    """What one step says of itself, measured on its batch before the update."""

    step: int
    loss: float
    accuracy: float
    learning_rate: float
    grad_norm: float


class Batch(NamedTuple):
    """Shared-prefix rows and their outputs: (B, L), (B,), (B, m) and (B, m), all int64."""

    prefix: Tensor
    length: Tensor
    inputs: Tensor
    outputs: Tensor


def loss_and_hits(model: GPT2, batch: Batch, *, loss: str = "all") -> tuple[Tensor, Tensor]:
    """Return the loss of the plain sequences that the rows stand for, and the outputs that are hit.

    The loss is the mean cross-entropy, in nats, over the predicted tokens of the B * m sequences
    [I; x; y]: with ``loss="all"`` I's second symbol onward, x and y; with ``"output"`` y alone. A
    token that m sequences share counts m times.

    Returns
    -------
    loss : float32 scalar
    hits : bool (B, m)
        Whether the most likely token after [I; x], over the whole vocabulary, is y.
    """
    prefix, length, inputs, outputs = batch
    (B, L), m = prefix.shape, inputs.shape[1]
    logits, _ = model(torch.cat([prefix, inputs], dim=1), L, length)
    logits = logits.float()  # (B, L + m, V)
    answers = logits[:, L:]  # (B, m, V)
    total = F.cross_entropy(answers.flatten(0, 1), outputs.flatten(), reduction="sum")
    n_predicted: Tensor | int = B * m
    if loss == "all":
        padding = torch.arange(1, L, device=length.device) >= length[:, None]  # (B, L - 1)
        symbols = prefix[:, 1:].masked_fill(padding, -100).flatten()  # -100: no target
        total = total + m * F.cross_entropy(
            logits[:, : L - 1].flatten(0, 1), symbols, ignore_index=-100, reduction="sum"
        )
        row = torch.arange(B, device=length.device)
        next_input = logits[row, length - 1].log_softmax(dim=-1)  # (B, V)
        total = total - next_input.gather(1, inputs).sum()
        n_predicted = m * (length + 1).sum()
    return total / n_predicted, answers.argmax(dim=-1) == outputs


class Trainer:
    """A model, its optimiser and the number of steps they have taken.

    Parameters
    ----------
    model : GPT2
    dataset : Dataset
    settings : TrainSettings
    seed : int
        Root seed: the order of the batches and dropout derive from it and the step alone, so that
        a run that goes on from a saved state ends in the same bytes.
    """

    def __init__(self, model: GPT2, dataset: Dataset, settings: TrainSettings, seed: int) -> None:
        check_length(model.n_positions, dataset.n_positions - 1)
        if len(dataset.vocabulary) > model.vocab_size:
            raise InputError(
                f"the dataset has {len(dataset.vocabulary)} tokens, the model only "
                f"{model.vocab_size}; make the model for this dataset's vocabulary"
            )
        self.model, self.settings, self.seed, self.step = model, settings, seed, 0
        self._outputs = torch.from_numpy(dataset.splits["train"].output)
        self._rows = shared_prefix_rows(dataset.prompts("train"))
        matrices = [p for p in model.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim != 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
            fused=True,
        )

    def batches(self) -> Iterator[Batch]:
        """Yield the batches from the present step on."""
        order = batches(self._rows, self.settings.instructions_per_step, self.seed)
        for rows in islice(order, self.step, None):
            yield self._batch(rows)

    def _batch(self, rows: Rows) -> Batch:
        return Batch(
            torch.from_numpy(rows.prefix),
            torch.from_numpy(rows.length),
            torch.from_numpy(rows.inputs),
            self._outputs[torch.from_numpy(rows.instance)],
        )

    def take_step(self, batch: Batch) -> StepLog:
        """Take one optimiser step on a batch."""
        settings = self.settings
        rate = learning_rate(
            self.step,
            peak=settings.learning_rate,
            floor=settings.final_learning_rate,
            warmup=settings.warmup_steps,
            total=settings.steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        bf16 = settings.precision == "bf16"
        with self._dropout_stream():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                loss, hits = loss_and_hits(self.model, batch, loss=settings.loss)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.grad_clip)
        self.optimizer.step()
        self.step += 1
        return StepLog(self.step, loss.item(), hits.float().mean().item(), rate, norm.item())

    @contextlib.contextmanager
    def _dropout_stream(self) -> Iterator[None]:
        """Seed torch's global generator for this step alone, and leave it as it was found."""
        if self.model.settings.dropout == 0:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.seed, "dropout", self.step))
            yield

    def run(self, on_step: Callable[[Self, StepLog], None]) -> None:
        """Take the steps that are left, calling ``on_step(trainer, log)`` after each."""
        for batch in islice(self.batches(), self.settings.steps - self.step):
            log = self.take_step(batch)
            if not torch.isfinite(torch.tensor([log.loss, log.grad_norm])).all():
                raise InputError(
                    f"training diverged at step {log.step}: loss {log.loss}, gradient norm "
                    f"{log.grad_norm}; lower train.learning_rate or lengthen train.warmup_steps"
                )
            on_step(self, log)

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, by name."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        return tensors | {"step": torch.tensor(self.step)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.step = int(tensors["step"])
        self.model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
        if self.step == 0:
            return
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = {
                key: tensors[f"optimizer.{key}.{name}"].clone()
                for key in ("step", "exp_avg", "exp_avg_sq")
            }


def train(
    model: GPT2,
    dataset: Dataset,
    settings: TrainSettings | None = None,
    seed: int = 0,
    on_step: Callable[[Trainer, StepLog], None] | None = None,
) -> list[StepLog]:
    """Train a model in place and return the log of every step.

    Parameters
    ----------
    model : GPT2
    dataset : Dataset
        Its split ``train`` is trained on.
    settings : TrainSettings, optional
    seed : int
        Root seed.
    on_step : callable, optional
        Called as ``on_step(trainer, log)`` after every step; harvest in it to follow training.
    """
    log: list[StepLog] = []

    def record(trainer: Trainer, entry: StepLog) -> None:
        log.append(entry)
        if on_step:
            on_step(trainer, entry)

    Trainer(model, dataset, settings or TrainSettings(), seed).run(record)
    return log

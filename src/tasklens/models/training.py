"""Training: one step, the loop, and the state it goes on from."""

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F  # noqa: N812, the name everybody knows it by
from pydantic import Field, model_validator
from torch import Tensor

from tasklens.core.errors import InputError
from tasklens.core.seeds import derived_seed
from tasklens.core.settings import Affects, Device, SettingsBase
from tasklens.data.rows import Rows, batches, shared_prefix_rows
from tasklens.data.synthetic import Dataset
from tasklens.models.distributed import (
    SINGLE_PROCESS,
    ProcessGroup,
    replicate,
    training_device,
)
from tasklens.models.gpt2 import GPT2, check_length
from tasklens.models.lr_schedule import learning_rate


class TrainSettings(SettingsBase, affects="train"):
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
    output_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """How much the output counts in the loss over the whole sequence, where every other token
    counts 1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast in training (weights, norms and the loss stay fp32; measuring is always fp32).
    auto: whichever takes the shorter steps on this machine, timed before the first and noted in the
    manifest; fp32 below a width of 128."""
    device: Annotated[Device, Affects("train", rounding=True)] = "cpu"
    """Where to train and harvest: cpu, cuda or cuda:N."""
    threads: Annotated[int, Field(ge=0), Affects("train", rounding=True)] = 0
    """CPU threads of training; 0: all cores, or three quarters of them from eight on, which leaves
    some to measure beside it. Sums differ in their last bits between thread counts, so bytes repeat
    only at an equal number."""

    @model_validator(mode="after")
    def _check(self) -> Self:
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
        return self


#: bf16 is chosen where its steps take less than this share of fp32's: a near tie is fp32.
WORTH_IT = 0.9
#: Narrower models spend their time outside the matrix products: fp32, without timing anything.
NARROW = 128


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


def loss_and_hits(
    model: Callable[..., Any],
    batch: Batch,
    *,
    loss: str = "all",
    output_weight: float = 1.0,
    group: ProcessGroup = SINGLE_PROCESS,
) -> tuple[Tensor, Tensor]:
    """Return the loss of the plain sequences that the rows stand for, and the outputs that are hit.

    The loss is the mean cross-entropy, in nats, over the predicted tokens of the B * m sequences
    [I; x; y]: with ``loss="all"`` I's second symbol onward, x and y, where y has the weight
    ``output_weight`` and the others 1; with ``"output"`` y alone. A token that m sequences share
    counts m times.

    Parameters
    ----------
    model : GPT2, or what several processes train of it
    batch : Batch
    loss, output_weight
        See above.
    group : ProcessGroup
        If the rows are one rank's share of a step's, the loss is their part of the step's loss: the
        parts of all ranks sum up to it. All ranks have to call this together.

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


def gradients(
    model: Callable[..., Any],
    batch: Batch,
    *,
    loss: str,
    precision: str,
    output_weight: float = 1.0,
    group: ProcessGroup = SINGLE_PROCESS,
) -> tuple[Tensor, Tensor]:
    """Set the model's gradients; return the loss and the hits, see `loss_and_hits`."""
    model.zero_grad()  # type: ignore[attr-defined]
    device = batch.prefix.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
        value, hits = loss_and_hits(
            model, batch, loss=loss, output_weight=output_weight, group=group
        )
    # DDP takes means over the ranks; the gradient of the step's loss is the sum of the parts'.
    (value if group.size == 1 else group.size * value).backward()  # type: ignore[no-untyped-call]
    return value.detach(), hits


def faster_precision(
    model: Callable[..., Any], batch: Batch, *, loss: str, group: ProcessGroup = SINGLE_PROCESS
) -> tuple[str, dict[str, float]]:
    """Time gradients in fp32 and in bf16, in turns; return the faster and the seconds of each.

    The weights stay as they are.
    """
    seconds = {"fp32": float("inf"), "bf16": float("inf")}
    for _ in range(3):  # the first is slow in both, and the least counts
        for precision in seconds:
            began = time.perf_counter()
            value, _ = gradients(model, batch, loss=loss, precision=precision, group=group)
            value.item()  # waits for a GPU
            seconds[precision] = min(seconds[precision], time.perf_counter() - began)
    model.zero_grad()  # type: ignore[attr-defined]
    chosen = "bf16" if seconds["bf16"] < WORTH_IT * seconds["fp32"] else "fp32"
    return chosen, seconds


def check_device(device: str, key: str) -> None:
    """Raise InputError, naming the setting, where there is no such device here."""
    if device == "cpu":
        return
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (torch.device(device).index or 0) >= found:
        raise InputError(
            f"{key} = {device!r}: PyTorch {torch.__version__} sees {found} CUDA GPUs here; use "
            f"{'a lower number, or ' if found else ''}cpu"
        )


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
    group : ProcessGroup
        The processes that train. Each rank takes its share of every step's rows, so that the steps
        equal those of one process but for rounding and, with dropout, for the masks.

    Attributes
    ----------
    precision : {"fp32", "bf16"} or None
        What the steps compute in; None until it is chosen, by `choose_precision` or the first step.
        To be set before the first step of a run that goes on in the precision it began with.
    calibration : {"fp32": float, "bf16": float}
        Seconds of a step in each, where they were timed.
    """

    def __init__(
        self,
        model: GPT2,
        dataset: Dataset,
        settings: TrainSettings,
        seed: int,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        check_device(settings.device, "train.device")
        if settings.instructions_per_step < group.size:
            raise InputError(
                f"train.instructions_per_step = {settings.instructions_per_step}: should be at "
                f"least the number of processes, {group.size}: each takes a share of them"
            )
        check_length(model.n_positions, dataset.n_positions - 1)
        if len(dataset.vocabulary) > model.vocab_size:
            raise InputError(
                f"the dataset has {len(dataset.vocabulary)} tokens, the model only "
                f"{model.vocab_size}; make the model for this dataset's vocabulary"
            )
        self.model, self.settings, self.seed, self.step = model, settings, seed, 0
        self.group = group
        self.device = training_device(settings.device, group)
        self.precision: str | None = None if settings.precision == "auto" else settings.precision
        self.calibration: dict[str, float] = {}
        model.to(self.device)
        self._forward = model if group.size == 1 else replicate(model, self.device)
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
        """Return this rank's share of the rows, on the device."""
        if self.group.size > 1:
            rows = rows.take(self.group.share_of(len(rows)))
        batch = Batch(
            torch.from_numpy(rows.prefix),
            torch.from_numpy(rows.length),
            torch.from_numpy(rows.inputs),
            self._outputs[torch.from_numpy(rows.instance)],
        )
        return Batch(*(tensor.to(self.device, non_blocking=True) for tensor in batch))

    def begin(self, tensors: dict[str, Tensor]) -> bool:
        """Go on from what `state` returned, if there is any, and settle what to compute in.

        With several processes, all ranks have to call this; the tensors of rank 0 count.

        Returns
        -------
        bool
            Whether there was any.
        """
        goes_on = self.group.broadcast_flag(bool(tensors))
        if goes_on:
            self.load_state(tensors)
        self.choose_precision()
        return goes_on

    def choose_precision(self) -> str:
        """Settle what the steps compute in, if it is not yet, and return it."""
        chosen = self.precision or "fp32"
        known = self.group.broadcast_flag(self.precision is not None)
        if not known and self.model.settings.n_embd >= NARROW:
            self.model.train()
            with self._dropout_stream():
                chosen, self.calibration = faster_precision(
                    self._forward, next(self.batches()), loss=self.settings.loss, group=self.group
                )
        self.precision = "bf16" if self.group.broadcast_flag(chosen == "bf16") else "fp32"
        return self.precision

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
        precision = self.precision or self.choose_precision()
        self.model.train()
        with self._dropout_stream():
            loss, hits = gradients(
                self._forward,
                batch,
                loss=settings.loss,
                precision=precision,
                output_weight=settings.output_weight,
                group=self.group,
            )
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.grad_clip)
        self.optimizer.step()
        self.step += 1
        if self.group.size == 1:
            accuracy = hits.float().mean()
        else:
            n_instances = settings.instructions_per_step * hits.shape[1]
            loss, accuracy = self.group.sum(torch.stack([loss, hits.sum() / n_instances]))
        # One transfer: each would wait for a GPU.
        said = torch.stack([loss, accuracy, norm]).tolist()
        return StepLog(self.step, said[0], said[1], rate, said[2])

    @contextlib.contextmanager
    def _dropout_stream(self) -> Iterator[None]:
        """Seed torch's global generator for this step alone, and leave it as it was found."""
        if self.model.settings.dropout == 0:
            yield
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            # Each rank has its own masks; they would repeat from rank to rank otherwise.
            own = () if self.group.size == 1 else (self.group.rank,)
            torch.manual_seed(derived_seed(self.seed, "dropout", self.step, *own))
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
        """Resume from what `state` returned, with any number of processes.

        Parameters
        ----------
        tensors : {name: tensor}
            With several processes, all ranks have to call this; the tensors of rank 0 count.
        """
        self.step = int(
            self.group.broadcast(tensors["step"].clone() if self.group.is_main else torch.tensor(0))
        )
        for weight in self.model.parameters() if self.step else ():
            self.optimizer.state[weight] = {
                "step": torch.zeros((), device=self.device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }
        for name, value in self.state().items():
            if self.group.is_main:
                value.copy_(tensors[name])
            self.group.broadcast(value)


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

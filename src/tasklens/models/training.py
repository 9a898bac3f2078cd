"""Train a GPT-2: one step, the loop, and the state from which training resumes."""

import contextlib
import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tasklens.core.errors import InputError
from tasklens.core.seeds import derived_seed
from tasklens.core.settings import Affects, Device, SettingsBase, with_keywords
from tasklens.data.dataset import Dataset
from tasklens.models.devices import check_device, free_bytes, multiplies_bf16, seeded
from tasklens.models.distributed import SINGLE_PROCESS, ProcessGroup, replicate, training_device
from tasklens.models.gpt2 import GPT2, check_length
from tasklens.models.loss import compute_gradients
from tasklens.models.lr_schedule import learning_rate
from tasklens.models.modes import mode_kept
from tasklens.models.training_batches import TrainingBatch, batches, shared_prefix_rows
from tasklens.models.training_size import Step, check_rows, check_training

if TYPE_CHECKING:
    import pandas as pd


class TrainSettings(SettingsBase, affects="train"):
    """Optimiser, schedule, loss and device of training.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.TrainSettings(steps=100).changed(learning_rate=1e-3).learning_rate
    0.001
    """

    steps: Annotated[int, Field(ge=1, lt=2**31)] = 1600
    """Number of optimiser steps."""
    instructions_per_step: Annotated[int, Field(ge=1, lt=2**31)] = 24
    """Number of rows per step; a row is an instruction with some of its training inputs."""
    inputs_per_row: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Number of inputs per row, drawn anew from the instruction's training inputs whenever the
    instruction is drawn; 0: all of them. At equal tokens per step, more instructions with
    fewer inputs each learn faster."""
    learning_rate: Annotated[float, Field(gt=0)] = 4e-4
    """Peak learning rate."""
    final_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """Learning rate at the last step, at which the cosine ends."""
    warmup_steps: Annotated[int, Field(ge=0, lt=2**31)] = 100
    """Number of steps of linear warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled weight decay, on matrices only: on embeddings, not on biases and norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's decay rate of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """AdamW's decay rate of the second moment."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's epsilon."""
    grad_clip: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0
    """Largest norm of the gradient; a larger gradient is scaled down to it; inf: never."""
    loss: Literal["all", "output"] = "all"
    """Tokens that are predicted: all of the sequence, or the output alone."""
    output_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Weight of the output in the loss over all tokens, in which every other token has weight 1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast in training; weights, norms and the loss stay fp32, and measuring is always
    fp32. auto: bf16 if the device multiplies bf16 in hardware (CPUs: AVX512-BF16 or AMX) and n_embd
    is at least 128, otherwise fp32; the manifest records it."""
    device: Annotated[Device, Affects("train", rounding=True)] = "cpu"
    """Device of training and harvesting: cpu, cuda or cuda:N."""
    threads: Annotated[int, Field(ge=0, le=1024), Affects("train", rounding=True)] = 0
    """Number of CPU threads of training; 0: all cores, or three quarters of them if there are eight
    or more, so that the others can measure. The last bits of sums depend on the number of
    threads, so that runs repeat byte by byte only with an equal number."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Check settings that depend on each other."""
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate = {self.final_learning_rate}: should be at most "
                f"learning_rate = {self.learning_rate}"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps = {self.warmup_steps}: should be at most steps = {self.steps}"
            )
        return self

    def itemsize(self, n_embd: int) -> int:
        """Return the bytes, at least, of a number that a step keeps for its gradient."""
        is_fp32 = self.precision == "fp32" or (self.precision == "auto" and n_embd < NARROW)
        return 4 if is_fp32 else 2


#: Narrower models train in fp32: they spend their time outside the matrix products.
NARROW = 128


class StepLog(NamedTuple):
    """Log of one step, measured on the batch before the update."""

    step: int
    loss: float
    accuracy: float
    learning_rate: float
    grad_norm: float


class Trainer:
    """Trainer of a model: its optimiser, and the number of steps taken.

    Parameters
    ----------
    model : GPT2
    dataset : Dataset
    settings : TrainSettings
    seed : int
        Root seed. The order of the batches and dropout derive from it and the step alone, so that a
        resumed run gives the same bytes.
    group : ProcessGroup
        The processes that train. Each rank takes its share of every step's rows. The steps equal
        those of one process except for rounding and, with dropout, for the masks.

    Attributes
    ----------
    precision : {"fp32", "bf16"} or None
        Precision of the steps; None until `choose_precision` or the first step chooses it. In a
        resumed run, set it before the first step to keep the precision of the earlier steps.

    Examples
    --------
    >>> import tasklens as tl
    >>> dataset = tl.load_run("runs/smoke").dataset
    >>> model = tl.make_model(dataset, n_layer=2, n_head=2, n_embd=32)
    >>> trainer = tl.Trainer(model, dataset, tl.TrainSettings(steps=20, warmup_steps=5), seed=0)
    >>> trainer.take_step(next(trainer.batches())).step
    1
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
                f"least the number of processes, {group.size}, each of which takes a share"
            )
        check_length(model.n_positions, dataset.n_positions - 1)
        if len(dataset.vocabulary) > model.vocab_size:
            raise InputError(
                f"the dataset has {len(dataset.vocabulary)} tokens, the model only "
                f"{model.vocab_size}; make the model for this dataset's vocabulary"
            )
        self.model, self.settings, self.seed, self.group = model, settings, seed, group
        self.step = 0
        self.device = training_device(settings.device, group)
        self.precision: str | None = None if settings.precision == "auto" else settings.precision
        self._objective = settings.model_dump(include={"loss", "output_weight"})
        model.to(self.device)
        self._forward = model if group.size == 1 else replicate(model, self.device)
        check_rows(len(dataset.splits["train"]), dataset.n_positions)
        self._rows = shared_prefix_rows(dataset.prompts("train"), dataset.splits["train"].output)
        self._check_memory()
        matrices = [p for p in model.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim != 2]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0}]
        self.optimizer = torch.optim.AdamW(
            groups,
            weight_decay=settings.weight_decay,
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
            fused=True,
        )

    def _check_memory(self) -> None:
        """Raise InputError if the device does not hold a step; nothing of it is made yet."""
        model, settings = self.model, self.settings
        inputs = min(rows.inputs.shape[1] for rows in self._rows)
        step = Step(
            length=int(min(rows.length.min() for rows in self._rows)),
            inputs=min(inputs, settings.inputs_per_row or inputs),
            itemsize=settings.itemsize(model.settings.n_embd),
        )
        network = model.settings.network(model.vocab_size, model.n_positions)
        rows_of_rank = settings.instructions_per_step // self.group.size
        # The network is there already, and the estimate counts it again.
        free = free_bytes(self.device) + network.n_bytes
        check_training(network, rows_of_rank, step, free)

    def batches(self) -> Iterator[TrainingBatch]:
        """Yield this rank's share of each batch, from the present step on."""
        size, limit = self.settings.instructions_per_step, self.settings.inputs_per_row
        share = self.group.share_of(size)
        drawn = batches(self._rows, size, self.seed, limit)
        for rows in islice(drawn, self.step, None):
            yield rows.take(share).to(self.device)

    def begin(self, tensors: dict[str, Tensor]) -> bool:
        """Resume from the tensors of `state`, if there are any, and choose the precision.

        With several processes, all ranks have to call this; the tensors of rank 0 count. Return
        whether there was a state to resume from.
        """
        resumes = self.group.broadcast_flag(bool(tensors))
        if resumes:
            self.load_state(tensors)
        self.choose_precision()
        return resumes

    def choose_precision(self) -> str:
        """Choose the precision of the steps, unless it is set, and return it; rank 0 decides."""
        worth_it = self.model.settings.n_embd >= NARROW and multiplies_bf16(self.device)
        chosen = self.precision or ("bf16" if worth_it else "fp32")
        self.precision = "bf16" if self.group.broadcast_flag(chosen == "bf16") else "fp32"
        return self.precision

    def take_step(self, batch: TrainingBatch) -> StepLog:
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
            loss, hits = compute_gradients(
                self._forward, batch, precision=precision, group=self.group, **self._objective
            )
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.grad_clip)
        self.optimizer.step()
        self.step += 1
        if self.group.size == 1:
            accuracy = hits.float().mean()
        else:
            n_instances = settings.instructions_per_step * hits.shape[1]
            loss, accuracy = self.group.sum(torch.stack([loss, hits.sum() / n_instances]))
        # One transfer instead of three, because each would wait for a GPU.
        numbers = torch.stack([loss, accuracy, norm]).tolist()
        return StepLog(self.step, numbers[0], numbers[1], rate, numbers[2])

    @contextlib.contextmanager
    def _dropout_stream(self) -> Iterator[None]:
        """Seed the device's global generator for this step alone, and restore it."""
        if self.model.settings.dropout == 0:
            yield
            return
        # Each rank has its own masks; otherwise all ranks would have the same.
        own = () if self.group.size == 1 else (self.group.rank,)
        with seeded(derived_seed(self.seed, "dropout", self.step, *own), self.device):
            yield

    def run(self, on_step: Callable[[Self, StepLog], None]) -> None:
        """Take the remaining steps, and call ``on_step(trainer, log)`` after each."""
        for batch in islice(self.batches(), self.settings.steps - self.step):
            log = self.take_step(batch)
            if not (math.isfinite(log.loss) and math.isfinite(log.grad_norm)):
                raise InputError(
                    f"training diverged at step {log.step}: loss {log.loss}, gradient norm "
                    f"{log.grad_norm}; lower train.learning_rate or lengthen train.warmup_steps"
                )
            on_step(self, log)

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that the next step depends on, by name."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        return tensors | {"step": torch.tensor(self.step)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors of `state`, for any number of processes; see `begin`."""
        step = tensors["step"].clone() if self.group.is_main else torch.tensor(0)
        self.step = int(self.group.broadcast(step))
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
    *,
    seed: int = 0,
    on_step: Callable[[Trainer, StepLog], object] | None = None,
    **changes: Any,
) -> "pd.DataFrame":
    """Train a model in place on the split ``train`` of a dataset, and return its training curve.

    Parameters
    ----------
    model : GPT2
        Its training or evaluation mode is restored.
    dataset : Dataset
    settings : TrainSettings, optional
    seed : int
        Root seed, from which the order of the batches and dropout derive.
    on_step : callable, optional
        Called as ``on_step(trainer, log)`` after every step; harvest in it to follow training.
    **changes
        Fields of `TrainSettings`, which change those given.

    Returns
    -------
    pandas.DataFrame
        A row per step, with the columns of `StepLog`: `step`, `loss` (nats per token), `accuracy`
        (0 to 1), `learning_rate` and `grad_norm`, measured on the batch before the update.

    Raises
    ------
    InputError
        If a setting is unknown or out of range, if the model does not fit the dataset, or if the
        loss is not finite.

    Examples
    --------
    >>> import tasklens as tl
    >>> dataset = tl.load_run("runs/smoke").dataset
    >>> model = tl.make_model(dataset, n_layer=2, n_head=2, n_embd=32)
    >>> curve = tl.train(model, dataset, steps=20, warmup_steps=5)
    >>> bool(curve["loss"].iloc[-1] < curve["loss"].iloc[0])
    True
    """
    (settings,) = with_keywords(changes, settings or TrainSettings())
    import pandas as pd

    log: list[StepLog] = []

    def record(trainer: Trainer, entry: StepLog) -> None:
        log.append(entry)
        if on_step:
            on_step(trainer, entry)

    with mode_kept(model):
        Trainer(model, dataset, settings, seed).run(record)
    return pd.DataFrame(log, columns=StepLog._fields)

"""Train and harvest with the code that a user would write without tasklens, in its fastest form.

It is transformers' `GPT2LMHeadModel` on plain sequences [I; x; y], padded batch by batch with an
attention mask, and hidden states by ``output_hidden_states=True``. Four choices were the fastest on
two cores with AVX512-BF16. PyTorch's fused tanh GELU is the same function as GPT-2's "gelu_new".
There is no key-value cache. Micro-batches have 128 sequences: 64 to 512 differ by a few per cent,
32 and 1032 are slower. Sequences of similar length are batched together if the order does not
matter. torch.compile is not used: it gains 6 % after a minute of compilation. `best_form` times
the implementations of attention and the precisions, and chooses the fastest.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from common import interleaved
from numpy.typing import NDArray
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from tasklens.core.seeds import derived_seed, stream
from tasklens.data.dataset import Dataset
from tasklens.models.gpt2 import GPT2, LAYER_NORM_EPSILON
from tasklens.models.lr_schedule import learning_rate
from tasklens.runs.settings import TrainingRunSettings

transformers_logging.set_verbosity_error()

#: Sequences in one forward and backward pass.
MICRO_BATCH = 128
IGNORED = -100


@dataclass(frozen=True)
class Form:
    """Choices that change the speed, but not the result up to rounding."""

    attention: str
    bf16: bool

    def __str__(self) -> str:
        return f"{self.attention} attention, {'bf16 autocast' if self.bf16 else 'fp32'}"


@dataclass(frozen=True)
class Choice:
    """The fastest form on this machine, and the time of the fastest fp32 form as a multiple."""

    form: Form
    fp32: float


@dataclass(frozen=True)
class Recipe:
    """Settings of the reference's own training, chosen for it by the trials in the docs.

    All other settings are the preset's, e.g. the network's and the clipping of gradients.
    """

    batch_size: int = 256
    steps: int = 1500
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    beta2: float = 0.95
    weight_decay: float = 0.01

    @classmethod
    def parsed(cls, changes: Sequence[str]) -> Self:
        """Return the recipe with changes, each ``key=value``."""
        kinds = {key: type(value) for key, value in asdict(cls()).items()}
        changed = {}
        for change in changes:
            key, _, value = change.partition("=")
            if key not in kinds:
                raise SystemExit(f"--recipe {change}: should be one of {', '.join(kinds)}=VALUE")
            changed[key] = kinds[key](value)
        return cls(**changed)

    def applied(self, settings: TrainingRunSettings) -> TrainingRunSettings:
        """Return a run's settings with this recipe."""
        changes = asdict(self)
        del changes["batch_size"]
        return settings.changed(train=settings.train.changed(**changes))


FORMS = [Form(a, b) for a, b in itertools.product(("eager", "sdpa"), (True, False))]


@dataclass(frozen=True)
class Sequences:
    """Plain sequences [I; x; y], padded with 0 at the end: ids (N, T) and lengths (N,)."""

    ids: torch.Tensor
    length: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, index: NDArray[np.int64] | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return some sequences, padded to the longest of them, and their mask."""
        length = self.length[index]
        longest = int(length.max())
        mask = torch.arange(longest) < length[:, None]
        return self.ids[index, :longest], mask.long()


def sequences(dataset: Dataset, split: str) -> Sequences:
    """Return a split's instances as plain sequences."""
    part, prompts = dataset.splits[split], dataset.prompts(split)
    ids = np.pad(prompts.ids, ((0, 0), (0, 1)))
    ids[np.arange(len(part)), prompts.position + 1] = part.output
    return Sequences(torch.from_numpy(ids), torch.from_numpy(prompts.position + 2))


def make_reference(settings: TrainingRunSettings, dataset: Dataset, form: Form) -> Any:
    """Return an untrained GPT2LMHeadModel of the settings' size, initialised as GPT-2 is."""
    model = settings.model
    config = GPT2Config(
        vocab_size=len(dataset.vocabulary),
        n_positions=dataset.n_positions,
        n_embd=model.n_embd,
        n_layer=model.n_layer,
        n_head=model.n_head,
        activation_function="gelu_pytorch_tanh",
        layer_norm_epsilon=LAYER_NORM_EPSILON,
        initializer_range=model.initializer_range,
        attn_pdrop=model.dropout,
        embd_pdrop=model.dropout,
        resid_pdrop=model.dropout,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation=form.attention,
    )
    torch.manual_seed(derived_seed(settings.seed, "reference weights"))
    return GPT2LMHeadModel(config)


class ReferenceTrainer:
    """Trainer in plain PyTorch: AdamW, clipping, gradients summed over micro-batches."""

    def __init__(self, settings: TrainingRunSettings, dataset: Dataset, form: Form) -> None:
        self.form, self.settings, self.seed, self.step = form, settings.train, settings.seed, 0
        self.model = make_reference(settings, dataset, form)
        self.data = sequences(dataset, "train")
        parameters = list(self.model.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim == 2]},
            {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0},
        ]
        train = settings.train
        self.optimizer = torch.optim.AdamW(
            groups,
            weight_decay=train.weight_decay,
            betas=(train.beta1, train.beta2),
            eps=train.epsilon,
            fused=True,
        )

    def batches(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Yield indices of instances, shuffled anew in every epoch, without end."""
        for epoch in itertools.count():
            order = stream(self.seed, "reference batches", epoch).permutation(len(self.data))
            for i in range(0, len(order) - size + 1, size):
                yield order[i : i + size]

    def gradients(self, index: NDArray[np.int64], n_predicted: int | None = None) -> None:
        """Add one micro-batch's gradients of the mean loss over ``n_predicted`` tokens."""
        self.model.train()
        ids, mask = self.data.batch(index)
        labels = ids.masked_fill(mask == 0, IGNORED)
        total = n_predicted or int(mask[:, 1:].sum())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.form.bf16):
            loss = self.model(
                input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=total
            ).loss
        loss.backward()

    def update(self) -> None:
        """Clip the gradients and take the optimiser's step, at the preset's learning rate."""
        train = self.settings
        rate = learning_rate(
            self.step,
            peak=train.learning_rate,
            floor=train.final_learning_rate,
            warmup=train.warmup_steps,
            total=train.steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    def take_step(self, index: NDArray[np.int64]) -> None:
        """Take one step on these instances."""
        n_predicted = int((self.data.length[index] - 1).sum())
        for i in range(0, len(index), MICRO_BATCH):
            self.gradients(index[i : i + MICRO_BATCH], n_predicted)
        self.update()

    def state(self) -> dict[str, Any]:
        """Return the form and all that the next step depends on."""
        return {
            "form": asdict(self.form),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def best_form(settings: TrainingRunSettings, dataset: Dataset, size: int = MICRO_BATCH) -> Choice:
    """Return the form whose micro-batch is the fastest, each timed five times in turn."""
    trainers = {form: ReferenceTrainer(settings, dataset, form) for form in FORMS}
    index = next(next(iter(trainers.values())).batches(size))
    sides = {str(form): partial(t.gradients, index) for form, t in trainers.items()}
    seconds = {name: min(values) for name, values in interleaved(sides, 5).items()}
    for name, value in seconds.items():
        print(f"  reference, {name}: {value / size * 1e3:.3g} ms an instance", flush=True)
    best = min(trainers, key=lambda form: seconds[str(form)])
    fp32 = min(seconds[str(form)] for form in trainers if not form.bf16)
    return Choice(best, fp32 / seconds[str(best)])


@dataclass(frozen=True)
class Reader:
    """Reader of the input token's states in a GPT2LMHeadModel, in fp32."""

    model: Any
    batch_size: int

    @torch.inference_mode()
    def harvest(self, data: Sequences) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Return the states of ``hidden_states``, {name: (N, D)}, and the answers (N,).

        Sequences are [I; x; y]; y is not read.
        """
        self.model.eval()
        order = torch.argsort(data.length)  # similar lengths together, for little padding
        prompts = Sequences(data.ids[order], data.length[order] - 1)
        names = reference_names(self.model.config.n_layer)
        picked: list[list[torch.Tensor]] = []
        answers = []
        for i in range(0, len(prompts), self.batch_size):
            ids, mask = prompts.batch(slice(i, i + self.batch_size))
            out = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            row, last = torch.arange(len(ids)), mask.sum(dim=1) - 1
            picked.append([state[row, last] for state in out.hidden_states])
            answers.append(out.logits[row, last].argmax(dim=-1))
        back = torch.argsort(order)
        states = {
            name: torch.cat(parts)[back].numpy()
            for name, parts in zip(names, zip(*picked, strict=True), strict=True)
        }
        return states, torch.cat(answers)[back].numpy()


def reference_names(n_layer: int) -> Sequence[str]:
    """Return our names of transformers' ``hidden_states``; the last is after the final norm."""
    return ("embed", *(f"block{i}" for i in range(1, n_layer)), "ln_f")


def with_weights_of(
    model: GPT2, settings: TrainingRunSettings, dataset: Dataset, attention: str
) -> Any:
    """Return a GPT2LMHeadModel with the weights of one of our models."""
    reference = make_reference(settings, dataset, Form(attention, bf16=False))
    reference.load_state_dict(model.state_dict(), strict=False)  # the head is tied to wte
    reference.tie_weights()
    return reference

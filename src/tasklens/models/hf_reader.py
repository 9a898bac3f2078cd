"""Run a Hugging Face causal model and read its hidden states by name.

Hooks on the modules read the hidden states, so that a name has the same meaning in every family. An
index into a model's tuple of hidden states has not.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tasklens.core.errors import InputError, first_line
from tasklens.data.token_prompts import Prompts, distinct_sites
from tasklens.models.gpt2 import tree_bias
from tasklens.models.hf_points import Point, find_points, hooked, run
from tasklens.models.modes import evaluating
from tasklens.models.module_memory import ModuleMemory
from tasklens.models.prefix_trees import Trees

#: Number of positions whose answers are computed at a time, because a vocabulary is large.
HEAD_ROWS = 256

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
Pick: TypeAlias = Callable[[Tensor], Tensor]


class HarvestBatch(NamedTuple):
    """Result of one forward pass, at one position."""

    indices: Ints  # (b,), of the prompts that were read
    states: dict[str, Floats]  # (b, D) each
    answer: Ints  # (b,)
    asked: Floats | None = None
    """Log-probability of each token of `Prompts.asked` in nats, NaN for none, (b, C)."""
    also: tuple["HarvestBatch", ...] = ()
    """The same of the positions in `Prompts.also`."""

    @property
    def parts(self) -> tuple["HarvestBatch", ...]:
        """The result at each position, in order."""
        return (self._replace(also=()), *self.also)


class HuggingFaceReader:
    """Reader of a causal model's hidden states by name; see `HuggingFaceSubject`."""

    def __init__(self, model: Any) -> None:
        self.model, self.kind = model, type(model).__name__
        self.dtype: torch.dtype = next(model.parameters()).dtype
        self._base = getattr(model, model.base_model_prefix or "", model)
        with evaluating(model), ModuleMemory(model).fresh():
            self.points = self._inspect()
        self.names: tuple[str, ...] = tuple(self.points)
        self.forget()
        #: Whether blocks can be skipped; None if no Editor has tried it.
        self.can_skip: bool | None = None
        #: Whether the position of each token can be given.
        self.takes_positions = takes_positions(self._base)

    @property
    def device(self) -> torch.device:
        """The device on which the embedding is computed, which has to have the input."""
        hook = getattr(self.model.get_input_embeddings(), "_hf_hook", None)  # accelerate's
        device = getattr(hook, "execution_device", None)
        return torch.device(next(self.model.parameters()).device if device is None else device)

    @torch.inference_mode()
    def forget(self) -> None:
        """Make the model forget what it has read, so that each pass begins from the same state.

        Dynamic RoPE, which keeps the longest row that it has read, forgets it in a short one.
        """
        with evaluating(self.model):
            run(self._base, torch.tensor([[1]], device=self.device))
        self._memory = ModuleMemory(self.model)

    def forward(self, ids: Tensor, **inputs: Tensor) -> Tensor:
        """Run the network below the head on tokens (B, T); return its last state, (B, T, D).

        What the network remembers of other calls changes nothing, and is restored.
        """
        with self._memory.fresh():
            return run(self._base, ids, **inputs)

    @torch.inference_mode()
    def logits(self, pick: Pick, ids: Tensor, **inputs: Tensor) -> Tensor:
        """Return the model's logits at n tokens, (n, V), of a pass over tokens (B, T).

        The head reads these tokens only. What the model does with its logits, such as a cap, acts
        on each of them alone.
        """

        def pick_input(_: Any, args: Any) -> Any:
            return (pick(args[0])[None], *args[1:])

        with self._memory.fresh():
            head = self.model.get_output_embeddings()
            if head is None:
                return pick(run(self.model, ids, **inputs))
            with head.register_forward_pre_hook(pick_input):
                return run(self.model, ids, **inputs)[0]

    def read_rows(self, prompts: Prompts, indices: Ints, names: Sequence[str]) -> HarvestBatch:
        """Read some prompts, one row each, padded at the end to the longest of them."""
        last = self._tensor(prompts.last[indices])
        T = int(last.max()) + 1
        columns, row = (torch.arange(n, device=self.device) for n in (T, len(indices)))
        real = columns <= last[:, None]  # (b, T)

        def picker(position: Ints) -> Pick:
            return token_picker(row, self._tensor(position[indices]))

        picks = []
        for part in prompts.parts:
            picks.append(picker(part.position))
            if part.begin is not None:
                begin, end = (self._tensor(at[indices]) for at in (part.begin, part.position))
                picks[-1] = _averager((columns <= end[:, None]) & (columns >= begin[:, None]))
        # After the last, an id may be no token of the vocabulary.
        inputs = {"ids": torch.where(real, self._tensor(prompts.ids[indices, :T]), 0)}
        if not bool(real.all()):
            inputs["attention_mask"] = real.long()
        return self._read(prompts, indices, names, inputs, picks, picker)

    def read_trees(
        self, prompts: Prompts, trees: Trees, rows: Ints, names: Sequence[str]
    ) -> HarvestBatch:
        """Read all prompts of some rows, ascending, that are trees."""
        indices = np.flatnonzero(np.isin(trees.row, rows))
        row = self._tensor(np.searchsorted(rows, trees.row[indices]))

        def picker(position: Ints) -> Pick:
            slots = trees.slots[indices, position[indices]]
            return token_picker(row, self._tensor(slots))

        picks = [picker(part.position) for part in prompts.parts]
        return self._read(prompts, indices, names, self.tree_inputs(trees, rows), picks, picker)

    def tree_inputs(self, trees: Trees, rows: Ints) -> dict[str, Tensor]:
        """Return the arguments of `forward` for some rows that are trees."""
        return {
            "ids": self._tensor(trees.ids[rows]),
            "attention_mask": tree_bias(self._tensor(trees.parent[rows])),
            "position_ids": self._tensor(trees.depth[rows]),
        }

    @torch.inference_mode()
    def _read(
        self,
        prompts: Prompts,
        indices: Ints,
        names: Sequence[str],
        inputs: dict[str, Tensor],
        picks: Sequence[Pick],
        picker: Callable[[Ints], Pick],
    ) -> HarvestBatch:
        """Pick hidden states during a forward pass, and read what follows the answered tokens.

        There is a pick for each of the prompts' positions.
        """
        states: list[dict[str, Floats]] = [{} for _ in picks]

        def keep(name: str, state: Tensor) -> None:
            for each, pick in zip(states, picks, strict=True):
                each[name] = pick(state).float().cpu().numpy()

        sites, site_of = distinct_sites(prompts)
        pick_sites = [picker(site.answered) for site in sites]

        def pick_answered(final: Tensor) -> Tensor:
            return torch.cat([pick(final) for pick in pick_sites])  # (S b, D)

        asks = any(site.asked is not None for site in sites)
        are_logits = self._base is self.model or (asks and not self._head_is_whole)
        with hooked({name: self.points[name] for name in names}, keep):
            if are_logits and self._base is not self.model:
                final = self.logits(pick_answered, **inputs)
            else:
                final = pick_answered(self.forward(**inputs))
        answers = [
            self._answers(part, None if site.asked is None else site.asked[indices], are_logits)
            for part, site in zip(torch.split(final, len(indices)), sites, strict=True)
        ]
        first, *others = (
            HarvestBatch(
                indices,
                {name: each[name] for name in names},
                answers[i][0],
                None if part.asked is None else answers[i][1],
            )
            for part, each, i in zip(prompts.parts, states, site_of, strict=True)
        )
        return first._replace(also=tuple(others))

    def _answers(
        self, final: Tensor, asked: Ints | None, are_logits: bool
    ) -> tuple[Ints, Floats | None]:
        """Return the likeliest tokens (b,), and the log-probabilities (b, C) that are asked for.

        ``final`` is what the head reads, (b, D), or the logits, (b, V).
        """
        head = self.model.get_output_embeddings()
        likeliest, known = [], []
        for begin in range(0, len(final), HEAD_ROWS):
            part = final[begin : begin + HEAD_ROWS]
            logits = part if are_logits else head(part.to(head.weight.dtype))
            likeliest.append(logits.argmax(dim=-1))
            if asked is not None:
                tokens = torch.from_numpy(asked[begin : begin + HEAD_ROWS]).to(logits.device)
                logs = logits.float().log_softmax(dim=-1).gather(-1, tokens.clamp(min=0))
                known.append(logs.masked_fill(tokens < 0, torch.nan))
        answer: Ints = torch.cat(likeliest).cpu().numpy()
        return answer, torch.cat(known).cpu().numpy() if known else None

    def _tensor(self, array: Ints) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    @torch.inference_mode()
    def _inspect(self) -> dict[str, Point]:
        """Return the `Point` of each state; check that the model runs and is causal."""
        word_embedding = self.model.get_input_embeddings()
        ids = torch.tensor([[1, 2, 3, 1], [1, 2, 3, 2]], device=self.device)
        ids %= word_embedding.weight.shape[0]  # of a vocabulary of three tokens or two
        try:
            logits = run(self.model, ids)  # (2, 4, V)
        except Exception as error:  # no hook is set, so the model's own code raised it
            raise InputError(f"{self.kind} cannot be run: {first_line(error)}") from error
        points = find_points(self.kind, self._base, word_embedding, ids)
        last = run(self._base, ids).float()
        if not last.isfinite().all():
            raise InputError(
                f"{self.kind}: its hidden states are not finite in {str(self.dtype)[6:]}"
            )
        # In one pass and in two: rows of a pass may change each other, which is no fault here.
        if not (
            self._same_before(last)
            or self._same_before(torch.cat([run(self._base, row[None]) for row in ids]).float())
        ):
            raise InputError(
                f"{self.kind} is no causal language model: later tokens change a token's state"
            )
        if not self._head_orders(last, logits.float()):
            self._base = self.model
        #: Whether the head alone gives the logits, which the model does not scale or cap.
        self._head_is_whole = self._base is self.model or self._gives_logits(last, logits.float())
        return points

    def _same_before(self, last: Tensor) -> bool:
        """Return whether two rows (2, T, D) have the same states before the last token."""
        before = last[:, :-1]
        difference = float((before[0] - before[1]).norm())
        return difference <= 8 * torch.finfo(self.dtype).eps * float(before.norm())

    def _head_orders(self, last: Tensor, logits: Tensor) -> bool:
        """Return whether the head alone orders the tokens as the model's own logits do.

        The model may also scale or cap the logits, which changes no order.
        """
        head = self.model.get_output_embeddings()
        if self._base is self.model or head is None or head.weight.shape[-1] != last.shape[-1]:
            return False  # the head may be the last of several layers
        ours = head(last.to(head.weight.dtype)).float()
        ours = ours.gather(-1, logits.argsort(dim=-1).to(ours.device))
        eps = torch.finfo(head.weight.dtype).eps
        return bool((ours.diff(dim=-1) >= -32 * eps * ours.abs().max()).all())

    def _gives_logits(self, last: Tensor, logits: Tensor) -> bool:
        head = self.model.get_output_embeddings()
        ours = head(last.to(head.weight.dtype)).float()
        eps = torch.finfo(head.weight.dtype).eps
        return bool(((ours - logits).abs() <= 32 * eps * logits.abs().max()).all())


def takes_positions(module: Any) -> bool:
    """Return whether the position of each token can be given to a module of transformers."""
    return "position_ids" in inspect.signature(module.forward).parameters


def token_picker(row: Tensor, column: Tensor) -> Pick:
    """Return a function that picks a token (b, D) of each row of a state (B, T, D)."""
    return lambda state: state[row.to(state.device), column.to(state.device)]


def _averager(span: Tensor) -> Pick:
    """Return a function that averages a state (B, T, D) over a span, bool (B, T), of each row."""

    def mean(state: Tensor) -> Tensor:
        inside = span.to(state.device)
        return (state.float() * inside[..., None]).sum(dim=1) / inside.sum(dim=1)[:, None]

    return mean

"""Any causal language model of Hugging Face's transformers as a Subject."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import is_out_of_memory, tokens_that_fit
from tasklens.models.hf_reader import HarvestBatch, HuggingFaceReader, Ints
from tasklens.models.hf_sharing import shared_trees
from tasklens.models.prefix_trees import Trees
from tasklens.models.subject import Harvest

Bools: TypeAlias = npt.NDArray[np.bool_]


class HuggingFaceSubject:
    """A causal language model of Hugging Face's transformers as a Subject.

    Its states are `wte`, the word embedding (unless the first block reads just that), `embed`, the
    input of the first block (layer 0), `block1` .. `blockL`, the residual stream after each block,
    and `ln_f`, after the final norm.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With a head that predicts the next token.
    tokenizer : transformers tokenizer, optional
        Not used here; stored so that callers can tokenize prompts.
    max_tokens : int
        Tokens in a forward pass; 0: as many as the device's free memory holds. Halved whenever the
        memory is exhausted; states depend on it by rounding alone. Prefixes that prompts share are
        read once if the model allows it (see `shared_trees`). Otherwise prompts are read in order
        of their length, padded at the end, where nothing that is measured looks.
    step : int
        Training step of the model.

    Raises
    ------
    InputError
        If the model cannot be run or is not causal, or if its blocks are not a chain.
    """

    def __init__(
        self, model: Any, tokenizer: Any = None, max_tokens: int = 0, step: int = 0
    ) -> None:
        self._reader = HuggingFaceReader(model)
        self.model, self.tokenizer, self.step = model, tokenizer, step
        self.names = self._reader.names
        config = model.config.get_text_config()
        self.max_length = _context(config)
        self.max_tokens = max_tokens or tokens_that_fit(self.device, config.hidden_size)

    @property
    def device(self) -> torch.device:
        """The device that takes the tokens."""
        return self._reader.device

    def weights_hash(self) -> str:
        """Return the SHA-256 of the weights by name, whatever files they came in."""
        return self._reader.weights_hash()

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states, float32 (N, D) each, and the answers."""
        states: dict[str, npt.NDArray[np.float32]] = {}
        answer = np.empty(len(prompts), dtype=np.int64)
        for batch in self.batches(prompts, names):
            for name, state in batch.states.items():
                empty = np.empty((len(prompts), state.shape[1]), dtype=np.float32)
                states.setdefault(name, empty)[batch.indices] = state
            answer[batch.indices] = batch.answer
        return Harvest(states, answer)

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: Bools | None = None
    ) -> Iterator[HarvestBatch]:
        """Yield the states of some prompts at a time, in an order that the prompts fix.

        Parameters
        ----------
        prompts : Prompts
        names : sequence of str
        done : bool (N,), optional
            Prompts whose states are there already. The others are read in the same batches as
            without them, so that their states are the same to the last bit.

        Raises
        ------
        InputError
            See `check`; or if the memory does not hold a single prompt.
        """
        self.check(prompts)
        prompts = _cleared(prompts)
        done = np.zeros(len(prompts), dtype=np.bool_) if done is None else done
        trees = shared_trees(self._reader, prompts, self.max_tokens)
        if trees is None:
            yield from self._plainly(prompts, names, done)
        else:
            yield from self._in_trees(prompts, trees, names, done)

    def reading_order(self, prompts: Prompts) -> Ints:
        """Return the indices of the prompts in the order in which `batches` reads them, (N,)."""
        trees = shared_trees(self._reader, _cleared(prompts), self.max_tokens)
        return np.argsort(prompts.position if trees is None else trees.row, kind="stable")

    def check(self, prompts: Prompts) -> None:
        """Raise InputError for a prompt that is too long, or a token that the model does not have.

        A prompt is too long if the context does not hold its tokens up to the measured one.
        """
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        unknown = (prompts.ids < 0) | (prompts.ids >= vocabulary)
        outside = prompts.ids[unknown & _inside(prompts)]
        if len(outside):
            raise InputError(
                f"token {outside[0]} is not in the vocabulary, which has {vocabulary}: is this the "
                "model's tokenizer?"
            )
        longest = int(prompts.position.max(initial=0)) + 1
        if self.max_length and longest > self.max_length:
            raise InputError(
                f"a prompt has {longest} tokens up to the measured one, but the model reads "
                f"{self.max_length}"
            )

    def _plainly(
        self, prompts: Prompts, names: Sequence[str], done: Bools
    ) -> Iterator[HarvestBatch]:
        """Read the prompts one by one, a row each, the shortest first."""
        order = np.argsort(prompts.position, kind="stable")  # like `reading_order`
        n = 0
        while n < len(order):
            lengths = prompts.position[order[n:]] + 1
            # Lengths rise, and all are padded to the last.
            fits = np.arange(1, len(lengths) + 1) * lengths <= self.max_tokens
            indices = order[n : n + max(1, int(fits.sum()))]
            if done[indices].all():
                n += len(indices)
                continue
            n_tokens = len(indices) * (int(prompts.position[indices[-1]]) + 1)
            batch = self._attempt(
                partial(self._reader.read_rows, prompts, indices, names), n_tokens
            )
            if batch is not None:
                n += len(indices)
                yield batch
            elif len(indices) == 1:
                raise InputError(
                    f"the memory of {self.device} does not hold one prompt of {n_tokens} tokens; "
                    "take another --device or --dtype bfloat16"
                )

    def _in_trees(
        self, prompts: Prompts, trees: Trees, names: Sequence[str], done: Bools
    ) -> Iterator[HarvestBatch]:
        """Read rows in which shared prefixes stand once."""
        row, T, done = 0, trees.ids.shape[1], done.copy()
        while row < len(trees):
            n = min(len(trees) - row, max(1, self.max_tokens // T))
            rows = slice(row, row + n)
            if done[trees.prompts_in(rows)].all():
                row += n
                continue
            batch = self._attempt(partial(self._reader.read_trees, trees, rows, names), n * T)
            if batch is not None:
                row += n
                done[batch.indices] = True
                yield batch
            elif n == 1:
                yield from self._plainly(prompts, names, done)
                return

    def _attempt(self, read: Callable[[], HarvestBatch], n_tokens: int) -> HarvestBatch | None:
        """Read a batch; if the memory does not hold it, halve `max_tokens` and return None."""
        try:
            return read()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.max_tokens = max(1, n_tokens // 2)
        print(
            f"tasklens: out of memory; going on with {self.max_tokens} tokens at a time",
            file=sys.stderr,
        )
        return None


def _cleared(prompts: Prompts) -> Prompts:
    """Return the prompts with token 0 behind their positions, where ids may be no tokens."""
    return replace(prompts, ids=np.where(_inside(prompts), prompts.ids, 0))


def _inside(prompts: Prompts) -> Bools:
    """Return what tokens stand up to the measured position, (N, T)."""
    return np.arange(prompts.ids.shape[1]) <= prompts.position[:, None]


def _context(config: Any) -> int:
    """Return how many tokens the model reads at most; 0 if its configuration has no limit."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 0

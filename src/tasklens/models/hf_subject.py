"""Make any causal language model of Hugging Face's transformers a Subject."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tasklens.core.errors import InputError
from tasklens.core.progress import inform
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import is_out_of_memory, tokens_that_fit
from tasklens.models.hf_reader import HarvestBatch, HuggingFaceReader, Ints
from tasklens.models.hf_sharing import shared_trees
from tasklens.models.modes import evaluating
from tasklens.models.prefix_trees import Trees
from tasklens.models.subject import Harvest

Bools: TypeAlias = npt.NDArray[np.bool_]


class HuggingFaceSubject:
    """A causal language model of Hugging Face's transformers as a Subject.

    Its hidden states are `wte`, the word embedding, and `embed`, the input of the first block; if
    the two are equal, there is only `embed`. `block1` .. `blockL` are the residual stream after
    each block, and `ln_f` is that after the final norm.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The model has to have a head that predicts the next token.
    tokenizer : transformers tokenizer, optional
        Not used here; stored so that callers can tokenize prompts.
    max_tokens : int
        Tokens of a forward pass; 0: as many as the device's free memory holds. It is halved
        whenever the memory is exhausted, and changes the states by rounding only.
    step : int
        Training step of the model.

    Notes
    -----
    Prefixes that prompts share are read once if the model allows it (see `shared_trees`). Otherwise
    prompts are read in the order of their length and padded at the end, after the measured tokens.

    Raises
    ------
    InputError
        If the model cannot be run or is not causal, or if its blocks do not run one after another.

    Examples
    --------
    >>> import tasklens as tl
    >>> from transformers import AutoModelForCausalLM
    >>> model = AutoModelForCausalLM.from_pretrained("runs/smoke/checkpoints/step-00000016")
    >>> tl.HuggingFaceSubject(model).max_length == model.config.n_positions
    True
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
        """The device that has to have the tokens."""
        return self._reader.device

    def weights_hash(self) -> str:
        """Return the SHA-256 of the weights by name, independent of the files that hold them."""
        digest = hashlib.sha256()
        for path in sorted(path for path, _ in self.model.named_parameters()):
            parent, _, name = path.rpartition(".")
            module = self.model.get_submodule(parent)
            with _loaded(module):
                weight = getattr(module, name)
                digest.update(f"{path} {weight.dtype} {tuple(weight.shape)}".encode())
                plain = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
                digest.update(memoryview(plain.numpy()))
        return digest.hexdigest()

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states, float32 (N, D) each, and the answers."""
        answer = np.empty(len(prompts), dtype=np.int64)
        states: dict[str, npt.NDArray[np.float32]] = {}
        for batch in self.batches(prompts, names):
            for name, state in batch.states.items():
                empty = np.empty((len(prompts), state.shape[1]), dtype=np.float32)
                states.setdefault(name, empty)[batch.indices] = state
            answer[batch.indices] = batch.answer
        return Harvest(states, answer)

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: Bools | None = None
    ) -> Iterator[HarvestBatch]:
        """Yield the states of some prompts at a time, in an order that depends on the prompts only.

        Prompts that are done, bool (N,), are not returned again. The others are read in the same
        batches as if none were done, so that their states are equal to the last bit. InputError as
        for `check`, or if the memory does not hold a single prompt.
        """
        self.check(prompts)
        done = np.zeros(len(prompts), dtype=np.bool_) if done is None else done.copy()
        trees = self._trees(prompts)
        if trees is not None:
            yield from self._passes(
                np.full(len(trees), trees.ids.shape[1]),
                trees.prompts_in,
                lambda rows: self._reader.read_trees(trees, rows, names),
                done,
            )
        # After the trees, prompts remain only if the memory does not hold one row of a tree.
        order = np.argsort(prompts.position, kind="stable")
        lengths = prompts.position[order] + 1
        yield from self._passes(
            lengths,
            order.__getitem__,
            lambda rows: self._reader.read_rows(prompts, order[rows], names),
            done,
        )
        if not done.all():
            raise InputError(
                f"the memory of {self.device} does not hold one prompt of "
                f"{lengths[~done[order]][0]} tokens; give another --device or --dtype bfloat16"
            )

    def reading_order(self, prompts: Prompts) -> Ints:
        """Return the indices of the prompts in the order of `batches`, int64 (N,)."""
        trees = self._trees(prompts)
        return np.argsort(prompts.position if trees is None else trees.row, kind="stable")

    def check(self, prompts: Prompts) -> None:
        """Raise InputError for a prompt that is too long, or a token that is not in the vocabulary.

        A prompt is too long if the context does not hold its tokens up to the measured one.
        """
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        unknown = (prompts.ids < 0) | (prompts.ids >= vocabulary)
        outside = prompts.ids[unknown & prompts.is_read]
        if len(outside):
            raise InputError(
                f"token {outside[0]} is not in the model's vocabulary of {vocabulary} tokens; is "
                "this the model's tokenizer?"
            )
        longest = int(prompts.position.max(initial=0)) + 1
        if self.max_length and longest > self.max_length:
            raise InputError(
                f"a prompt has {longest} tokens up to the measured one, but the model reads "
                f"{self.max_length}"
            )

    def _trees(self, prompts: Prompts) -> Trees | None:
        with evaluating(self.model):
            return shared_trees(self._reader, prompts, self.max_tokens)

    def _passes(
        self,
        lengths: Ints,
        prompts_in: Callable[[slice], Ints],
        read: Callable[[slice], HarvestBatch],
        done: Bools,
    ) -> Iterator[HarvestBatch]:
        """Read rows of rising lengths, with at most `max_tokens` per pass; mark their prompts done.

        The function stops before a row that the memory does not hold. It skips passes whose prompts
        are all done.
        """
        row = 0
        while row < len(lengths) and not done.all():
            # All rows of a pass are padded to the last one.
            fits = np.arange(1, len(lengths) - row + 1) * lengths[row:] <= self.max_tokens
            n = max(1, int(fits.sum()))
            rows = slice(row, row + n)
            if not done[prompts_in(rows)].all():
                batch = self._attempt(read, rows, n * int(lengths[rows.stop - 1]))
                if batch is None and n == 1:
                    return
                if batch is None:
                    continue
                done[batch.indices] = True
                yield batch
            row += n

    def _attempt(
        self, read: Callable[[slice], HarvestBatch], rows: slice, n_tokens: int
    ) -> HarvestBatch | None:
        """Read rows; if the memory does not hold them, halve `max_tokens` and return None."""
        try:
            with evaluating(self.model):
                return read(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.max_tokens = max(1, n_tokens // 2)
        inform(f"out of memory; continuing with {self.max_tokens} tokens at a time")
        return None


def _context(config: Any) -> int:
    """Return the largest number of tokens that the model reads; 0 if there is no limit."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 0


def _loaded(module: torch.nn.Module) -> Any:
    """Load the weights of a module that accelerate keeps on the disk or in the CPU's memory."""
    if not hasattr(module, "_hf_hook"):
        return nullcontext()
    from accelerate.utils import align_module_device

    return align_module_device(module)

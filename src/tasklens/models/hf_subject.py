"""Make any causal language model of Hugging Face's transformers a Subject."""

import copy
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
from tasklens.models.devices import default_max_tokens, is_out_of_memory, tokens_that_fit
from tasklens.models.hf_batching import Pass, Reading, Trial, print_once, too_long
from tasklens.models.hf_branches import Branches, check_sums, find_branches
from tasklens.models.hf_reader import HarvestBatch, HuggingFaceReader, Ints
from tasklens.models.hf_rows import TREES, Rows, rows_of
from tasklens.models.modes import evaluating
from tasklens.models.subject import Harvest

Bools: TypeAlias = npt.NDArray[np.bool_]


class HuggingFaceSubject:
    """A causal language model of Hugging Face's transformers as a Subject.

    Its hidden states are `wte`, the word embedding, and `embed`, the input of the first block; if
    the two are equal, there is only `embed`. `block1` .. `blockL` are the residual stream after
    each block, and `ln_f` is that after the final norm. Blocks that do not run on text have none.
    The states `attn1`, `mlp1` .. are what attention and MLP add to the stream: see `branches`.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The model has to have a head that predicts the next token.
    tokenizer : transformers tokenizer, optional
        Not used here; stored so that callers can tokenize prompts.
    max_tokens : int
        Tokens of a forward pass; 0: `default_max_tokens` of the device, or as many as its free
        memory holds. It is halved whenever the memory is exhausted, and changes the states by
        rounding only.
    step : int
        Training step of the model.

    Notes
    -----
    A prompt's states do not depend on the prompts that are read with it or before it. A trial
    decides how prompts are read together: see `tasklens.models.hf_batching`.

    Raises
    ------
    InputError
        If the model cannot be run or is not causal, or if its blocks do not run one after another.
        `harvest` raises it if the model gives other states when it reads a prompt again.

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
        self.reader = HuggingFaceReader(model)
        self.model, self.tokenizer, self.step = model, tokenizer, step
        self.names = self.reader.names
        config = model.config.get_text_config()
        self.max_length = _context(config)
        #: D of each state.
        self.widths = {name: point.width for name, point in self.reader.points.items()}
        self.max_tokens = max_tokens or tokens_that_fit(self.device, max(self.widths.values()))
        if not max_tokens and self.max_tokens < default_max_tokens(self.device):
            print_once(f"the free memory holds {self.max_tokens} tokens at a time")
        #: How the prompts were read, or are to be read because they were before.
        self.reading: Reading | None = None
        #: What is called with each decision on it.
        self.on_reading: Callable[[Reading], object] = lambda reading: None
        self._decided: Prompts | None = None
        self._tried: Pass | None = None
        self._branches: Branches | None = None

    @property
    def device(self) -> torch.device:
        """The device that has to have the tokens."""
        return self.reader.device

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of the states of branches, `attnN` and `mlpN`; InputError if there are none.

        They are found when they are first asked for. The sum of the state before a block and its
        two branches is the state after it.
        """
        if self._branches is None:
            self._branches = find_branches(self.reader)
            self.reader.points |= self._branches.points
            self.widths |= {name: p.width for name, p in self._branches.points.items()}
        if not self._branches.points:
            reason = next(iter(self._branches.reasons.values()))
            raise InputError(f"{self.reader.kind}: has no states attnN and mlpN: {reason}")
        return tuple(self._branches.points)

    def again(self) -> "HuggingFaceSubject":
        """Return a Subject of the same model that has read nothing, with the same settings."""
        other = copy.copy(self)
        other.begin(None)
        other.on_reading = lambda reading: None
        return other

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

    def begin(self, reading: Reading | None) -> None:
        """Read the next prompts as before, if a reading of them was decided, or decide on one."""
        self.reading, self._decided, self._tried = reading, None, None

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
        check_sums(self.reader, prompts, names)
        done = np.zeros(len(prompts), dtype=np.bool_) if done is None else done.copy()
        while not done.all():
            reading = self.decide(prompts, names)
            rows = rows_of(reading.how, self.reader, prompts)
            yield from self._passes(reading, rows, names, done)
            if not done.all():
                if reading.how != TREES:
                    raise too_long(self.reader, int(prompts.last[~done].min()) + 1)
                self._choose(prompts, names, share=False)  # no row of a tree fits any more

    def reading_order(self, prompts: Prompts) -> Ints:
        """Return the indices of the prompts in the order of `batches`, int64 (N,)."""
        self.check(prompts)
        if len(prompts) == 0:
            return np.arange(0)
        first, _, _ = self.decide(prompts).max_tokens[0]  # whatever the memory held later
        trees = rows_of(first, self.reader, prompts).trees
        return np.argsort(prompts.last if trees is None else trees.row, kind="stable")

    def check(self, prompts: Prompts) -> None:
        """Raise InputError for a prompt that is too long, or a token that is not in the vocabulary.

        A prompt is too long if the context does not hold its tokens up to the last that is read.
        """
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        unknown = (prompts.ids < 0) | (prompts.ids >= vocabulary)
        outside = prompts.ids[unknown & prompts.is_read]
        if len(outside):
            raise InputError(
                f"token {outside[0]} is not in the model's vocabulary of {vocabulary} tokens; is "
                "this the model's tokenizer?"
            )
        longest = int(prompts.last.max(initial=0)) + 1
        if self.max_length and longest > self.max_length:
            raise InputError(
                f"a prompt has {longest} tokens up to the last that is read, but the model reads "
                f"{self.max_length}"
            )

    def decide(
        self, prompts: Prompts, names: Sequence[str] = (), *, share: bool | None = None
    ) -> Reading:
        """Return how the prompts are read, which is decided once.

        ``share``: whether trees are tried; None: if they save work.
        """
        self.reader.forget()
        is_new = self._decided is not None and self._decided is not prompts
        if self.reading is None or is_new:
            self._choose(prompts, names, share=share)
        self._decided = prompts
        assert self.reading is not None
        return self.reading

    def _choose(self, prompts: Prompts, names: Sequence[str], *, share: bool | None = None) -> None:
        before = [] if share is None or self.reading is None else self.reading.max_tokens
        trial = Trial(self.reader, prompts, self._attempt, lambda: self.max_tokens)
        self.reading, self._tried = trial.choose(names, share=share)
        self.reading.max_tokens = [*before, (self.reading.how, 0, self.max_tokens)]
        if self.reading.reason:
            print_once(f"prompts are read {self.reading.how}: {self.reading.reason}")
        self.on_reading(self.reading)

    def _passes(
        self, reading: Reading, rows: Rows, names: Sequence[str], done: Bools
    ) -> Iterator[HarvestBatch]:
        """Read all rows, at most `max_tokens` tokens per pass; mark their prompts done.

        The function stops before a row that the memory does not hold. It skips passes whose prompts
        are all done.
        """
        row = 0
        while row < len(rows.lengths) and not done.all():
            self.max_tokens = reading.tokens_from(row, self.max_tokens)
            part = rows.next_pass(row, self.max_tokens)
            if not done[rows.prompts_in(part)].all():
                batch = self._read_before(rows, part, names) or self._attempt(rows, part, names)
                if batch is None and len(part) == 1:
                    return
                if batch is None:
                    reading.max_tokens.append((rows.how, row, self.max_tokens))
                    self.on_reading(reading)
                    continue
                done[batch.indices] = True
                yield batch
            row += len(part)

    def _read_before(self, rows: Rows, part: Ints, names: Sequence[str]) -> HarvestBatch | None:
        """Return a pass if the trial has read it."""
        tried, self._tried = self._tried, None
        if tried is None or (tried.how, *tried.rows[[0, -1]]) != (rows.how, *part[[0, -1]]):
            self._tried = tried
            return None
        if not {*names} <= {*tried.batch.states}:
            return None
        first, *others = (
            part._replace(states={name: part.states[name] for name in names})
            for part in tried.batch.parts
        )
        return first._replace(also=tuple(others))

    def _attempt(self, rows: Rows, part: Ints, names: Sequence[str]) -> HarvestBatch | None:
        """Read rows; if the memory does not hold them, halve `max_tokens` and return None."""
        try:
            with evaluating(self.model):
                return rows.read(part, names)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.max_tokens = max(1, len(part) * int(rows.lengths[part[-1]]) // 2)
        inform(f"out of memory; continuing with {self.max_tokens} tokens at a time")
        return None


def _context(config: Any) -> int:
    """Return the largest number of tokens that the model reads; 0 if there is no limit."""
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
    for name in (*names, "max_target_positions"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return _stretched(config, length)
    return 0


def _stretched(config: Any, length: int) -> int:
    """Return the context if its stated length is that before the positions are scaled.

    Linear RoPE scales the stated length by a factor, and YaRN the original one. Dynamic RoPE scales
    by the length of what it reads, so that it reads any. Other types state the scaled length.
    """
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    rope = rope if isinstance(rope, dict) else {}
    of_layers = [each for each in rope.values() if isinstance(each, dict)]  # one per kind of layer
    if "dynamic" in [each.get("rope_type", each.get("type")) for each in (rope, *of_layers)]:
        return 0
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if kind == "yarn":
        original = rope.get("original_max_position_embeddings")
    else:
        original = length if kind == "linear" else None
    return max(length, int(factor * original)) if factor and original else length


def _loaded(module: torch.nn.Module) -> Any:
    """Load the weights of a module that accelerate keeps on the disk or in the CPU's memory."""
    if not hasattr(module, "_hf_hook"):
        return nullcontext()
    from accelerate.utils import align_module_device

    return align_module_device(module)

"""Edit the hidden states of any causal language model of Hugging Face's transformers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasklens.core.errors import InputError
from tasklens.core.progress import inform
from tasklens.data.edited_prompts import Edited, EditedPrompts, Floats, Ints
from tasklens.data.names import state_order
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import free_bytes, is_out_of_memory
from tasklens.models.edited_answers import EditedAnswers, changes_by_state
from tasklens.models.gpt2 import tree_bias
from tasklens.models.hf_batching import too_long
from tasklens.models.hf_edit_rows import EditArranger, EditRows
from tasklens.models.hf_editing import (
    Change,
    can_be_skipped,
    changed,
    close,
    output_kept,
    skipped,
    token_changer,
)
from tasklens.models.hf_reader import takes_positions, token_picker
from tasklens.models.hf_rows import ALONE, TREES
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.modes import evaluating
from tasklens.models.subject import states_among

#: Logits that a pass computes at most: 256 MiB in float32.
LOGITS = 2**26
#: Prompts on which it is tried whether blocks can be skipped.
TRIED = 2


class _Kept(NamedTuple):
    """Unedited output of the last of some blocks, which are skipped."""

    n_blocks: int
    state: Tensor  # (N, T, D), at all tokens of the prompts
    in_tuple: bool
    """Whether the block returns it in a tuple."""


class HuggingFaceEditor:
    """A causal model of transformers with prompts as an Editor (`tasklens.interventions.editor`).

    Parameters
    ----------
    subject : HuggingFaceSubject
        It is not changed.
    prompts : EditedPrompts
        N prompts.
    tokens : int64 (K, L)
        Answers as token sequences, with -1 after the end of each.
    max_tokens : int
        Tokens of a forward pass; 0: those of the subject. It is halved whenever the memory is
        exhausted, and changes the result by rounding only.

    Notes
    -----
    A trial decides how edits are read together, as it does for prompts: see
    `tasklens.models.hf_batching`. If token trees change no state, the tokens before the edited span
    are read once for many edits. If the answers are single tokens, the blocks up to the edited
    state are skipped, unless a trial shows that this changes the model. For this, one unedited
    state of all tokens stays in memory, if a quarter of the free memory holds it.

    The same rows in a call make the same passes, so that a change of zeros gives the bits of the
    unedited answer. This is not so if the memory was exhausted in between.

    Raises
    ------
    InputError
        If a prompt with an answer is longer than the context, or a token is not in the vocabulary.
        `states` and `answer` raise it if the model has no state of some name.
    """

    def __init__(
        self,
        subject: HuggingFaceSubject,
        prompts: EditedPrompts,
        tokens: Ints,
        max_tokens: int = 0,
    ) -> None:
        self._subject = subject.again()
        self._reader = self._subject.reader
        self.names = subject.names
        self.prompts, self._tokens = prompts, tokens
        self.max_tokens = max_tokens or subject.max_tokens
        asked = with_answers(prompts, tokens)
        self._subject.check(asked)
        model = subject.model
        may_share = self._reader.dtype == torch.float32 and takes_positions(model)
        how = self._subject.decide(asked, share=may_share).how if len(prompts) else ALONE
        self._arranger = EditArranger(how, prompts, tokens.shape[1] - 1)
        is_span = bool((prompts.begin < prompts.end).any())
        begin = prompts.begin if is_span else None
        self._measured = Prompts(prompts.ids, prompts.end, begin)
        blocks = [name for name in self.names if name.startswith("block")]
        self._blocks = [self._reader.points[name].module for name in blocks]
        self._kept: _Kept | None = None
        #: Whether the blocks up to an edited state can be skipped.
        self._may_skip = tokens.shape[1] == 1 and len(prompts) > 0
        if self._may_skip and self._reader.can_skip is None:
            self._reader.can_skip = self._skips_alike()
        self._may_skip &= bool(self._reader.can_skip)
        self.how = f"by hooks, {how}" + ", from the edited state on" * self._may_skip

    def states(self, names: Sequence[str]) -> dict[str, Floats]:
        """Return the unedited states at the edited tokens, (N, D) each; the mean over a span."""
        names = states_among(self._subject, names)
        return self._subject.harvest(self._measured, names).states

    def answer(self, name: str, row: Ints, change: Floats, candidates: Ints) -> Edited:
        """Return what the model answers if a hidden state is changed; see `Editor`.

        Several states that are joined by + are changed together.
        """
        by_state = changes_by_state(name, change, states_among(self._subject, name.split("+")))
        answers = EditedAnswers(self._tokens, candidates)
        row = row[answers.edit]
        kept = self._kept_below(min(by_state, key=state_order))

        def run(rows: list[Ints]) -> None:
            each = self._arranger.arrange(rows, row, answers.following)
            n_edited = (self.prompts.end - self.prompts.begin + 1)[row[each.job]]  # (J,)
            j, s = np.nonzero(np.arange(each.slot.shape[1]) < n_edited[:, None])
            tokens = self._tensor(each.row[j]), self._tensor(each.slot[j, s])
            edit = answers.edit[each.job[j]]
            changes = {
                name: token_changer(*tokens, self._tensor(x[edit])) for name, x in by_state.items()
            }
            answers.add(each.job, self._logits(each, row, changes, kept))

        self._run_all(row, answers.following, run)
        return answers.result()

    def unembedding(self, tokens: Ints) -> Floats:
        """Return the rows of the head, (M, D), that give the logits of some tokens (M,).

        InputError if the head reads no state, but what other layers make of the last one.
        """
        head = self._reader.model.get_output_embeddings()
        width = self._subject.widths[self.names[-1]]
        if head is None or head.weight.shape[-1] != width:
            raise InputError(
                f"{self._reader.kind}: its head has no row of {width} numbers per token, which the "
                "edit unembedding needs: leave out this edit"
            )
        return head.weight[self._tensor(tokens)].detach().float().cpu().numpy()  # type: ignore[no-any-return]

    def _run_all(self, row: Ints, following: Ints, run: Callable[[list[Ints]], object]) -> None:
        """Run the passes of all jobs, in smaller ones if the memory is exhausted."""
        vocabulary = self._reader.model.get_input_embeddings().weight.shape[0]
        max_jobs = max(1, LOGITS // (vocabulary * self._tokens.shape[1]))
        done = np.zeros(len(row), dtype=np.bool_)
        while not done.all():
            left = np.flatnonzero(~done)
            sizes = self.max_tokens, max_jobs
            for part in self._arranger.passes(row[left], following[left], *sizes):
                rows = [left[jobs] for jobs in part]
                try:
                    with evaluating(self._reader.model):
                        run(rows)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    n_tokens = self._arranger.arrange(rows, row, following).is_read.size
                    if len(rows) == len(rows[0]) == 1:
                        raise too_long(self._reader, n_tokens) from error
                    self._halve(n_tokens)
                    break
                done[np.concatenate(rows)] = True

    def _halve(self, n_tokens: int) -> None:
        """Lower `max_tokens` after a pass of some tokens that the memory did not hold."""
        if self._subject.device.type == "cuda":
            torch.cuda.empty_cache()
        self.max_tokens = max(1, n_tokens // 2)
        inform(f"out of memory; continuing with {self.max_tokens} tokens at a time")

    @torch.inference_mode()
    def _logits(
        self,
        each: EditRows,
        row: Ints,
        changes: Mapping[str, Change] | None = None,
        kept: _Kept | None = None,
    ) -> Tensor:
        """Return the logits, (J, L, V), that follow the prompt and each token of an answer."""
        L = self._tokens.shape[1]
        read = self._arranger.last[row[each.job], None] + np.arange(L)  # (J, L)
        slot = np.take_along_axis(each.slot, read, axis=1).reshape(-1)
        pick = token_picker(self._tensor(np.repeat(each.row, L)), self._tensor(slot))
        inputs = {"ids": self._tensor(each.ids)}
        if self._arranger.how == TREES:
            inputs["attention_mask"] = tree_bias(self._tensor(each.parent))
            inputs["position_ids"] = self._tensor(each.depth)
        elif not each.is_read.all():
            inputs["attention_mask"] = self._tensor(each.is_read.astype(np.int64))
        with ExitStack() as stack:
            stack.enter_context(changed(self._reader.points, changes or {}))
            if kept is not None:
                at = self._tensor(each.prompt), self._tensor(each.depth)
                state = token_picker(*at)(kept.state)  # (B, T, D)
                blocks = self._blocks[: kept.n_blocks]
                stack.enter_context(skipped(blocks, state, in_tuple=kept.in_tuple))
            logits = self._reader.logits(pick, **inputs)
        return logits.view(len(each.job), L, -1)

    def _kept_below(self, name: str) -> _Kept | None:
        """Return the unedited states with which the blocks up to an edited state are skipped."""
        blocks = [each for each in self.names if each.startswith("block")]
        n_blocks = sum(state_order(each) <= state_order(name) for each in blocks)
        if not self._may_skip or not n_blocks or not self._holds_states():
            return None
        if self._kept is None or self._kept.n_blocks != n_blocks:
            self._kept = None  # before the next one needs memory
            row = np.arange(len(self.prompts))
            self._run_all(row, _nothing(row), lambda rows: self._keep(rows, row, n_blocks))
        return self._kept

    def _holds_states(self) -> bool:
        """Return whether a quarter of the free memory holds a state of all tokens."""
        if self._kept is not None:
            return True
        width = max(self._subject.widths.values())
        n_bytes = len(self.prompts) * (int(self.prompts.read.max()) + 1) * width
        return n_bytes * self._reader.dtype.itemsize <= free_bytes(self._subject.device) // 4

    @torch.inference_mode()
    def _keep(self, rows: list[Ints], row: Ints, n_blocks: int) -> None:
        """Keep the output of a block for the prompts of some rows."""
        each = self._arranger.arrange(rows, row, _nothing(row))
        with output_kept(self._blocks[n_blocks - 1]) as outputs:
            self._logits(each, row)
        (output,) = outputs
        in_tuple = not isinstance(output, Tensor)
        state = output[0] if in_tuple else output  # (B, T, D)
        if self._kept is None:
            N, T = len(self.prompts), int(self.prompts.read.max()) + 1
            self._kept = _Kept(n_blocks, state.new_zeros((N, T, state.shape[-1])), in_tuple)
        b, t = np.nonzero(each.is_read)
        n, depth = (torch.from_numpy(x[b, t]).to(state.device) for x in (each.prompt, each.depth))
        self._kept.state[n, depth] = token_picker(self._tensor(b), self._tensor(t))(state)

    def _skips_alike(self) -> bool:
        """Return whether some unedited prompts have equal logits if blocks are skipped."""
        if not all(map(can_be_skipped, self._blocks)):
            return False
        row = np.unique(np.linspace(0, len(self.prompts) - 1, TRIED).round().astype(np.int64))
        rows = next(self._arranger.passes(row, _nothing(row), self.max_tokens, TRIED))
        each = self._arranger.arrange(rows, row, _nothing(row))
        with evaluating(self._reader.model):
            logits = self._logits(each, row)
            for n_blocks in range(1, len(self._blocks) + 1):
                self._kept = None
                try:
                    self._keep(rows, row, n_blocks)
                    if not close(self._logits(each, row, kept=self._kept), logits):
                        return False
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    return False  # the model needs what a block returns beside the state
        self._kept = None  # it has the tried prompts alone
        return True

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._subject.device)


def with_answers(prompts: EditedPrompts, tokens: Ints) -> Prompts:
    """Return the prompts, each with all but the last token of one of the answers."""
    n = np.arange(len(prompts))
    following = np.maximum(tokens[n % len(tokens), :-1], 0)  # (N, L - 1)
    ids = np.concatenate([prompts.ids, np.zeros_like(following)], axis=1)
    columns = prompts.read[:, None] + 1 + np.arange(following.shape[1])
    np.put_along_axis(ids, columns, following, axis=1)
    return Prompts(ids, prompts.read + following.shape[1])


def _nothing(row: Ints) -> Ints:
    """Return that no token of an answer follows any of some prompts, (J, 0)."""
    return np.empty((len(row), 0), dtype=np.int64)

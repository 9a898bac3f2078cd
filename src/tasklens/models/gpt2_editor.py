"""Edit the hidden states of a `GPT2`.

An edit changes nothing before the edited span. The keys and values of the tokens before it are
computed once per prefix. The unedited states of all other tokens are computed once per prompt. Each
edit then runs only these tokens, from the edited state on.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the usual name
from numpy.typing import NDArray
from torch import Tensor

from tasklens.data.edited_prompts import Edited, EditedPrompts, Floats, Ints
from tasklens.data.names import find_state
from tasklens.models.devices import MAX_TOKENS_GPU
from tasklens.models.edited_answers import EditedAnswers
from tasklens.models.gpt2 import GPT2, check_length, state_names
from tasklens.models.passes import run_passes

#: Tokens of a pass on a CPU: one call has some passes for each core, and the products are large.
PASS_TOKENS = 512
#: Tokens whose logits are computed at a time, because a vocabulary may be large.
HEAD_ROWS = 256
#: Edits in a line, which share the keys and values of their prefix. All products have a shape that
#: does not depend on the number of edits.
LINE = 4


class _Part(NamedTuple):
    """G lines of a pass, each with one prefix and the tokens of `LINE` jobs."""

    job: Ints  # (G * LINE,), -1 if a line is not full
    row: Ints  # (G * LINE,), prompt of each job
    prefix: Tensor  # (G,)
    depth: Tensor  # (G, LINE * S), positions
    bias: Tensor  # (G, 1, LINE * S, P + LINE * S), bias of the scores


class GPT2Editor:
    """A `GPT2` with prompts as an Editor (see `tasklens.interventions.editor`).

    Parameters
    ----------
    model : GPT2
        It is run in fp32 and without dropout, whatever training used.
    prompts : EditedPrompts
        N prompts.
    tokens : int64 (K, L)
        Answers as token sequences, with -1 after the end of each.
    max_tokens : int
        Tokens of a forward pass; 0: `PASS_TOKENS` on a CPU. It changes the result by rounding only.

    Notes
    -----
    The same rows in a call of `answer` make the same products, so that a change of zeros gives the
    bits of the unedited answer. The number of threads changes no bit. States of other names, and
    other edits in the call, change the last bits at most. The keys and values of all prefixes stay
    in memory: 8 * n_layer * n_embd bytes per token. So do the unedited states from the edited span
    on: 4 * (n_layer + 3) * n_embd bytes per token.

    Raises
    ------
    InputError
        If a prompt with an answer is longer than the context, or if the model has no state of some
        name.
    """

    def __init__(
        self, model: GPT2, prompts: EditedPrompts, tokens: Ints, max_tokens: int = 0
    ) -> None:
        self.names = state_names(model.settings.n_layer)
        n_more = tokens.shape[1] - 1  # tokens of an answer that are read
        check_length(model.n_positions, int(prompts.read.max(initial=0)) + 1 + n_more)
        self.model, self.prompts, self._tokens = model, prompts, tokens
        self._blocks: list[Any] = list(model.transformer["h"].children())
        #: Index of the last token that is read, from the beginning of the span on, (N,).
        self._last: Ints = prompts.read - prompts.begin
        on_gpu = model.device.type != "cpu"
        self.max_tokens = max_tokens or (MAX_TOKENS_GPU if on_gpu else PASS_TOKENS)
        self.how = "from the edited state on, beside kept keys and values of the tokens before"
        if n_more:
            self.how = "from the edited token on, beside kept keys and values of the tokens before"
        n_edited = int(self._last.max(initial=0)) + 1
        columns = prompts.begin[:, None] + np.arange(n_edited)  # (N, S)
        inside = columns <= prompts.read[:, None]
        columns = np.minimum(columns, prompts.ids.shape[1] - 1)
        #: Tokens from the edited span up to the last one that is read, (N, S); 0 behind it.
        self._ids = np.where(inside, np.take_along_axis(prompts.ids, columns, axis=1), 0)
        before = np.arange(int(prompts.begin.max(initial=0))) < prompts.begin[:, None]  # (N, P)
        ids = np.where(before, prompts.ids[:, : before.shape[1]], -1)
        distinct, prefix = np.unique(ids, axis=0, return_inverse=True)
        self._prefix: Ints = prefix.reshape(-1)  # (N,)
        #: Keys and values of the prefixes by block, (2, U, n_head, P, head_dim) each.
        self._earlier = self._read_prefixes(distinct)
        self._is_padding = torch.from_numpy(distinct < 0).to(model.device)  # (U, P)
        #: Unedited states by name, (N, S, D) each.
        self._states = self._read_unedited()

    def states(self, names: Sequence[str]) -> dict[str, Floats]:
        """Return the unedited states at the edited tokens, (N, D) each; the mean over a span."""
        N, S = self._ids.shape
        inside = self._tensor(self._in_span(np.arange(N), S))[..., None]  # (N, S, 1)
        n_tokens = inside.sum(dim=1)
        result = {}
        for name in names:
            total = (self._states[find_state(name, self.names)] * inside).sum(dim=1)
            result[name] = (total / n_tokens).cpu().numpy()
        return result

    def answer(self, name: str, row: Ints, change: Floats, candidates: Ints) -> Edited:
        """Return what the model answers if a hidden state is changed; see `Editor`."""
        at = self.names.index(find_state(name, self.names))
        answers = EditedAnswers(self._tokens, candidates)
        row, moves = row[answers.edit], self._tensor(change.astype(np.float32, copy=False))
        S = self._ids.shape[1] + answers.following.shape[1]

        @torch.inference_mode()
        def run(lines: Ints) -> None:
            part = self._part(lines, row, S)
            job = np.maximum(part.job, 0)
            inside = self._tensor(self._in_span(part.row, S))[..., None]  # (G * LINE, S, 1)
            move = moves[self._tensor(answers.edit[job])][:, None] * inside
            first, x = at, self._states[self.names[at]][self._tensor(part.row)]
            if answers.following.shape[1]:  # the states of these tokens are not kept
                first, x = 0, self._embedded(part.row, answers.following[job])
            for i in range(first, len(self.names)):
                x = x + move if i == at else x
                x = self._next(i, x, part) if i + 1 < len(self.names) else x
            real = np.flatnonzero(part.job >= 0)
            read = self._last[part.row[real], None] + np.arange(answers.following.shape[1] + 1)
            for some in np.split(np.arange(len(real)), range(HEAD_ROWS, len(real), HEAD_ROWS)):
                picked = x[self._tensor(real[some, None]), self._tensor(read[some])]  # (j, L, D)
                answers.add(job[real[some]], F.linear(picked, self._head))

        lines = _lines(self._prefix[row])
        size = max(1, self.max_tokens // (LINE * S))
        run_passes(self.model, run, [lines[i : i + size] for i in range(0, len(lines), size)])
        return answers.result()

    def unembedding(self, tokens: Ints) -> Floats:
        """Return the rows of the head, (M, D), that give the logits of some tokens (M,)."""
        return self._head[self._tensor(tokens)].detach().cpu().numpy()

    @property
    def _head(self) -> Tensor:
        tied = self.model.settings.tie_word_embeddings
        head = self.model.transformer["wte"] if tied else self.model.lm_head
        return head.weight  # type: ignore[return-value]

    def _read_prefixes(self, ids: Ints) -> list[Tensor]:
        """Return the keys and values of prefixes (U, P), padded with -1, by block."""
        U, P = ids.shape
        settings = self.model.settings
        shape = (2, U, settings.n_head, P, settings.n_embd // settings.n_head)
        kept = [torch.zeros(shape, device=self.model.device) for _ in range(settings.n_layer)]
        bias = torch.full((P, P), -torch.inf, device=self.model.device).triu(1)

        @torch.inference_mode()
        def run(part: slice) -> None:
            tokens = self._tensor(np.maximum(ids[part], 0))
            wte, wpe = self.model.transformer["wte"], self.model.transformer["wpe"]
            x = wte(tokens) + wpe(torch.arange(P, device=tokens.device))
            for block, earlier in zip(self._blocks, kept, strict=True):
                earlier[:, part] = block.attn.project(block.ln_1(x))[1:]
                x = block(x, bias)

        size = max(1, self.max_tokens // max(1, P))
        run_passes(self.model, run, [slice(i, i + size) for i in range(0, U, size) if P])
        return kept

    def _read_unedited(self) -> dict[str, Tensor]:
        """Return the states of the tokens from the span on, (N, S, D) each, by name."""
        N, S = self._ids.shape
        shape = (N, S, self.model.settings.n_embd)
        kept = {name: torch.zeros(shape, device=self.model.device) for name in self.names}

        @torch.inference_mode()
        def run(lines: Ints) -> None:
            part = self._part(lines, np.arange(N), S)
            real = self._tensor(np.flatnonzero(part.job >= 0))
            row = self._tensor(part.row)[real]
            x = self._embedded(part.row, np.empty((len(part.row), 0), dtype=np.int64))
            for i, name in enumerate(self.names):
                kept[name][row] = x[real]
                x = self._next(i, x, part) if i + 1 < len(self.names) else x

        lines = _lines(self._prefix)
        size = max(1, self.max_tokens // (LINE * S))
        run_passes(self.model, run, [lines[i : i + size] for i in range(0, len(lines), size)])
        return kept

    def _part(self, lines: Ints, row: Ints, S: int) -> _Part:
        """Return the inputs of a pass of some lines of jobs (G, LINE) with prompts ``row``."""
        job = lines.reshape(-1)
        rows = row[np.maximum(job, 0)]
        prefix = self._tensor(self._prefix[row[lines[:, 0]]])
        depth = self.prompts.begin[rows, None] + np.arange(S)  # (G * LINE, S)
        depth = np.minimum(depth, self.model.n_positions - 1)
        # A token attends to the prefix, and to its own job's tokens up to itself.
        is_own = torch.ones(S, S, dtype=torch.bool).tril().repeat(LINE, LINE)
        job_of_token = torch.arange(LINE).repeat_interleave(S)
        is_own &= job_of_token[:, None] == job_of_token
        is_read = torch.cat(
            [
                ~self._is_padding[prefix][:, None].expand(-1, LINE * S, -1),
                is_own.to(prefix.device).expand(len(lines), -1, -1),
            ],
            dim=2,
        )
        bias = torch.zeros(is_read.shape, device=prefix.device)
        bias = bias.masked_fill_(~is_read, -torch.inf)[:, None]
        return _Part(job, rows, prefix, self._tensor(depth), bias)

    def _embedded(self, row: Ints, following: Ints) -> Tensor:
        """Return the word embeddings, (J, S, D), of the tokens from the span on."""
        ids = np.concatenate([self._ids[row], np.zeros_like(following)], axis=1)
        columns = self._last[row, None] + 1 + np.arange(following.shape[1])
        np.put_along_axis(ids, columns, following, axis=1)
        return self.model.transformer["wte"](self._tensor(ids))  # type: ignore[no-any-return]

    def _next(self, i: int, x: Tensor, part: _Part) -> Tensor:
        """Return the state after the i-th state (G * LINE, S, D), which is not the last one."""
        if i == 0:
            return x + self.model.transformer["wpe"](part.depth)  # type: ignore[no-any-return]
        if i > len(self._blocks):
            return self.model.transformer["ln_f"](x)  # type: ignore[no-any-return]
        earlier = self._earlier[i - 1][:, part.prefix].unbind()
        lined = x.reshape(len(part.prefix), -1, x.shape[-1])  # (G, LINE * S, D)
        return self._blocks[i - 1](lined, part.bias, earlier).view_as(x)  # type: ignore[no-any-return]

    def _in_span(self, row: Ints, S: int) -> NDArray[np.bool_]:
        """Return whether the tokens from the beginning of the span on are edited, (M, S)."""
        return np.arange(S) <= (self.prompts.end - self.prompts.begin)[row, None]

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.model.device)


def _lines(prefix: Ints) -> Ints:
    """Return jobs in lines (G, LINE), each of one prefix; -1 if a line is not full."""
    order = np.argsort(prefix, kind="stable")
    ordered = prefix[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)  # among its prefix's jobs
    line = np.cumsum(rank % LINE == 0) - 1
    lines: Ints = np.full((int(line[-1]) + 1 if len(line) else 0, LINE), -1)
    lines[line, rank % LINE] = order
    return lines

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
from tasklens.models.edited_answers import EditedAnswers, changes_by_state
from tasklens.models.gpt2 import GPT2, check_length, state_names
from tasklens.models.passes import run_passes

#: Tokens of a pass on a CPU: one call has some passes for each core, and the products are large.
PASS_TOKENS = 512
#: Tokens whose logits are computed at a time, because a vocabulary may be large.
HEAD_ROWS = 256


class _Pass(NamedTuple):
    """Prompts of a pass (J,), with S tokens each from the edited span on."""

    row: Ints  # (J,)
    prefix: Tensor  # (J,)
    depth: Tensor  # (J, S), positions
    bias: Tensor  # (J, 1, S, P + S), bias of the scores


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
    A change of zeros gives the bits of the unedited answer, and the number of threads changes no
    bit. The name of an unedited state, and the number of edits in a call, change rounding only. A
    call should have many edits, so that all threads have passes.

    The keys and values of all prefixes stay in memory: 8 * n_layer * n_embd bytes per token. So do
    the unedited states from the edited span on: 4 * (n_layer + 3) * n_embd bytes per token.

    Raises
    ------
    InputError
        If a prompt with an answer is longer than the context. `states` and `answer` raise it if the
        model has no state of some name.
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
        """Return what the model answers if a hidden state is changed; see `Editor`.

        Several states that are joined by + are changed together.
        """
        by_state = changes_by_state(name, change, self.names)
        moves = {self.names.index(name): self._tensor(x) for name, x in by_state.items()}
        answers = EditedAnswers(self._tokens, candidates)
        row, lowest = row[answers.edit], min(moves)
        S = self._ids.shape[1] + answers.following.shape[1]

        @torch.inference_mode()
        def run(job: Ints) -> None:
            each = self._pass(row[job], S)
            inside = self._tensor(self._in_span(each.row, S))[..., None]  # (J, S, 1)
            edit = self._tensor(answers.edit[job])
            if answers.following.shape[1]:  # the states of these tokens are not kept
                first, x = 0, self._embedded(each.row, answers.following[job])
            else:
                first, x = lowest, self._states[self.names[lowest]][self._tensor(each.row)]
            for i in range(first, len(self.names)):
                if i in moves:
                    x = x + moves[i][edit][:, None] * inside
                x = self._next(i, x, each) if i + 1 < len(self.names) else x
            read = self._last[each.row, None] + np.arange(answers.following.shape[1] + 1)
            for j in _parts(len(job), HEAD_ROWS):
                picked = x[self._tensor(j[:, None]), self._tensor(read[j])]  # (j, L, D)
                answers.add(job[j], F.linear(picked, self._head))

        run_passes(self.model, run, _parts(len(row), self.max_tokens // S))
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
        def run(part: Ints) -> None:
            tokens = self._tensor(np.maximum(ids[part], 0))
            wte, wpe = self.model.transformer["wte"], self.model.transformer["wpe"]
            x = wte(tokens) + wpe(torch.arange(P, device=tokens.device))
            for block, earlier in zip(self._blocks, kept, strict=True):
                earlier[:, part] = block.attn.project(block.ln_1(x))[1:]
                x = block(x, bias)

        run_passes(self.model, run, _parts(U, self.max_tokens // P) if P else [])
        return kept

    def _read_unedited(self) -> dict[str, Tensor]:
        """Return the states of the tokens from the span on, (N, S, D) each, by name."""
        N, S = self._ids.shape
        shape = (N, S, self.model.settings.n_embd)
        kept = {name: torch.zeros(shape, device=self.model.device) for name in self.names}

        @torch.inference_mode()
        def run(row: Ints) -> None:
            each, index = self._pass(row, S), self._tensor(row)
            x = self._embedded(row, np.empty((len(row), 0), dtype=np.int64))
            for i, name in enumerate(self.names):
                kept[name][index] = x
                x = self._next(i, x, each) if i + 1 < len(self.names) else x

        run_passes(self.model, run, _parts(N, self.max_tokens // S))
        return kept

    def _pass(self, row: Ints, S: int) -> _Pass:
        """Return the inputs of a pass over some prompts (J,), with S tokens each."""
        prefix = self._tensor(self._prefix[row])
        depth = self.prompts.begin[row, None] + np.arange(S)  # (J, S)
        depth = np.minimum(depth, self.model.n_positions - 1)
        later = torch.ones(S, S, dtype=torch.bool, device=prefix.device).triu(1)
        is_hidden = torch.cat(
            [
                self._is_padding[prefix][:, None].expand(-1, S, -1),
                later.expand(len(row), -1, -1),
            ],
            dim=2,
        )  # (J, S, P + S)
        bias = torch.zeros(is_hidden.shape, device=prefix.device)
        bias = bias.masked_fill_(is_hidden, -torch.inf)[:, None]
        return _Pass(row, prefix, self._tensor(depth), bias)

    def _embedded(self, row: Ints, following: Ints) -> Tensor:
        """Return the word embeddings, (J, S, D), of the tokens from the span on."""
        ids = np.concatenate([self._ids[row], np.zeros_like(following)], axis=1)
        columns = self._last[row, None] + 1 + np.arange(following.shape[1])
        np.put_along_axis(ids, columns, np.maximum(following, 0), axis=1)
        return self.model.transformer["wte"](self._tensor(ids))  # type: ignore[no-any-return]

    def _next(self, i: int, x: Tensor, each: _Pass) -> Tensor:
        """Return the state after the i-th state (J, S, D), which is not the last one."""
        if i == 0:
            return x + self.model.transformer["wpe"](each.depth)  # type: ignore[no-any-return]
        if i > len(self._blocks):
            return self.model.transformer["ln_f"](x)  # type: ignore[no-any-return]
        earlier = self._earlier[i - 1][:, each.prefix].unbind()
        return self._blocks[i - 1](x, each.bias, earlier)  # type: ignore[no-any-return]

    def _in_span(self, row: Ints, S: int) -> NDArray[np.bool_]:
        """Return whether the tokens from the beginning of the span on are edited, (M, S)."""
        return np.arange(S) <= (self.prompts.end - self.prompts.begin)[row, None]

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.model.device)


def _parts(n: int, size: int) -> list[Ints]:
    """Return the numbers below n in equal parts of at most ``size``, or of one each.

    The sums of a part of very few rows would be rounded in another way than those of others.
    """
    return np.array_split(np.arange(n), -(-n // max(1, size))) if n else []

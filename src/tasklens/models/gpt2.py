"""Define GPT-2 in one file, with the weight names of Hugging Face's ``GPT2LMHeadModel``.

Architecture: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019): learned
positions, pre-norm blocks, tanh GELU, head tied to the word embedding by default. `GPT2.forward`
returns the logits and, on request, hidden states by name.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F  # noqa: N812, the usual name
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils import skip_init

from tasklens.core.errors import InputError
from tasklens.core.seeds import derived_seed
from tasklens.core.settings import SettingsBase, with_keywords
from tasklens.data.dataset import Dataset
from tasklens.data.names import BRANCHES
from tasklens.models.training_size import Network, check_network

LAYER_NORM_EPSILON = 1e-5


class ModelSettings(SettingsBase, affects="train"):
    """Size and initialisation of the model, under GPT-2's own names.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.ModelSettings(n_layer=3, n_embd=64).n_head
    4
    """

    n_layer: Annotated[int, Field(ge=1, le=10_000)] = 6
    """Number of blocks."""
    n_head: Annotated[int, Field(ge=1, lt=2**31)] = 4
    """Number of attention heads per block; n_embd has to be a multiple of it."""
    n_embd: Annotated[int, Field(ge=1, lt=2**31)] = 256
    """Width of the residual stream."""
    initializer_range: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the initial weights (GPT-2: 0.02). Projections back into the residual
    stream start at this / sqrt(2 * n_layer)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout after the embedding, in the attention and on each branch (GPT-2: 0.1)."""
    tie_word_embeddings: bool = True
    """Whether the head that computes the logits is the word embedding (GPT-2: yes) or a separate
    matrix."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Check settings that depend on each other."""
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd = {self.n_embd}: should be a multiple of n_head = {self.n_head}, e.g. "
                f"{self.n_embd // self.n_head * self.n_head or self.n_head}"
            )
        return self

    def network(self, vocab_size: int, n_positions: int) -> Network:
        """Return the network, as far as its memory depends on it."""
        return Network(
            *(self.n_layer, self.n_embd, self.n_head, vocab_size, n_positions),
            tied=self.tie_word_embeddings,
        )


def branch_names(n_layer: int) -> tuple[str, ...]:
    """Return the names of what attention and MLP of each block add to the residual stream."""
    return tuple(f"{kind}{i + 1}" for i in range(n_layer) for kind in BRANCHES)


def state_names(n_layer: int) -> tuple[str, ...]:
    """Return the names of a model's hidden states from the bottom up.

    ``wte`` is the word embedding, ``embed`` the sum of word and position embedding. ``block1`` ..
    ``blockL`` are the residual stream after each block, and ``ln_f`` is that after the final norm.
    """
    return ("wte", "embed", *(f"block{i + 1}" for i in range(n_layer)), "ln_f")


class Conv1D(nn.Module):
    """Linear map whose weight is stored as (in, out), as in GPT-2's checkpoints."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        return F.linear(x, self.weight.t(), self.bias)


class Attention(nn.Module):
    """Multi-head self-attention, with a bias of the scores that masks tokens."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.n_head = settings.n_head
        self.drop = nn.Dropout(settings.dropout)
        self.c_attn = Conv1D(settings.n_embd, 3 * settings.n_embd)
        self.c_proj = Conv1D(settings.n_embd, settings.n_embd)

    def project(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to queries, keys and values, (3, B, n_head, T, head_dim)."""
        B, T, D = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_head, D // self.n_head)
        # One copy of all three is faster than one per product of `forward`.
        return qkv.permute(2, 0, 3, 1, 4).contiguous()  # type: ignore[no-any-return]

    def forward(self, x: Tensor, bias: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
        """Map (B, T, D) and the bias of the scores, (B, 1, T, T), to (B, T, D).

        ``earlier`` are keys and values of S earlier tokens, (B, n_head, S, head_dim) each. If they
        are given, the bias is that of S + T keys.
        """
        B, T, D = x.shape
        q, k, v = self.project(x)  # each (B, n_head, T, head_dim)
        if earlier:
            k, v = torch.cat([earlier[0], k], dim=2), torch.cat([earlier[1], v], dim=2)
        # Rows are so short that all T * T scores are faster than a selection of them.
        scores = (q @ k.transpose(-2, -1)).mul_(q.shape[-1] ** -0.5)  # (B, n_head, T, T)
        p = self.drop((scores + bias).softmax(dim=-1)).to(v.dtype)
        return self.c_proj((p @ v).transpose(1, 2).reshape(B, T, D))  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=512)
def _pattern(prefix: int, n_inputs: int, device: torch.device) -> Tensor:
    """Return (T, T): 0 if a token of a full row may attend to another, otherwise -inf."""
    T = prefix + n_inputs
    seen = torch.eye(T, dtype=torch.bool)
    seen[:, :prefix] |= torch.ones(T, prefix, dtype=torch.bool).tril()
    return torch.zeros(T, T).masked_fill_(~seen, -torch.inf).to(device)


def _row_bias(prefix: int, T: int, length: Tensor) -> Tensor:
    """Return the bias of the scores, (B, 1, T, T), for prefixes of these lengths (B,)."""
    bias = _pattern(prefix, T - prefix, length.device).repeat(len(length), 1, 1, 1)
    padding = torch.arange(prefix, device=length.device) >= length[:, None]  # (B, prefix)
    bias[:, :, prefix:, :prefix].masked_fill_(padding[:, None, None], -torch.inf)
    return bias


def tree_bias(parent: Tensor) -> Tensor:
    """Return the bias of the scores in rows that are trees, (B, 1, T, T), from (B, T)."""
    B, T = parent.shape
    seen = torch.zeros(B, T, T, dtype=torch.bool, device=parent.device)
    row = torch.arange(B, device=parent.device)
    for t in range(T):  # a parent comes before its children
        seen[:, t] = seen[row, parent[:, t]]
        seen[:, t, t] = True
    return torch.zeros(seen.shape, device=parent.device).masked_fill_(~seen, -torch.inf)[:, None]


class MLP(nn.Module):
    """Two linear maps with a tanh GELU in between."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.c_fc = Conv1D(settings.n_embd, 4 * settings.n_embd)
        self.c_proj = Conv1D(4 * settings.n_embd, settings.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(settings.n_embd, eps=LAYER_NORM_EPSILON)
        self.attn = Attention(settings)
        self.ln_2 = nn.LayerNorm(settings.n_embd, eps=LAYER_NORM_EPSILON)
        self.mlp = MLP(settings)
        self.drop = nn.Dropout(settings.dropout)

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        earlier: Sequence[Tensor] = (),
        keep: Callable[[str, Tensor], object] = lambda name, state: None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D), with the keys and values of earlier tokens if given.

        ``keep`` is called with what "attn" and "mlp" add.
        """
        attn = self.drop(self.attn(self.ln_1(x), bias, earlier))
        keep("attn", attn)
        x = x + attn
        mlp = self.drop(self.mlp(self.ln_2(x)))
        keep("mlp", mlp)
        return x + mlp  # type: ignore[no-any-return]


class GPT2(nn.Module):
    """GPT-2 with its language-model head.

    Parameters
    ----------
    settings : ModelSettings
    vocab_size, n_positions : int
        Numbers of rows of the word embedding and the position embedding.
    seed : int
        Root seed; the initial weights are drawn from the stream "initial weights".

    Raises
    ------
    InputError
        If the memory does not hold the weights.

    Examples
    --------
    >>> import tasklens as tl
    >>> model = tl.GPT2(tl.ModelSettings(n_layer=1, n_head=1, n_embd=8), 30, n_positions=12, seed=0)
    >>> model.n_positions
    12
    """

    def __init__(
        self, settings: ModelSettings, vocab_size: int, n_positions: int, seed: int
    ) -> None:
        super().__init__()
        self.settings, self.vocab_size, self.n_positions = settings, vocab_size, n_positions
        check_network(settings.network(vocab_size, n_positions))
        self.transformer = nn.ModuleDict(
            {
                # `_initialise` draws them; their own __init__ would use the global generator.
                "wte": skip_init(nn.Embedding, vocab_size, settings.n_embd),  # type: ignore[no-untyped-call]
                "wpe": skip_init(nn.Embedding, n_positions, settings.n_embd),  # type: ignore[no-untyped-call]
                "h": nn.ModuleList(Block(settings) for _ in range(settings.n_layer)),
                "ln_f": nn.LayerNorm(settings.n_embd, eps=LAYER_NORM_EPSILON),
            }
        )
        if not settings.tie_word_embeddings:
            self.lm_head = nn.Linear(settings.n_embd, vocab_size, bias=False)
        self.drop = nn.Dropout(settings.dropout)
        self._initialise(torch.Generator().manual_seed(derived_seed(seed, "initial weights")))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def _initialise(self, generator: torch.Generator) -> None:
        """Draw every matrix as GPT-2 does; biases stay 0, norms 1."""
        deviation = self.settings.initializer_range
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith("c_proj.weight")
                scale = (2 * self.settings.n_layer) ** -0.5 if residual else 1.0
                nn.init.normal_(parameter, std=deviation * scale, generator=generator)

    def forward(
        self, ids: Tensor, prefix: int, length: Tensor, states: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the model on rows [I; x1 .. xm], each of which stands for m sequences [I; x].

        The first ``length[b]`` tokens of a row of ``ids``, int64 (B, prefix + m), are a causal
        sequence, I, padded to ``prefix`` tokens. Each of the other m tokens is at position
        ``length[b]`` and attends to I and itself only. A plain sequence is a row with m = 0. Return
        the logits, (B, T, vocab_size), and the named states, (B, T, n_embd) each.
        """
        T = ids.shape[1]
        column = torch.arange(T, device=ids.device)
        positions = torch.where(column < prefix, column, length[:, None])  # (B, T)
        return self._run(ids, positions, _row_bias(prefix, T, length), states)

    def forward_trees(
        self, ids: Tensor, depth: Tensor, parent: Tensor, states: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the model on rows that are token trees and return what `forward` returns.

        ``ids``, ``depth`` and ``parent``, int64 (B, T), are those of `prefix_trees.Trees`.
        """
        return self._run(ids, depth, tree_bias(parent), states)

    def _run(
        self, ids: Tensor, positions: Tensor, bias: Tensor, states: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        kept: dict[str, Tensor] = {}

        def keep(name: str, state: Tensor) -> None:
            if name in states:
                kept[name] = state

        wte: nn.Embedding = self.transformer["wte"]  # type: ignore[assignment]
        word_states = wte(ids)  # (B, T, D)
        keep("wte", word_states)
        x = word_states + self.transformer["wpe"](positions)
        keep("embed", x)
        x = self.drop(x)
        blocks: nn.ModuleList = self.transformer["h"]  # type: ignore[assignment]
        for i, block in enumerate(blocks):
            x = block(x, bias, keep=lambda kind, state, i=i: keep(f"{kind}{i + 1}", state))
            keep(f"block{i + 1}", x)
        x = self.transformer["ln_f"](x)
        keep("ln_f", x)
        head = wte if self.settings.tie_word_embeddings else self.lm_head
        return F.linear(x, head.weight), kept


def make_model(
    dataset: Dataset, settings: ModelSettings | None = None, *, seed: int = 0, **changes: Any
) -> GPT2:
    """Make an untrained GPT-2 for the vocabulary and the lengths of a dataset.

    Parameters
    ----------
    dataset : Dataset
    settings : ModelSettings, optional
    seed : int
        Root seed, from which the initial weights derive.
    **changes
        Fields of `ModelSettings`, which change those given.

    Raises
    ------
    InputError
        If a setting is unknown or out of range, or if the memory does not hold the weights.

    Examples
    --------
    >>> import tasklens as tl
    >>> dataset = tl.load_run("runs/smoke").dataset
    >>> model = tl.make_model(dataset, n_layer=2, n_head=2, n_embd=32)
    >>> sum(parameter.numel() for parameter in model.parameters())
    26496
    """
    (settings,) = with_keywords(changes, settings or ModelSettings())
    return GPT2(settings, len(dataset.vocabulary), dataset.n_positions, seed)


def check_length(n_positions: int, length: int) -> None:
    """Raise InputError if a row does not fit the model's context."""
    if length > n_positions:
        raise InputError(
            f"a row of {length} tokens does not fit the model's {n_positions} positions; "
            "shorten the instructions or make the model with more positions"
        )

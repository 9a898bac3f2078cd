"""Any causal language model of Hugging Face's transformers as a Subject.

States are taken by hooks on the modules, so that they are what their names say: the index of a
tuple of hidden states means another thing in another family.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import is_out_of_memory, tokens_that_fit
from tasklens.models.gpt2 import tree_bias
from tasklens.models.hf_hooks import Point, find_points, hooked
from tasklens.models.prefix_trees import Trees, token_trees
from tasklens.models.subject import Harvest

#: Answers are taken from the head so many at a time: a vocabulary is wide.
HEAD_ROWS = 256
#: Prompts are read as trees where these have at most this share of the prompts' tokens,
WORTH_SHARING = 0.7
#: and where a row's states are those of so many of its prompts read plainly, to this part of them.
CHECKED, TOLERANCE = 16, 1e-4

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
Bools: TypeAlias = npt.NDArray[np.bool_]


class Batch(NamedTuple):
    """What one forward pass gave.

    Attributes
    ----------
    which : int64 (b,)
        Indices of its prompts.
    states : {name: float32 (b, D)}
    answer : int64 (b,)
    """

    which: Ints
    states: dict[str, Floats]
    answer: Ints


class HuggingFaceSubject:
    """A causal language model of Hugging Face's as a Subject.

    Its states are `wte`, the word embedding (where it is not what the first block reads), `embed`,
    what the first block reads (layer 0), `block1` .. `blockL`, the residual stream after each
    block, and `ln_f`, after the final norm.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With a head that predicts the next token.
    tokenizer : transformers tokenizer, optional
        Kept for whoever makes the prompts.
    max_tokens : int
        Tokens in a forward pass; 0: what the device's free memory holds. Halved whenever it does
        not; the states depend on it by rounding alone. What prompts begin with in common is read
        once where the model allows it (see `_trees`); else they go in order of their length, padded
        at the end, where nothing that is measured looks.

    Raises
    ------
    InputError
        For a model that is not causal, or whose blocks are not a chain.
    """

    def __init__(
        self, model: Any, tokenizer: Any = None, max_tokens: int = 0, step: int = 0
    ) -> None:
        self.model, self.tokenizer, self.step = model.eval(), tokenizer, step
        self._base = getattr(model, model.base_model_prefix or "", model)
        self._accepts = set(inspect.signature(self._base.forward).parameters)
        config = model.config.get_text_config()
        self._points, around = find_points(self._base, model, config.num_hidden_layers)
        self._add_final_norm(around)
        same = self._check()
        self.names = tuple(name for name in self._points if name != "wte" or not same)
        self.max_length = _context(config)
        self.max_tokens = max_tokens or tokens_that_fit(self.device, config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where tokens go in: where the embedding is, or is computed."""
        hook = getattr(self.model.get_input_embeddings(), "_hf_hook", None)  # accelerate's
        place = getattr(hook, "execution_device", None)
        return torch.device(next(self.model.parameters()).device if place is None else place)

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states, float32 (N, D) each, and the answers."""
        states: dict[str, Floats] = {}
        answer = np.empty(len(prompts), dtype=np.int64)
        for batch in self.batches(prompts, names):
            for name, state in batch.states.items():
                empty = np.empty((len(prompts), state.shape[1]), dtype=np.float32)
                states.setdefault(name, empty)[batch.which] = state
            answer[batch.which] = batch.answer
        return Harvest(states, answer)

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: Bools | None = None
    ) -> Iterator[Batch]:
        """Yield the states of some prompts at a time, in an order that the prompts fix.

        Parameters
        ----------
        prompts : Prompts
        names : sequence of str
        done : bool (N,), optional
            Prompts whose states are there already. What is left goes in the batches in which it
            would have gone without them, so that it comes out the same to the last bit.

        Raises
        ------
        InputError
            See `check`; where the memory does not hold a single prompt.
        """
        self.check(prompts)
        prompts = _cleared(prompts)
        done = np.zeros(len(prompts), dtype=np.bool_) if done is None else done
        trees = self._trees(prompts)
        if trees is None:
            yield from self._plainly(prompts, names, done)
        else:
            yield from self._in_trees(prompts, trees, names, done)

    def reading_order(self, prompts: Prompts) -> Ints:
        """Return the indices of the prompts in the order in which `batches` reads them, (N,)."""
        trees = self._trees(_cleared(prompts))
        return np.argsort(prompts.position if trees is None else trees.row, kind="stable")

    def check(self, prompts: Prompts) -> None:
        """Raise InputError for a prompt that is too long, or a token that the model does not have.

        Too long is longer than the context, up to the measured token.
        """
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        read = _inside(prompts)
        outside = prompts.ids[read & ((prompts.ids < 0) | (prompts.ids >= vocabulary))]
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

    def _plainly(self, prompts: Prompts, names: Sequence[str], done: Bools) -> Iterator[Batch]:
        """Read a row a prompt, the shortest first."""
        order = np.argsort(prompts.position, kind="stable")  # as `reading_order` has it
        n = 0
        while n < len(order):
            lengths = prompts.position[order[n:]] + 1
            # of rising lengths: the last is what all are padded to
            fits = np.arange(1, len(lengths) + 1) * lengths <= self.max_tokens
            which = order[n : n + max(1, int(fits.sum()))]
            if done[which].all():
                n += len(which)
                continue
            n_tokens = len(which) * (int(prompts.position[which[-1]]) + 1)
            batch = self._attempt(partial(self._read, prompts, which, names), n_tokens)
            if batch is not None:
                n += len(which)
                yield batch
            elif len(which) == 1:
                raise InputError(
                    f"the memory of {self.device} does not hold one prompt of {n_tokens} tokens; "
                    "take another --device or --dtype bfloat16"
                )

    def _in_trees(
        self, prompts: Prompts, trees: Trees, names: Sequence[str], done: Bools
    ) -> Iterator[Batch]:
        """Read rows in which what prompts begin with in common stands once."""
        row, T, done = 0, trees.ids.shape[1], done.copy()
        while row < len(trees):
            n = min(len(trees) - row, max(1, self.max_tokens // T))
            rows = slice(row, row + n)
            if done[(trees.row >= rows.start) & (trees.row < rows.stop)].all():
                row += n
                continue
            batch = self._attempt(partial(self._read_trees, trees, rows, names), n * T)
            if batch is not None:
                row += n
                done[batch.which] = True
                yield batch
            elif n == 1:
                yield from self._plainly(prompts, names, done)
                return

    def _attempt(self, read: Callable[[], Batch], n_tokens: int) -> Batch | None:
        """Read a batch; where the memory does not hold it, halve what is read at a time."""
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

    def _trees(self, prompts: Prompts) -> Trees | None:
        """Return the prompts as trees, where that saves work and changes no state.

        A token of a tree looks at its ancestors alone, at the position that it has in its prompt.
        A model that makes its positions or its attention in another way (by ALiBi, by recurrence,
        in a window narrower than the longest prompt) then gives other states, and is run plainly.
        That is tried: in the row of the longest prompt, and in the one of the most prompts. In fp32
        alone, where rounding hides nothing.
        """
        dtype = next(self.model.parameters()).dtype
        if prompts.begin is not None or dtype != torch.float32 or len(prompts) == 0:
            return None
        trees = token_trees(prompts)
        n_tokens = int((prompts.position + 1).sum())
        if "position_ids" not in self._accepts or trees.ids.size > WORTH_SHARING * n_tokens:
            return None
        if trees.ids.shape[1] > self.max_tokens:
            return None
        longest = int(prompts.position.argmax())
        for row in {int(trees.row[longest]), int(np.bincount(trees.row).argmax())}:
            which = np.flatnonzero(trees.row == row)
            which = np.union1d(which[:CHECKED], which[which == longest])
            if not self._same(prompts, trees, row, which):
                return None
        return trees

    def _same(self, prompts: Prompts, trees: Trees, row: int, which: Ints) -> bool:
        """Say whether some prompts of a row have the states there that they have alone."""
        last = self.names[-1]
        try:
            batch = self._read_trees(trees, slice(row, row + 1), [last])
            plain = self._read(prompts, which, [last]).states[last]
        except Exception:  # of any of the ways in which a model does not take a mask of its own
            return False
        shared = batch.states[last][np.searchsorted(batch.which, which)]
        apart = np.linalg.norm(shared - plain, axis=1)
        return bool((apart <= TOLERANCE * np.linalg.norm(plain, axis=1)).all())

    def weights_hash(self) -> str:
        """Return the SHA-256 of the weights by name, whatever files they came in."""
        found = hashlib.sha256()
        for name in sorted(name for name, _ in self.model.named_parameters()):
            within, _, its = name.rpartition(".")
            module = self.model.get_submodule(within)
            with _at_hand(module):
                weight = getattr(module, its)
                found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
                plain = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
                found.update(memoryview(plain.numpy()))
        return found.hexdigest()

    def _read(self, prompts: Prompts, which: Ints, names: Sequence[str]) -> Batch:
        """Run the model on some prompts, padded at the end to the longest of them."""
        position = self._tensor(prompts.position[which])
        T = int(position.max()) + 1
        columns, row = (torch.arange(n, device=self.device) for n in (T, len(which)))
        real = columns <= position[:, None]  # (b, T)
        span = real
        if prompts.begin is not None:
            span = real & (columns >= self._tensor(prompts.begin[which])[:, None])

        def at_position(state: torch.Tensor) -> torch.Tensor:
            return state[row.to(state.device), position.to(state.device)]

        def mean(state: torch.Tensor) -> torch.Tensor:
            its = span.to(state.device)
            return (state.float() * its[..., None]).sum(dim=1) / its.sum(dim=1)[:, None]

        said = {} if bool(real.all()) else {"attention_mask": real.long()}
        pick = at_position if prompts.begin is None else mean
        ids = self._tensor(prompts.ids[which, :T])
        return self._run(which, names, ids, said, pick, at_position)

    def _read_trees(self, trees: Trees, rows: slice, names: Sequence[str]) -> Batch:
        """Run the model on some rows that are trees."""
        which = np.flatnonzero((trees.row >= rows.start) & (trees.row < rows.stop))
        row, slot = self._tensor(trees.row[which] - rows.start), self._tensor(trees.slot[which])
        said = {
            "attention_mask": tree_bias(self._tensor(trees.parent[rows])),
            "position_ids": self._tensor(trees.depth[rows]),
        }

        def at_slot(state: torch.Tensor) -> torch.Tensor:
            return state[row.to(state.device), slot.to(state.device)]

        return self._run(which, names, self._tensor(trees.ids[rows]), said, at_slot, at_slot)

    @torch.inference_mode()
    def _run(
        self,
        which: Ints,
        names: Sequence[str],
        ids: torch.Tensor,
        said: dict[str, torch.Tensor],
        pick: Callable[[torch.Tensor], torch.Tensor],
        pick_last: Callable[[torch.Tensor], torch.Tensor],
    ) -> Batch:
        found: dict[str, Floats] = {}

        def keep(name: str, state: torch.Tensor) -> None:
            found[name] = pick(state).float().cpu().numpy()

        with hooked({name: self._points[name] for name in names}, keep):
            last = pick_last(self._forward(ids, **said))
        if self._base is self.model:  # these are the logits
            answer = last.argmax(dim=-1)
        else:
            head = self.model.get_output_embeddings()
            parts = torch.split(last.to(head.weight.dtype), HEAD_ROWS)
            answer = torch.cat([head(part).argmax(dim=-1) for part in parts])
        return Batch(which, {name: found[name] for name in names}, answer.cpu().numpy())

    def _forward(self, ids: torch.Tensor, **said: torch.Tensor) -> torch.Tensor:
        """Return what the network below the head ends with, (B, T, D)."""
        every: dict[str, Any] = {"use_cache": False, "return_dict": True, **said}
        out = self._base(ids, **{k: v for k, v in every.items() if k in self._accepts})
        return out[0]  # type: ignore[no-any-return]

    def _tensor(self, array: Ints) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    @torch.inference_mode()
    def _add_final_norm(self, around: Any) -> None:
        """Add what is called first after the last block, where it is a norm."""
        modules = dict(around.named_children())
        called: list[tuple[str, torch.Size]] = []
        last = list(self._points)[-1]
        points = {name: Point(module) for name, module in modules.items()}
        # a list of blocks is never called itself
        points |= {last: self._points[last]}
        with hooked(points, lambda name, state: called.append((name, state.shape))):
            ids = self._two_rows()
            self._forward(ids)
        after = [name for name, _ in called].index(last) + 1 if called else 0
        for name, shape in called[after : after + 1]:
            if shape[:-1] == ids.shape and "norm" in type(modules[name]).__name__.lower():
                self._points["ln_f"] = Point(modules[name])

    def _two_rows(self) -> torch.Tensor:
        return torch.tensor([[1, 2, 3, 1], [1, 2, 3, 2]], device=self.device)

    @torch.inference_mode()
    def _check(self) -> bool:
        """Hold the model to being causal, and its states to one of each token.

        Returns whether the first block reads the word embedding as it is.
        """
        ids = self._two_rows()
        states: dict[str, torch.Tensor] = {}
        called: list[str] = []

        def keep(name: str, state: torch.Tensor) -> None:
            called.append(name)
            states[name] = state.float()

        with hooked(self._points, keep):
            last = self._forward(ids).float()
        kind = type(self.model).__name__
        if called != [*self._points]:
            raise InputError(f"{kind}: its blocks are not called one after another: {called}")
        for name, state in states.items():
            if state.shape[:-1] != ids.shape:
                raise InputError(
                    f"{kind}: {name} gives a state of shape {tuple(state.shape)}, not one a token"
                )
        dtype = next(self.model.parameters()).dtype
        if not last.isfinite().all():
            raise InputError(f"{kind}: its states are not finite in {str(dtype).split('.')[1]}")
        before = last[:, :-1]
        apart = float((before[0] - before[1]).norm())
        eps = torch.finfo(dtype).eps
        if not apart <= 8 * eps * float(before.norm()):
            raise InputError(
                f"{kind} is no causal language model: what follows a token changes its state"
            )
        if not self._head_is_all(ids, last):
            self._base = self.model
            self._accepts = set(inspect.signature(self._base.forward).parameters)
        a, b = states["wte"], states["embed"]
        return a.shape == b.shape and torch.equal(a, b)

    def _head_is_all(self, ids: torch.Tensor, last: torch.Tensor) -> bool:
        """Say whether the head alone puts the tokens in the order of the model's own logits.

        These may be scaled or capped besides, which changes no order.
        """
        head = self.model.get_output_embeddings()
        if self._base is self.model or head is None:
            return False
        own = self.model(ids, use_cache=False).logits.float()  # (2, 4, V)
        ours = head(last.to(head.weight.dtype)).float()
        ours = ours.gather(-1, own.argsort(dim=-1).to(ours.device))
        eps = torch.finfo(head.weight.dtype).eps
        return bool((ours.diff(dim=-1) >= -32 * eps * ours.abs().max()).all())


def _at_hand(module: torch.nn.Module) -> AbstractContextManager[None]:
    """Bring the weights of a module in that lie on the disk, or in the memory beside a GPU."""
    if not hasattr(module, "_hf_hook"):
        return nullcontext()
    from accelerate.utils import align_module_device

    return align_module_device(module)  # type: ignore[no-any-return]


def _cleared(prompts: Prompts) -> Prompts:
    """Return the prompts with token 0 behind their positions, where anything stands, also none."""
    return replace(prompts, ids=np.where(_inside(prompts), prompts.ids, 0))


def _inside(prompts: Prompts) -> Bools:
    """Say which tokens stand up to the position that is measured, (N, T)."""
    return np.arange(prompts.ids.shape[1]) <= prompts.position[:, None]


def _context(config: Any) -> int:
    """Return how many tokens the model reads at most; 0 where nothing says so."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 0

"""Make a `GPT2` a Subject."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasklens.data.dataset import UNSEEN, Dataset
from tasklens.data.token_prompts import Prompts, join
from tasklens.models.devices import default_max_tokens
from tasklens.models.gpt2 import GPT2, branch_names, check_length, state_names
from tasklens.models.passes import run_passes
from tasklens.models.prefix_trees import Trees, token_trees
from tasklens.models.subject import Harvest


class GPT2Subject:
    """A `GPT2` as a Subject; prefixes that prompts share are computed once.

    Parameters
    ----------
    model : GPT2
        It is run in fp32 and without dropout, whatever training used.
    step : int
        Training step of the model.
    max_tokens : int
        Tokens of a forward pass; 0: `default_max_tokens` of the device. It changes the hidden
        states by rounding only.

    Examples
    --------
    >>> import tasklens as tl
    >>> subject = tl.GPT2Subject(tl.load_checkpoint("runs/smoke/checkpoints/step-00000016"), step=0)
    >>> subject.names
    ('wte', 'embed', 'block1', 'block2', 'ln_f')
    """

    def __init__(self, model: GPT2, step: int = 0, max_tokens: int = 0) -> None:
        self.model, self.step = model, step
        self.names = state_names(model.settings.n_layer)
        self.branches = branch_names(model.settings.n_layer)
        self.max_tokens = max_tokens or default_max_tokens(model.device)

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states, float32 (N, n_embd) each, and the answers."""
        (harvest,) = self.harvest_at(prompts, [prompts], names)
        return harvest

    def harvest_at(
        self, prompts: Prompts, at: Sequence[Prompts], names: Sequence[str]
    ) -> list[Harvest]:
        """Return the named states at several positions of the same prompts, read once.

        ``at`` has the prompts with each of the positions, none of which is beyond that of
        ``prompts``. The answers follow the position of ``prompts``. What is read, and so every bit
        of a state, does not depend on the other positions.
        """
        check_length(self.model.n_positions, int(prompts.position.max()) + 1)
        N, D = len(prompts), self.model.settings.n_embd
        answer = np.empty(N, dtype=np.int64)
        results = [
            Harvest({name: np.empty((N, D), dtype=np.float32) for name in names}, answer)
            for _ in at
        ]
        trees = token_trees(prompts)
        size = max(1, self.max_tokens // trees.ids.shape[1])
        read = partial(self._read, trees, size, list(zip(at, results, strict=True)), tuple(names))
        starts = range(0, len(trees), size)
        run_passes(self.model, read, starts)
        return results

    @torch.inference_mode()
    def _read(
        self,
        trees: Trees,
        size: int,
        results: Sequence[tuple[Prompts, Harvest]],
        names: tuple[str, ...],
        start: int,
    ) -> None:
        """Run the model on ``size`` rows from ``start`` on; store the states of their prompts."""
        rows = slice(start, start + size)
        device = self.model.device
        ids, depth, parent = (
            torch.from_numpy(a[rows]).to(device) for a in (trees.ids, trees.depth, trees.parent)
        )
        logits, kept = self.model.forward_trees(ids, depth, parent, names)
        index = trees.prompts_in(rows)
        row = torch.from_numpy(trees.row[index] - start).to(device)
        for prompts, result in results:
            pick = _picker(trees, prompts, index, row)
            for name, state in kept.items():
                result.states[name][index] = pick(state).cpu().numpy()
        slot = torch.from_numpy(trees.slot[index]).to(device)
        results[0][1].answer[index] = logits[row, slot].argmax(dim=-1).cpu().numpy()


def _picker(
    trees: Trees, prompts: Prompts, index: NDArray[np.int64], row: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return a function that picks, of a state (B, T, D), that of some prompts, (b, D)."""
    last = prompts.position[index]
    if prompts.begin is None:
        slot = torch.from_numpy(trees.slots[index, last]).to(row.device)
        return lambda state: state[row, slot]
    first = prompts.begin[index]
    column = first[:, None] + np.arange(int((last - first).max()) + 1)  # (b, longest span)
    inside = torch.from_numpy(column <= last[:, None]).to(row.device)
    slots = np.take_along_axis(trees.slots[index], np.minimum(column, last[:, None]), axis=1)
    at = torch.from_numpy(slots).to(row.device)

    def mean(state: Tensor) -> Tensor:
        spans = state[row[:, None], at]  # (b, longest span, D)
        return (spans * inside[..., None]).sum(dim=1) / inside.sum(dim=1)[:, None]

    return mean


def harvest_measured(model: GPT2, dataset: Dataset, positions: Sequence[str]) -> dict[str, Harvest]:
    """Return the hidden states of all measured instances by position, and the answers after x."""
    subject = GPT2Subject(model)
    # All at once: the splits share instructions, and much of these is computed once. Those of
    # unseen splits come after them, so that no bit of the others depends on them.
    known = [split for split in dataset.measured if split not in UNSEEN]
    unseen = [split for split in dataset.measured if split in UNSEEN]
    harvests = []
    for splits in filter(None, (known, unseen)):
        at = [join([dataset.prompts(split, p) for split in splits]) for p in positions]
        read = join([dataset.prompts(split) for split in splits])
        harvests.append(subject.harvest_at(read, at, subject.names))
    return {
        position: Harvest(
            {name: np.concatenate([each.states[name] for each in parts]) for name in subject.names},
            np.concatenate([each.answer for each in parts]),
        )
        for position, *parts in zip(positions, *harvests, strict=True)
    }

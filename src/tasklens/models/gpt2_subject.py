"""Make a `GPT2` a Subject."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import default_max_tokens
from tasklens.models.gpt2 import GPT2, check_length, state_names
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
        self.max_tokens = max_tokens or default_max_tokens(model.device)

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states, float32 (N, n_embd) each, and the answers."""
        check_length(self.model.n_positions, int(prompts.position.max()) + 1)
        if prompts.begin is not None:
            raise InputError("means over a span are harvested from a HuggingFaceSubject")
        N, D = len(prompts), self.model.settings.n_embd
        states = {name: np.empty((N, D), dtype=np.float32) for name in names}
        result = Harvest(states, np.empty(N, dtype=np.int64))
        trees = token_trees(prompts)
        size = max(1, self.max_tokens // trees.ids.shape[1])
        read = partial(self._read, trees, size, result)
        starts = range(0, len(trees), size)
        run_passes(self.model, read, starts)
        return result

    @torch.inference_mode()
    def _read(self, trees: Trees, size: int, result: Harvest, start: int) -> None:
        """Run the model on ``size`` rows from ``start`` on; store the states of their prompts."""
        rows = slice(start, start + size)
        device = self.model.device
        ids, depth, parent = (
            torch.from_numpy(a[rows]).to(device) for a in (trees.ids, trees.depth, trees.parent)
        )
        logits, kept = self.model.forward_trees(ids, depth, parent, tuple(result.states))
        index = trees.prompts_in(rows)
        row = torch.from_numpy(trees.row[index] - start).to(device)
        slot = torch.from_numpy(trees.slot[index]).to(device)
        for name, state in kept.items():
            result.states[name][index] = state[row, slot].cpu().numpy()
        result.answer[index] = logits[row, slot].argmax(dim=-1).cpu().numpy()

"""The plan of a model run: what it would measure, as ``--dry-run`` prints it."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.core.progress import warn
from tasklens.core.text import visible
from tasklens.data.labelled_prompts import read_prompts
from tasklens.data.tokenize import shown, tokenize
from tasklens.models.checkpoint_series import step_notes
from tasklens.runs.model_run import checkpoints_of
from tasklens.runs.settings import ModelRunSettings
from tasklens.runs.stage_states import tokenizer_of


class ModelPlan(NamedTuple):
    """Plan of a model run: what it would measure."""

    models: dict[int, str]
    """The name of each model by step."""
    n_prompts: int
    labels: tuple[str, ...]
    splits: dict[str, int]
    """The number of prompts of each split."""
    n_tokens: npt.NDArray[np.int64]
    """Tokens up to the measured one, that one included, of each prompt, (N,)."""
    special_tokens: str
    """The special tokens that are added to the prompts."""
    n_known: int | None
    """How many prompts are followed by the first token of a known output; None without outputs."""
    over: str
    """Over what the hidden states are taken: "last" or "mean"."""
    examples: str
    """Some prompts, what is measured in brackets."""

    def document(self) -> dict[str, Any]:
        """Return the plan as what ``--json`` prints."""
        tokens = {"min": self.n_tokens.min(), "max": self.n_tokens.max()}
        return {
            "models": [{"step": step, "name": name} for step, name in self.models.items()],
            "prompts": self.n_prompts,
            "labels": self.labels,
            "splits": self.splits,
            "tokens": tokens | {"mean": float(np.mean(self.n_tokens))},
            "special tokens": self.special_tokens,
            "known outputs": self.n_known,
            "over": self.over,
            "examples": self.examples.splitlines(),
        }

    def text(self) -> str:
        """Return the plan as ``--dry-run`` prints it."""
        lines = ["models:"]
        lines += [f"  step {step}: {name}" for step, name in self.models.items()]
        lines.append(f"prompts: {self.n_prompts:,}, with {len(self.labels)} labels")
        lines += [f"  {split}: {n:,}" for split, n in self.splits.items()]
        lines.append(
            f"tokens up to the measured one: {self.n_tokens.min()} to {self.n_tokens.max()}, "
            f"{np.mean(self.n_tokens):.1f} on average"
        )
        lines.append(f"special tokens: {self.special_tokens}")
        if self.n_known is not None:
            lines.append(f"the first token of the output follows it in {self.n_known:,} prompts")
        measured = "the mean over" if self.over == "mean" else "measured is"
        lines.append(f"{measured} what stands in [[ ]]; after -> what should follow:")
        return "\n".join(map(visible, lines)) + "\n" + self.examples


def describe(settings: ModelRunSettings) -> ModelPlan:
    """Return the plan of a model run; no model is loaded, nothing is written."""
    checkpoints = checkpoints_of(settings)
    table = read_prompts(settings.prompts, seed=settings.seed)
    tokenizer = tokenizer_of(settings, checkpoints[0])
    tokens = tokenize(table, tokenizer, settings.position)
    for note in (*step_notes(checkpoints), *tokens.notes, *tokens.answer_notes):
        warn(note)
    known = None if table.output is None else int(np.count_nonzero(tokens.target[:, 0] >= 0))
    return ModelPlan(
        models={c.step: c.name for c in checkpoints},
        n_prompts=len(table),
        labels=tuple(sorted(set(table.label))),
        splits={split: rows.stop - rows.start for split, rows in table.splits.items()},
        n_tokens=tokens.prompts.position + 1,
        special_tokens=tokens.special_tokens,
        n_known=known,
        over=settings.position.over,
        examples=shown(table, tokens, tokenizer),
    )

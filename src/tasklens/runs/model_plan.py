"""The plan of a model run: what it would measure, as ``--dry-run`` prints it."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.core.progress import warn
from tasklens.core.text import visible
from tasklens.data.names import UNTRAINED
from tasklens.data.tokenize import shown
from tasklens.models.checkpoint_series import Checkpoint, step_notes
from tasklens.models.gguf_files import stored_as
from tasklens.models.hub_series import check_revisions
from tasklens.runs.few_shot import prompts_of
from tasklens.runs.model_run import checkpoints_of
from tasklens.runs.opened_model import tokenize_at_all, tokenizer_of
from tasklens.runs.settings import ModelRunSettings


class PositionPlan(NamedTuple):
    """Plan of what would be measured at one position."""

    n_tokens: npt.NDArray[np.int64]
    """Tokens up to the measured one, that one included, of each prompt, (N,)."""
    n_known: int | None
    """How many prompts are followed by the first token of a known output; None without outputs."""
    is_mean: bool
    """Whether the mean over the part is measured, instead of its last token."""
    examples: str
    """Some prompts, what is measured in brackets."""

    def document(self) -> dict[str, Any]:
        """Return the plan as what ``--json`` prints."""
        tokens = {"min": self.n_tokens.min(), "max": self.n_tokens.max()}
        return {
            "tokens": tokens | {"mean": float(np.mean(self.n_tokens))},
            "known outputs": self.n_known,
            "over": "mean" if self.is_mean else "last",
            "examples": self.examples.splitlines(),
        }

    def lines(self) -> list[str]:
        """Return the plan as ``--dry-run`` prints it."""
        lines = [
            f"tokens up to the measured one: {self.n_tokens.min()} to {self.n_tokens.max()}, "
            f"{np.mean(self.n_tokens):.1f} on average"
        ]
        if self.n_known is not None:
            lines.append(f"the first token of the output is known in {self.n_known:,} prompts")
        measured = "the mean over" if self.is_mean else "measured is"
        lines.append(f"{measured} what stands in [[ ]]; after -> what should follow:")
        return [*lines, *self.examples.splitlines()]


class ModelPlan(NamedTuple):
    """Plan of a model run: what it would measure."""

    models: dict[int, str]
    """The name of each model by step, with how a GGUF file stores its weights."""
    stages: dict[int, str]
    """The name of each stage by step; empty for a single model or a series."""
    n_prompts: int
    labels: tuple[str, ...]
    splits: dict[str, int]
    """The number of prompts of each split."""
    special_tokens: str
    """The special tokens that are added to the prompts."""
    positions: dict[str, PositionPlan]
    rendered: str | None
    """The first text, if a chat template has written it."""

    def document(self) -> dict[str, Any]:
        """Return the plan as what ``--json`` prints."""
        return {
            "models": [
                {"step": step, "name": name, "stage": self.stages.get(step)}
                for step, name in self.models.items()
            ],
            "prompts": self.n_prompts,
            "labels": self.labels,
            "splits": self.splits,
            "special tokens": self.special_tokens,
            "rendered": self.rendered,
            "positions": [{"position": p, **each.document()} for p, each in self.positions.items()],
        }

    def text(self) -> str:
        """Return the plan as ``--dry-run`` prints it."""
        lines = ["models:"]
        called = {step: self.stages.get(step, f"step {step}") for step in self.models}
        lines += [f"  {called[step]}: {name}" for step, name in self.models.items()]
        lines.append(f"prompts: {self.n_prompts:,}, with {len(self.labels)} labels")
        lines += [f"  {split}: {n:,}" for split, n in self.splits.items()]
        lines.append(f"special tokens: {self.special_tokens}")
        if self.rendered is not None:
            lines.append(f"the chat template writes: {self.rendered!r}")
        for position, plan in self.positions.items():
            lines += [f"position {position}", *plan.lines()]
        return "\n".join(map(visible, lines)) + "\n"


def describe(settings: ModelRunSettings) -> ModelPlan:
    """Return the plan of a model run; no model is loaded, nothing is written."""
    checkpoints = checkpoints_of(settings)
    table = prompts_of(settings, checkpoints[0])
    odd = [*step_notes(checkpoints), *check_revisions(checkpoints)]
    tokenizer = tokenizer_of(settings, checkpoints[0])
    tokens = tokenize_at_all(settings, table, tokenizer, settings.states.max_length)
    read = [note for each in tokens.values() for note in (*each.notes, *each.answer_notes)]
    for note in dict.fromkeys([*odd, *read]):
        warn(note)
    written = next(iter(tokens.values())).rendered
    n_known = {
        position: None if table.output is None else int(np.count_nonzero(each.target[:, 0] >= 0))
        for position, each in tokens.items()
    }
    return ModelPlan(
        models={c.step: _name(c, settings.subject.dtype) for c in checkpoints},
        stages={
            c.step: UNTRAINED if c.untrained else c.called
            for c in checkpoints
            if settings.subject.names
        },
        n_prompts=len(table),
        labels=tuple(sorted(set(table.label))),
        splits={split: rows.stop - rows.start for split, rows in table.splits.items()},
        special_tokens=next(iter(tokens.values())).special_tokens,
        positions={
            position: PositionPlan(
                n_tokens=each.prompts.position + 1,
                n_known=n_known[position],
                is_mean=each.prompts.begin is not None,
                examples=shown(table, each, tokenizer),
            )
            for position, each in tokens.items()
        },
        rendered=None if written is None else written.text[0],
    )


def _name(checkpoint: Checkpoint, dtype: str) -> str:
    stored = stored_as(checkpoint.directory, dtype)
    return f"{checkpoint.name} ({stored})" if stored else checkpoint.name

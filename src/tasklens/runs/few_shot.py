"""Read the prompts of a model run, or make few-shot prompts for its tokenizer."""

from typing import Any

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.files import sha256
from tasklens.data.labelled_prompts import LabelledPrompts, codes, read_prompts
from tasklens.data.prompt_drawing import PromptSetSettings
from tasklens.data.prompt_families import content_of_families
from tasklens.data.prompt_readers import FEW_SHOT, content_of
from tasklens.data.prompt_set import make_prompts
from tasklens.models.checkpoint_series import Checkpoint
from tasklens.runs.run_columns import check_columns
from tasklens.runs.settings import ModelRunSettings

#: Fewer than a file of prompts has by default: a model that was named alone is measured soon.
SETTINGS = PromptSetSettings(contexts=6, inputs=6, hold_out_share=1 / 3)


def prompts_of(settings: ModelRunSettings, first: Checkpoint) -> LabelledPrompts:
    """Return the prompts that the settings name, given the first model.

    Raises
    ------
    InputError
        As `read_prompts`. If few-shot prompts are asked for, and the tokenizer does not tell enough
        answers apart. If a column that is taken out, or is crossed with the label, cannot be.
    """
    table = _read(settings, first)
    check_prompts(settings, table)
    return table


def check_prompts(settings: ModelRunSettings, table: LabelledPrompts) -> None:
    """Raise InputError if a column that is taken out, or crossed with the label, cannot be."""
    task = np.array(codes(table.label))
    family = None if table.family is None else np.array(codes(table.family))
    check_columns(table.columns, table.splits, task, family, settings.measure)


def _read(settings: ModelRunSettings, first: Checkpoint) -> LabelledPrompts:
    if FEW_SHOT not in settings.prompts.files:
        return read_prompts(settings.prompts, seed=settings.seed)
    if len(settings.prompts.files) > 1:
        raise InputError(f"{FEW_SHOT} has splits of its own: name no other file of prompts")
    from tasklens.runs.opened_model import tokenizer_of

    return few_shot_prompts(settings, tokenizer_of(settings, first), first.name)


def few_shot_prompts(settings: ModelRunSettings, tokenizer: Any, model: str) -> LabelledPrompts:
    """Return few-shot prompts for a tokenizer; InputError, which names the model, as above."""
    try:
        drawn = make_prompts("icl", tokenizer, SETTINGS, settings.seed)
    except InputError as error:
        raise InputError(
            f"{model}: no few-shot prompts can be made for its tokenizer: {error}; or name "
            "prompts with --prompts, such as tasks-in-words"
        ) from error
    given = {name: getattr(settings.prompts, name) for name in settings.prompts.model_fields_set}
    return read_prompts(drawn.rows, seed=settings.seed, **given)


def hashes_of_prompts(settings: ModelRunSettings, first: Checkpoint) -> dict[str, str]:
    """Return the SHA-256 of each file of prompts, or of what few-shot prompts are made of."""
    from tasklens.runs.opened_model import tokenizer_hash, tokenizer_of

    if FEW_SHOT not in settings.prompts.files:
        return {name: sha256(content_of(name)) for name in settings.prompts.files}
    tokenizer = tokenizer_hash(tokenizer_of(settings, first))
    return {FEW_SHOT: sha256(tokenizer.encode() + content_of_families())}

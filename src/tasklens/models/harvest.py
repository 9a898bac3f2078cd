"""Harvest hidden states of any model that tasklens reads, at the measured position of prompts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch

from tasklens.core.errors import InputError
from tasklens.core.progress import warn
from tasklens.data.labelled_prompts import LabelledPrompts, read_prompts
from tasklens.data.prompt_readers import PromptSource
from tasklens.data.special_tokens import SpecialTokens
from tasklens.data.token_prompts import Prompts
from tasklens.data.tokenize import instances_of_prompts, tokenize
from tasklens.models.checkpoint_series import step_of
from tasklens.models.checkpoints import load_checkpoint
from tasklens.models.gpt2 import GPT2
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.hf_loading import load_subject
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.model_files import try_object
from tasklens.models.subject import Harvest, Subject, states_among

Model: TypeAlias = Subject | torch.nn.Module | str | Path
"""A `GPT2`, a causal language model of transformers, a directory of either, or a Subject."""


def harvest(
    model: Model,
    prompts: "Prompts | LabelledPrompts | PromptSource",
    names: Sequence[str] | None = None,
    *,
    tokenizer: Any = None,
    position: str = "",
    special_tokens: SpecialTokens = "auto",
    generation_prompt: bool = True,
    split: str = "",
) -> Harvest:
    """Harvest hidden states of a model at the measured position of prompts.

    Parameters
    ----------
    model : GPT2, transformers.PreTrainedModel, path or Subject
        A path is the directory of a model, such as a checkpoint of a run. The model is run without
        dropout, and its mode is restored.
    prompts : Prompts or labelled texts
        Token rows, such as ``dataset["val_subset"]``, or ``dataset["val_subset",
        "instruction_mean"]`` for another position; or texts with labels, in any form that
        `tasklens.read_prompts` takes.
    names : sequence of str, optional
        Names of the hidden states to return; by default all of ``subject.names``. ``attn3`` and
        ``mlp3`` are what the branches of block 3 add to the residual stream; ``attn``, ``mlp`` and
        ``block`` are those of all blocks. Only these are kept in memory.
    tokenizer : transformers tokenizer, optional
        Needed for texts, unless the model's directory has one.
    position : str
        For texts, the measured position: one of those of `ModelStateSettings`, such as
        ``instruction_mean``. By default the last token of the column ``input``, or of the text if
        there is no such column. Token rows have theirs.
    special_tokens : {"auto", "add", "none"}
        For texts, the special tokens that the tokenizer adds: see `ModelStateSettings`.
    generation_prompt : bool
        For messages, whether the chat template writes how the answer begins.
    split : str
        For labelled texts with several splits, the split to harvest.

    Returns
    -------
    Harvest
        Arrays of shape (N, D), float32, by name; the answers (N,); the split, the position and the
        step; and the instances.

    Raises
    ------
    InputError
        If ``model`` is no model, or has no state of some name. If texts have no tokenizer, or token
        rows are given a position. If a prompt is longer than the context.

    Examples
    --------
    >>> import tasklens as tl
    >>> dataset = tl.load_run("runs/smoke").dataset
    >>> model = tl.make_model(dataset, n_layer=2, n_head=2, n_embd=32)
    >>> harvest = tl.harvest(model, dataset["val_subset"])
    >>> harvest.states["block2"].shape
    (40, 32)
    """
    tokens = isinstance(prompts, Prompts)
    subject = as_subject(model, texts=not tokens)
    if not isinstance(prompts, Prompts):
        tokenizer = tokenizer or getattr(subject, "tokenizer", None)
        prompts = _prompts_of_split(
            prompts, tokenizer, position, special_tokens, generation_prompt, split
        )
    elif position:
        raise InputError(
            f"position = {position!r}: token rows have theirs, {prompts.position_name!r}; take "
            "those of a dataset with dataset[split, position]"
        )
    names = states_among(subject, ["all"] if names is None else names)
    return replace(
        subject.harvest(prompts, names),
        split=prompts.split,
        step=subject.step,
        position=prompts.position_name,
        instances=prompts.instances,
    )


def as_subject(model: Model, *, texts: bool = False) -> Subject:
    """Return a model as a Subject; InputError if it is no model.

    A checkpoint of tasklens becomes a `GPT2Subject`, unless the Subject has to read texts.
    """
    if isinstance(model, str | Path):
        config = _tasklens_config(Path(model))
        if texts or config is None:
            return load_subject(model, step=step_of(Path(model)) or 0)
        return GPT2Subject(load_checkpoint(model), step=config.get("step", 0))
    if isinstance(model, GPT2):
        return GPT2Subject(model)
    if isinstance(model, torch.nn.Module) and hasattr(model, "config"):
        return HuggingFaceSubject(model)
    if hasattr(model, "harvest") and hasattr(model, "names"):
        return cast(Subject, model)
    raise InputError(
        f"{type(model).__name__} is not a model: should be a GPT2 of tasklens.make_model, a "
        "causal language model of transformers, or the path of a model"
    )


def _tasklens_config(directory: Path) -> dict[str, Any] | None:
    """Return the metadata in the ``config.json`` of tasklens' checkpoints; None for others."""
    ours = try_object(directory / "config.json").get("tasklens")
    return ours if isinstance(ours, dict) else None  # `load_subject` reports what is wrong


def _prompts_of_split(
    source: "LabelledPrompts | PromptSource",
    tokenizer: Any,
    position: str,
    special_tokens: SpecialTokens,
    generation_prompt: bool,
    split: str,
) -> Prompts:
    """Return the token rows of one split of labelled texts, with its instances."""
    table = source if isinstance(source, LabelledPrompts) else read_prompts(source)
    if not split and len(table.splits) == 1:
        (split,) = table.splits
    if split not in table.splits:
        raise InputError(f"split = {split!r}: should be one of {', '.join(table.splits)}")
    if tokenizer is None:
        raise InputError("texts need a tokenizer; give the model's own: tokenizer=...")
    tokens = tokenize(
        table,
        tokenizer,
        position,
        special_tokens=special_tokens,
        generation_prompt=generation_prompt,
    )
    for note in tokens.notes:
        warn(note)
    rows, prompts = table.splits[split], tokens.prompts
    return Prompts(
        prompts.ids[rows],
        prompts.position[rows],
        None if prompts.begin is None else prompts.begin[rows],
        split,
        prompts.position_name,
        instances_of_prompts(table, tokens, split),
        None if prompts.answer_at is None else prompts.answer_at[rows],
    )

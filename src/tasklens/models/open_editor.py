"""Give a model prompts whose hidden states can be edited."""

from typing import Any

from tasklens.core.errors import InputError
from tasklens.data.edited_prompts import EditedPrompts, Ints
from tasklens.models.gpt2_editor import GPT2Editor
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import as_subject
from tasklens.models.hf_editor import HuggingFaceEditor
from tasklens.models.hf_subject import HuggingFaceSubject


def open_editor(
    model: Any, prompts: EditedPrompts, tokens: Ints, max_tokens: int = 0
) -> GPT2Editor | HuggingFaceEditor:
    """Return an Editor (see `tasklens.interventions.editor`) of a model with N prompts.

    Parameters
    ----------
    model : GPT2, Subject, transformers.PreTrainedModel or path
        Whatever `tasklens.harvest` takes.
    prompts : EditedPrompts
    tokens : int64 (K, L)
        Answers as token sequences, with -1 after the end of each.
    max_tokens : int
        Tokens of a forward pass; 0: the default of the Editor.

    Raises
    ------
    InputError
        If the model has no Editor, or a prompt with an answer is longer than its context.
    """
    subject = as_subject(model)
    if isinstance(subject, GPT2Subject):
        return GPT2Editor(subject.model, prompts, tokens, max_tokens)
    if isinstance(subject, HuggingFaceSubject):
        return HuggingFaceEditor(subject, prompts, tokens, max_tokens)
    raise InputError(
        f"the hidden states of {type(subject).__name__} cannot be edited: should be a GPT2 or a "
        "causal language model of transformers"
    )

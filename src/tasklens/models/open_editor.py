"""Open any model that tasklens reads as an Editor, whose hidden states can be changed."""

from typing import Any

from tasklens.data.edited_prompts import EditedPrompts, Ints
from tasklens.models.gpt2_editor import GPT2Editor


def open_editor(
    model: Any, prompts: EditedPrompts, tokens: Ints, max_tokens: int = 0
) -> GPT2Editor:
    """Stub."""
    return GPT2Editor(model, prompts, tokens, max_tokens)

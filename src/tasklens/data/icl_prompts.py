"""Return prompts that ask a model something as a DataFrame, from Python."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasklens.core.settings import with_keywords
from tasklens.data.prompt_drawing import PromptSetSettings
from tasklens.data.prompt_forms import Kind
from tasklens.data.prompt_set import DEFAULTS, make_prompts
from tasklens.data.token_rows import Tokenizer

if TYPE_CHECKING:
    import pandas as pd


def icl_prompts(
    tokenizer: Tokenizer | None = None,
    settings: PromptSetSettings | None = None,
    *,
    seed: int = 0,
    **changes: Any,
) -> "pd.DataFrame":
    """Make few-shot prompts: examples of a task, then an input whose answer should follow.

    Parameters
    ----------
    tokenizer : transformers tokenizer, optional
        With it, inputs are left out of which two answers begin with the same token, so that the
        first token tells the tasks apart.
    settings : PromptSetSettings, optional
        What the prompts ask for.
    seed : int
        Root seed of what is drawn: the inputs, and the examples of each context.
    **changes
        Fields of `PromptSetSettings`, such as ``shots=3``, which change those given.

    Returns
    -------
    DataFrame
        A row per prompt, which `read_prompts` takes: ``text``, ``label`` (the task), ``family``,
        ``input``, ``output``, ``answers`` (by label), ``context``, ``examples``, ``form``,
        ``shots``, ``split``; and the parts ``query`` and ``separator`` of the text as pairs, the
        first character and the end.

    Raises
    ------
    InputError
        For an unknown form, task or family, a broken file of tasks, or a wrong setting. If a family
        has too few inputs whose answers the tokenizer tells apart.

    Examples
    --------
    >>> import tasklens as tl
    >>> prompts = tl.icl_prompts(families=["verbs"], shots=2)
    >>> print(prompts.text[0])
    shake -> shook
    choose -> chose
    speak ->
    """
    return _frame("icl", tokenizer, settings, seed, changes)


def chat_prompts(
    tokenizer: Tokenizer | None = None,
    settings: PromptSetSettings | None = None,
    *,
    seed: int = 0,
    **changes: Any,
) -> "pd.DataFrame":
    """Make prompts for a chat model, as messages that its template writes as text.

    Parameters, errors and the result are those of `icl_prompts`. Instead of ``text`` there is
    ``messages``, a list of ``{"role": ..., "content": ...}``, and ``query`` is the input. By
    default there are no examples, and each form is a context.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.chat_prompts(families=["countries"], forms=["question", "order"]).messages[0]
    [{'role': 'user', 'content': 'Write the capital of Tunisia. Reply with the answer only.'}]
    """
    return _frame("chat", tokenizer, settings, seed, changes)


def plain_prompts(
    tokenizer: Tokenizer | None = None,
    settings: PromptSetSettings | None = None,
    *,
    seed: int = 0,
    **changes: Any,
) -> "pd.DataFrame":
    """Make prompts that name the task in words, such as "The past tense of eat is".

    Parameters, errors and the result are those of `icl_prompts`. By default there are no examples,
    and each form is a context.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.plain_prompts(families=["countries"], forms=["is", "colon"]).text[0]
    'Capital of Nigeria:'
    """
    return _frame("plain", tokenizer, settings, seed, changes)


def _frame(
    kind: Kind,
    tokenizer: Tokenizer | None,
    settings: PromptSetSettings | None,
    seed: int,
    changes: Mapping[str, Any],
) -> "pd.DataFrame":
    import pandas as pd

    (settings,) = with_keywords(changes, settings or DEFAULTS[kind])
    return pd.DataFrame(list(make_prompts(kind, tokenizer, settings, seed).rows))

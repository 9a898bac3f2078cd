"""Ask a model without an edit: what it answers, and which tasks it can do."""

import numpy as np
import numpy.typing as npt

from tasklens.core.text import without_slash
from tasklens.data.counterfactuals import Counterfactuals, of_own
from tasklens.data.edited_prompts import Edited, Ints
from tasklens.interventions.cell import Arrays
from tasklens.interventions.editor import Editor


def unedited_arrays(
    asked: Counterfactuals,
    editor: Editor,
    donors: Editor | None,
    donors_correct: npt.NDArray[np.int8] | None = None,
) -> Arrays:
    """Return what is known of the prompts of a split without an edit, by name.

    That is, behind ``split/position/``: ``index``, ``own``, ``unit``, ``answers`` and ``pairs``, as
    in `Counterfactuals`; ``able``, int8 (N, T), whether the model answers rightly under a task, of
    other tasks in the donor's prompt, or -1 if there is none; ``clean/answer``, int32 (N,), and
    ``clean/likelihood``, float32 (N, T), of the answer under each task. If there are several
    families, ``family``, (T,), is that of each task.

    The donors are asked, unless it is known whether the model is right on each: 1, 0, or -1 if it
    is not known.
    """
    right = of_own(asked.answers, asked.own, -1)
    answer, likelihood = _clean(editor, asked.answers)
    able = np.full(asked.answers.shape, -1, dtype=np.int8)
    row, task = np.nonzero(asked.donor >= 0)
    if donors_correct is not None:
        able[row, task] = donors_correct[asked.donor[row, task]]
    elif donors is not None:
        # A donor has one right answer: those that ask for it share the input and the task.
        expected = np.zeros(len(asked.donors), dtype=np.int64)
        candidates = np.full((len(asked.donors), len(asked.tasks)), -1)
        expected[asked.donor[row, task]] = asked.answers[row, task]
        candidates[asked.donor[row, task]] = asked.answers[row]
        given, _ = _clean(donors, candidates)
        able[row, task] = (given == expected)[asked.donor[row, task]]
    known = np.flatnonzero(asked.own >= 0)
    able[known, asked.own[known]] = (answer == right)[known]
    arrays: Arrays = {
        "index": asked.index,
        "own": asked.own,
        "unit": asked.unit,
        "answers": asked.answers,
        "pairs": asked.pairs.astype(np.uint8),
        "able": able,
        "clean/answer": answer.astype(np.int32),
        "clean/likelihood": likelihood,
    }
    if len(np.unique(asked.family)) > 1:
        arrays["family"] = asked.family
    at = f"{asked.split}/{without_slash(asked.position)}/"
    every: Arrays = {at + name: array for name, array in arrays.items()}
    return {**every, at + "tasks": asked.tasks, at + "tokens": asked.tokens}


def _clean(editor: Editor, candidates: Ints) -> Edited:
    """Return the answers and likelihoods of all prompts without an edit."""
    name = editor.names[-1]
    change = np.zeros_like(editor.states([name])[name])
    return editor.answer(name, np.arange(len(candidates)), change, candidates)

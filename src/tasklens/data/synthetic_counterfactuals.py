"""Make the counterfactual answers of a split of the synthetic dataset, which are exact."""

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.data.counterfactuals import (
    Counterfactuals,
    Fold,
    need_two_tasks,
    pair_notes,
    pairs_of,
    prompts_with_pairs,
)
from tasklens.data.dataset import MEASURED, UNSEEN, Dataset, Split
from tasklens.data.edited_prompts import EditedPrompts, Ints

#: The measured subset from whose states the centroids are computed.
FITTED = next(iter(MEASURED))
#: The measured subset whose tasks have no right answer.
UNSEEN_TASK = "unseen_task_subset"


def counterfactuals_of_dataset(
    dataset: Dataset, split: str, position: str = "input", n: int = 200, *, seed: int = 0
) -> Counterfactuals:
    """Return prompts of a measured subset with the answers of all measured tasks to their inputs.

    The prompts and their donors depend on the seed and the split, not on the position. Donors are
    of the same split, or of the training split if training has not seen the kind of the split.

    Parameters
    ----------
    split : str
        A measured subset, such as ``val_subset``.
    position : {"input", "instruction_last", "instruction_mean"}
        What is edited: the input, the last token of the instruction, or all of its tokens. The
        answer follows the input, whatever is edited.
    n : int
        Most prompts, drawn at random among those with an answer that another task changes.
    seed : int
        Root seed of the run.

    Raises
    ------
    InputError
        For an unknown split or position. If a single task is measured, or if no answer of a prompt
        is another under another task.
    """
    if split not in dataset.measured:
        raise InputError(f"no measured subset {split!r}; there are {', '.join(dataset.measured)}")
    tasks = np.unique(dataset.task(FITTED))  # (T,)
    need_two_tasks(FITTED, len(tasks))
    family = np.zeros_like(tasks)
    part, task = dataset.splits[split], dataset.task(split)
    tokens = np.unique(dataset.vocabulary.encode(dataset.tasks.outputs))  # (K,)
    answers = _answers(dataset, tasks, part.input, tokens)  # (N, T)
    own = np.searchsorted(tasks, task)  # (N,)
    own[~np.isin(task, tasks)] = -1
    is_unseen = split == UNSEEN_TASK
    if not is_unseen:
        answers[own < 0] = -1  # no centroid of the own task
    pairs = pairs_of(answers, own, tokens[:, None])
    usable, notes = prompts_with_pairs(split, pairs)
    rng = stream(seed, "intervened instances", split)
    index = np.sort(rng.choice(usable, min(n, len(usable)), replace=False))
    # A donor's state should be one from which the model answers rightly.
    pool = dataset.measured[FITTED if split in UNSEEN else split]
    donors, donor = _donors(dataset, pool, tasks, part.take(index), own[index], seed)
    fit = len(dataset.splits[FITTED]) + is_unseen * len(part)
    return Counterfactuals(
        split=split,
        position=position,
        prompts=_edited(dataset, part.take(index), position),
        index=index,
        tasks=tasks,
        own=own[index],
        task=task[index],
        unit=part.instruction[index],
        answers=answers[index],
        tokens=tokens[:, None],
        donors=_edited(dataset, donors, position),
        donor=donor,
        folds=(Fold(np.arange(fit), np.arange(len(index))),),
        family=family,
        notes=notes + pair_notes(split, answers[index], own[index], tokens[:, None], family),
    )


def outputs_of_tasks(dataset: Dataset, tasks: Ints) -> Ints:
    """Return the output token of each task, (T,), for each token as its input, (V, T); -1: none."""
    encode = dataset.vocabulary.encode
    table = np.full((len(dataset.vocabulary), len(tasks)), -1)
    for column, task in enumerate(tasks):
        function = dataset.tasks.tasks[task].function
        table[encode(function.keys()), column] = encode(function.values())
    return table


def _answers(dataset: Dataset, tasks: Ints, inputs: Ints, tokens: Ints) -> Ints:
    """Return the index of each task's output for each input, (N, T); -1 if a task lacks it."""
    outputs = outputs_of_tasks(dataset, tasks)[inputs]
    return np.where(outputs >= 0, np.searchsorted(tokens, outputs), -1)


def _donors(
    dataset: Dataset, split: str, tasks: Ints, part: Split, own: Ints, seed: int
) -> tuple[Split, Ints]:
    """Draw an instance of each other task with the same input from a whole split.

    Return the distinct donors, and the row of each prompt's donors among them, (N, T); -1: none.
    """
    pool, task = dataset.splits[split], dataset.task(split)
    drawn = stream(seed, "donors", split).random((len(part), len(tasks)))
    rows = np.full(drawn.shape, -1)
    for column, number in enumerate(tasks):
        of_task = np.flatnonzero(task == number)
        ordered = of_task[np.argsort(pool.input[of_task], kind="stable")]
        begin = np.searchsorted(pool.input[ordered], part.input, side="left")
        count = np.searchsorted(pool.input[ordered], part.input, side="right") - begin  # (N,)
        chosen = begin + (drawn[:, column] * count).astype(np.int64)
        has = (count > 0) & (own != column)
        rows[has, column] = ordered[chosen[has]]
    kept = np.unique(rows[rows >= 0])
    return pool.take(kept), np.where(rows >= 0, np.searchsorted(kept, rows), -1)


def _edited(dataset: Dataset, part: Split, position: str) -> EditedPrompts:
    """Return the prompts [I; x] of instances, edited at a position and read up to x."""
    prompts, length = dataset.prompts_of(part, position), dataset.instruction_length
    begin = prompts.position if prompts.begin is None else prompts.begin
    return EditedPrompts(prompts.ids, length[part.instruction], begin, prompts.position)

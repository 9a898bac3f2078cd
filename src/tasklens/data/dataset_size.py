"""Estimate the size of a dataset from its settings, before anything is drawn."""

from collections.abc import Mapping
from functools import partial

from tasklens.core.errors import InputError
from tasklens.core.memory import check_sizes
from tasklens.data.tasks import TaskSettings

#: Grammars of a dataset at most: each is compared with all others, which takes minutes.
MAX_GRAMMARS = 10_000
#: Settings of what training never reads.
UNSEEN = "unseen_distributions", "unseen_tasks"
#: Settings that the bytes of a dataset depend on.
SIZES = (
    *("n_tasks", "variants_per_task", "inputs_per_task", "n_inputs", "n_outputs", "min_length"),
    *UNSEEN,
)
#: Bytes of an instance, an instruction, a symbol of it, a token with its name, and a mapped input.
INSTANCE, INSTRUCTION, SYMBOL, TOKEN, MAPPED = 48, 100, 9, 150, 80
#: Bytes of an instance that training never reads: its three columns.
COLUMNS = 24
#: Bytes of a task and an input while functions are drawn, mapped or not.
DRAWN = 24


def check_dataset_size(tasks: TaskSettings) -> None:
    """Raise InputError if the tasks of these settings are too many to be compared or held.

    Those of a file are counted once it is read; see `check_grammars`.
    """
    if tasks.file:
        return
    named = ["n_tasks", "distributions_per_task"]
    named += [name for name in UNSEEN if getattr(tasks, name)]
    check_grammars(
        tasks.n_regexes,
        ", ".join(f"tasks.{each} = {getattr(tasks, each)}" for each in named) + ": ",
    )
    sizes = {f"tasks.{name}": getattr(tasks, name) for name in SIZES}
    k = tasks.distributions_per_task
    check_sizes("the dataset", sizes, partial(dataset_bytes, distributions_per_task=k))


def check_grammars(n: int, source: str = "") -> None:
    """Raise InputError, which begins with the source, if comparing n grammars takes too long."""
    if n > MAX_GRAMMARS:
        raise InputError(
            f"{source}{n} regular expressions, each of which is compared with all others: should "
            f"be at most {MAX_GRAMMARS}"
        )


def check_variants(n_variants: int, mapped: int) -> None:
    """Raise InputError if the memory does not hold instances of a task file's instructions.

    Given are the number of the instructions of all tasks, and the fewest inputs of a task.
    """
    sizes = {"n_variants of all tasks": n_variants}
    each = INSTANCE * mapped + INSTRUCTION
    check_sizes("the dataset", sizes, lambda sizes: each * sum(sizes.values()))


def dataset_bytes(sizes: Mapping[str, int], distributions_per_task: int = 1) -> int:
    """Return the bytes that a dataset with these settings, `SIZES`, takes at least."""
    n, variants, mapped, n_inputs, n_outputs, length, unseen, unseen_tasks = sizes.values()
    of_unseen = variants // distributions_per_task
    of_instruction = INSTRUCTION + SYMBOL * length
    return (
        n * variants * (INSTANCE * mapped + of_instruction)
        + n * of_unseen * unseen * (COLUMNS * mapped + of_instruction)
        + unseen_tasks * variants * (COLUMNS * n_inputs + of_instruction)
        + n * (DRAWN * n_inputs + MAPPED * mapped)
        + TOKEN * (n_inputs + n_outputs)
    )

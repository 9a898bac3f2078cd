"""Estimate the size of a dataset from its settings, before anything is drawn."""

from collections.abc import Mapping

from tasklens.core.errors import InputError
from tasklens.core.memory import check_sizes
from tasklens.data.tasks import TaskSettings

#: Grammars of a dataset at most: each is compared with all others, which takes minutes.
MAX_GRAMMARS = 10_000
#: Bytes of an instance, an instruction, a symbol of it, a token with its name, and a mapped input.
INSTANCE, INSTRUCTION, SYMBOL, TOKEN, MAPPED = 48, 100, 9, 150, 80
#: Bytes of a task and an input while functions are drawn, mapped or not.
DRAWN = 24


def check_dataset_size(tasks: TaskSettings) -> None:
    """Raise InputError if the tasks of these settings are too many to be compared or held.

    Those of a file are counted once it is read; see `check_grammars`.
    """
    if tasks.file:
        return
    k = tasks.distributions_per_task
    check_grammars(
        tasks.n_tasks * k, f"tasks.n_tasks = {tasks.n_tasks}, tasks.distributions_per_task = {k}: "
    )
    names = "n_tasks", "variants_per_task", "inputs_per_task", "n_inputs", "n_outputs", "min_length"
    sizes = {f"tasks.{name}": getattr(tasks, name) for name in names}
    check_sizes("the dataset", sizes, dataset_bytes)


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


def dataset_bytes(sizes: Mapping[str, int]) -> int:
    """Return the bytes that a dataset with these settings takes at least."""
    n, variants, mapped, n_inputs, n_outputs, length = sizes.values()
    return (
        n * variants * (INSTANCE * mapped + INSTRUCTION + SYMBOL * length)
        + n * (DRAWN * n_inputs + MAPPED * mapped)
        + TOKEN * (n_inputs + n_outputs)
    )

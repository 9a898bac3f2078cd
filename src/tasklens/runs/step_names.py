"""Name the steps of a model run, if these are no steps of a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasklens.data.names import TRAINED, UNTRAINED


def names_of_steps(facts_by_step: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Return what to call each step of a run that is no series; empty for a series.

    Stages have the names that the user gave. Otherwise a single model is "trained"; of several
    models each has its own name. The untrained twin is "untrained".
    """
    trained = [facts for facts in facts_by_step if not facts.get("untrained", False)]
    if len(trained) > 1 and all(facts.get("is_training_step", True) for facts in trained):
        return {}
    short_names = [Path(facts["name"]).name for facts in trained]
    are_distinct = len({*short_names}) == len(trained) and UNTRAINED not in short_names
    names = {}
    for facts, name in zip(trained, short_names, strict=True):
        own = name if are_distinct else facts["name"]
        default = own if len(trained) > 1 else TRAINED
        names[facts["step"]] = facts.get("called") or default
    untrained = {facts["step"]: UNTRAINED for facts in facts_by_step if facts not in trained}
    return untrained | names

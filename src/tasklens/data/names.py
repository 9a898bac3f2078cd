"""Turn names of hidden states and splits, as users write them, into those of a run."""

import math
import re
from collections.abc import Collection, Sequence

from tasklens.core.errors import InputError
from tasklens.core.text import visible

#: What the steps of a single model are called, and of the same network with fresh weights.
TRAINED, UNTRAINED = "trained", "untrained"
#: Most names of columns or labels in a message, and characters of each.
LISTED, LONGEST = 20, 60
#: Other names of the hidden states, in lower case and without spaces, dashes and underscores.
_STATES = {
    "layer0": "embed",
    "embedding": "embed",
    "embeddings": "embed",
    "wordembedding": "wte",
    "wordembeddings": "wte",
    "lnf": "ln_f",
    "finalnorm": "ln_f",
    "finallayernorm": "ln_f",
}
#: Kinds of states that a model has one of for each block: the branches, and the block itself.
BRANCHES = ("attn", "mlp")
KINDS = (*BRANCHES, "block")
#: Other names of the splits of a training run, by the same rule.
_SPLITS = {
    "training": "train_subset",
    "seen": "train_subset",
    "validation": "val_subset",
    "unseenpairs": "val_subset",
    "validationinstruction": "val_instruction_subset",
    "validationinstructions": "val_instruction_subset",
    "valinstructions": "val_instruction_subset",
    "unseeninstructions": "val_instruction_subset",
    "unseendistribution": "unseen_distribution_subset",
    "unseendistributions": "unseen_distribution_subset",
    "unseentask": "unseen_task_subset",
    "unseentasks": "unseen_task_subset",
}


def state_name(text: str) -> str:
    """Return the name of a hidden state: ``block5`` for "5", "layer 5" or "Block 5".

    In the same way, "attention 5" is ``attn5``.

    A text that is no known name is returned unchanged.
    """
    plain = _plain(text)
    if branch := re.fullmatch(r"(attn|attention|mlp)0*([1-9][0-9]{0,8})", plain):
        return f"{'mlp' if branch[1] == 'mlp' else 'attn'}{branch[2]}"
    if number := re.fullmatch(r"(layer|block)?0*([0-9]{1,9})", plain):
        if int(number[2]):
            return f"block{number[2]}"
        # Blocks count from 1: a user who writes block0 may mean the first one.
        return text if number[1] == "block" else "embed"
    return _STATES.get(plain, plain if plain in _STATES.values() else text)


def is_branch(state: str) -> bool:
    """Return whether a state is what a branch of a block adds: ``attn5``, or all of a kind."""
    return re.fullmatch(r"(attn|mlp)([1-9][0-9]*)?", state) is not None


def state_order(state: str) -> tuple[float, int, str]:
    """Return by what states are sorted from the input up: a block follows its branches."""
    if number := re.fullmatch(r"(attn|mlp|block)([0-9]{1,9})", state):
        return int(number[2]), KINDS.index(number[1]), state
    return {"wte": -2.0, "embed": -1.0, "ln_f": math.inf}.get(state, 1e9), 0, state


def find_state(text: str, names: Collection[str]) -> str:
    """Return the hidden state of a run that a user means.

    Parameters
    ----------
    text : str
        The name, or another way to write it: see `state_name`.
    names : collection of str
        The hidden states that the run has.

    Raises
    ------
    InputError
        If the run has no such hidden state; it lists the names.
    """
    for name in (text, state_name(text)):
        if name in names:
            return name
    raise InputError(f"no hidden state {text!r}; there are {', '.join(names)}")


def listed(names: Collection[str], nameless: str = "a column without a name") -> str:
    """Return the names of columns, or of others, as part of a message, which stays one line."""
    shown = [visible(name[:LONGEST]) + "..." * (len(name) > LONGEST) for name in names]
    shown = [name if name.strip() else nameless for name in shown]
    if len(shown) > LISTED:
        shown[LISTED:] = [f"and {len(shown) - LISTED:,} more"]
    return ", ".join(shown)


def find_split(text: str, names: Collection[str]) -> str:
    """Return the split of a run that a user means.

    Parameters
    ----------
    text : str
        The name, or another way to write it: "val", "validation" or "unseen pairs" for
        ``val_subset``. Case, spaces, dashes and a missing ``_subset`` do not matter.
    names : collection of str
        The splits that the run has.

    Raises
    ------
    InputError
        If the run has no such split; it lists the names.
    """
    if text in names:
        return text
    plain = _plain(text)
    same = [name for name in names if _plain(name) == plain]
    same = same or [name for name in names if _plain(name) == _plain(_SPLITS.get(plain, plain))]
    if len(same) != 1:
        raise InputError(f"no split {text!r}; there are {', '.join(names)}")
    return same[0]


def find_position(text: str, names: Collection[str]) -> str:
    """Return a position of a run; InputError if the run has no such position, with the names."""
    if text not in names:
        raise InputError(f"no position {text!r}; there are {', '.join(names)}")
    return text


def find_family(text: str, names: Sequence[str]) -> str:
    """Return the family of tasks that a user means; InputError if it is none of the names."""
    if text in names:
        return text
    if not names:
        raise InputError(f"no family {text!r}: all tasks are one family")
    raise InputError(f"no family {text!r}; there are {listed(names)}")


def check_distinct(positions: Sequence[str]) -> None:
    """Raise ValueError if a position is given twice."""
    for i, position in enumerate(positions):
        if position in positions[:i]:
            raise ValueError(f"positions: {position!r} is given twice; give each position once")


def _plain(text: str) -> str:
    plain = re.sub(r"(?<=\w)[\s_-]+(?=\w)|_+", "", text.strip()).lower()
    return plain.removesuffix("subset") or plain

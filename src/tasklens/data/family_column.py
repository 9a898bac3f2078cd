"""Check the families of labelled prompts: groups of labels that are compared with each other."""

from collections.abc import Mapping, Sequence

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.data.names import listed
from tasklens.data.prompt_columns import Prompt

#: The value of ``prompts.family`` with which all prompts are one family.
ONE_FAMILY = "none"
_REMEDY = f'; prompts.family = "{ONE_FAMILY}" makes all prompts one family'


def family_column(columns: Mapping[str, str | None], named: str) -> str | None:
    """Return the column of the family among the chosen columns; None if all are one family.

    ``named`` is the column that the settings name. A usual column that means something else, such
    as the label, is no family.
    """
    family = columns["family"]
    others = [column for part, column in columns.items() if part != "family"]
    return None if named == ONE_FAMILY or (not named and family in others) else family


def check_families(
    prompts: Mapping[str, Sequence[Prompt]], label: str, family: str | None
) -> str | None:
    """Return the column of the family; None if there is none, or if all prompts are one family.

    ``prompts`` are those of each split; ``label`` and ``family`` are names of columns. InputError
    if a label is of two families, or if a split lacks a family, or has a single label of one.
    """
    if family is None:
        return None
    known: dict[str, Prompt] = {}
    first: dict[str, set[str]] = {}
    for split, part in prompts.items():
        labels: dict[str, set[str]] = {}
        for prompt in part:
            name = prompt.names[label]
            before = known.setdefault(name, prompt)
            if prompt.names[family] != before.names[family]:
                raise InputError(
                    f"{prompt.source}: {short(label)} = {short(name)} is of the {family} "
                    f"{short(prompt.names[family])}, but in {before.source} of "
                    f"{short(before.names[family])}: should be of one{_REMEDY}"
                )
            labels.setdefault(prompt.names[family], set()).add(name)
        first = first or labels
        if missing := sorted(first.keys() ^ labels.keys()):
            raise InputError(
                f"{part[0].source}: the split {split} has the {family} {listed(sorted(labels))}, "
                f"and the first split {listed(sorted(first))}; they differ in {short(missing[0])}: "
                f"should be the same{_REMEDY}"
            )
        for name, of_family in labels.items():
            if len(of_family) < 2:
                raise InputError(
                    f"{part[0].source}: the {family} {short(name)} has the single value "
                    f"{short(*of_family)} of {short(label)} in split {split}: should be two or "
                    f"more{_REMEDY}"
                )
    return family if len(first) > 1 else None

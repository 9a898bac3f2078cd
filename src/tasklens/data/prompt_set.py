"""Make prompts that ask a model something: few-shot, in a chat, or in a plain sentence.

Within a family every task is asked about the same inputs, after examples of the same words. So
neither the input nor the words of the examples give the task away.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasklens.core.errors import InputError
from tasklens.core.memory import check_sizes
from tasklens.core.messages import short
from tasklens.core.progress import warn
from tasklens.core.settings import with_keywords
from tasklens.data.chats import render
from tasklens.data.first_tokens import first_tokens
from tasklens.data.names import listed
from tasklens.data.prompt_drawing import PromptSetSettings, draw_rows, parts_of
from tasklens.data.prompt_families import Family, choose_families
from tasklens.data.prompt_forms import FORMS, Form, Kind, as_messages, written
from tasklens.data.prompt_splits import ALL
from tasklens.data.token_rows import Tokenizer

#: Bytes of memory for each prompt, at least.
BYTES = 1000
#: What differs by kind of prompts if nothing else is asked for.
DEFAULTS: dict[Kind, PromptSetSettings] = {
    "icl": PromptSetSettings(),
    "chat": PromptSetSettings(shots=0),
    "plain": PromptSetSettings(shots=0, inputs=20),
}


@dataclass(frozen=True)
class PromptSet:
    """Prompts, and what they were made of."""

    kind: Kind
    settings: PromptSetSettings
    seed: int
    families: tuple[Family, ...]
    is_checked: bool
    """Whether a tokenizer has compared the first tokens of the answers."""
    rows: tuple[dict[str, Any], ...]

    @property
    def splits(self) -> dict[str, int]:
        """The number of prompts of each split."""
        return dict(Counter(row.get("split", ALL) for row in self.rows))

    def document(self) -> dict[str, Any]:
        """Return what the prompts are, as what ``--json`` prints."""
        shown = self.rows[0]
        return {
            "kind": self.kind,
            "seed": self.seed,
            "shots": self.settings.shots,
            "forms": list(dict.fromkeys(row["form"] for row in self.rows)),
            "first tokens differ": self.is_checked or None,
            "families": [
                {
                    "family": family.name,
                    "tasks": list(family.tasks),
                    "inputs": len(self._distinct(family, "input")),
                    "contexts": len(self._distinct(family, "context")),
                    "known inputs": len(family.answers),
                    "left out": family.left_out,
                }
                for family in self.families
            ],
            "splits": self.splits,
            "example": {key: shown.get(key) for key in ("text", "messages", "output", "label")},
        }

    def text(self) -> str:
        """Return what the prompts are, as text."""
        document = self.document()
        lines = [
            f"{self.kind} prompts with {document['shots']} examples, seed {self.seed}, in the "
            f"forms {listed(document['forms'])}"
        ]
        for family in document["families"]:
            lines.append(f"{family['family']}: {listed(family['tasks'])}")
            lines.append(
                f"  {family['inputs']} inputs of {family['known inputs']}, "
                f"{family['contexts']} contexts"
            )
            lines += [f"  left out are {n} {reason}" for reason, n in family["left out"].items()]
        lines.append(f"{len(self.rows):,} prompts")
        lines += [f"  {split}: {n:,}" for split, n in self.splits.items()]
        lines.append(
            "the answers to an input begin with different tokens, as the tokenizer reads them"
            if self.is_checked
            else "not checked: whether the answers to an input begin with different tokens; give "
            "--tokenizer"
        )
        shown = self.rows[0]
        lines.append(f"an example, of the task {shown['label']}:")
        turns = [f"{turn['role']}: {turn['content']}" for turn in shown.get("messages", ())]
        asked = shown.get("text") or "\n".join(turns)
        lines += [f"  {line}" for line in asked.split("\n")]
        lines.append(f"  -> {shown['output']}")
        return "\n".join(lines)

    def jsonl(self) -> bytes:
        """Return the prompts as the content of a JSONL file."""
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        return "".join(lines).encode()

    def _distinct(self, family: Family, column: str) -> set[str]:
        return {row[column] for row in self.rows if row["family"] == family.name}


def settings_of(kind: Kind, changes: Mapping[str, Any]) -> PromptSetSettings:
    """Return the settings of a kind of prompts, with some fields changed."""
    return with_keywords(changes, DEFAULTS[kind])[0]


def make_prompts(
    kind: Kind, tokenizer: Tokenizer | None, settings: PromptSetSettings, seed: int
) -> PromptSet:
    """Make the prompts of a kind.

    Raises
    ------
    InputError
        For an unknown form, task or family, or a broken file. If a family has too few inputs, or
        none of them has answers that the tokenizer tells apart. If a chat has no template.
    """
    forms = _forms(kind, settings)
    families = choose_families(settings.tasks, settings.families, settings.share)
    if tokenizer is not None:
        families = [_tokens_differ(family, kind, forms, tokenizer) for family in families]
    families = _large_enough(families, settings)
    n_tasks = sum(len(family.tasks) for family in families)
    sizes = {"contexts": settings.contexts if settings.shots else 1, "inputs": settings.inputs}
    check_sizes(
        "a prompt set",
        sizes,
        lambda sizes: BYTES * len(forms) * n_tasks * sizes["contexts"] * sizes["inputs"],
    )
    rows = [row for family in families for row in draw_rows(family, kind, forms, settings, seed)]
    if not all(family.crossed for family in families):
        warn(
            "the inputs of the tasks differ, so that an input gives its task away: compare the ARI "
            "with that of layer 0"
        )
    return PromptSet(kind, settings, seed, tuple(families), tokenizer is not None, tuple(rows))


def _forms(kind: Kind, settings: PromptSetSettings) -> Mapping[str, Form]:
    known = FORMS[kind]
    for name in settings.forms:
        if name not in known:
            raise InputError(f"no form {short(name)}; those of {kind} are {listed(list(known))}")
    if kind == "icl" and not settings.shots:
        raise InputError("shots = 0: should be 1 or more: only examples tell what icl asks for")
    forms = {name: known[name] for name in settings.forms or known}
    if settings.shots and not settings.forms:
        forms = dict(list(forms.items())[:1])
    n, what = (settings.contexts, "contexts") if settings.shots else (len(forms), "forms")
    for column, n_values, name in (("context", n, what), ("input", settings.inputs, "inputs")):
        if column in settings.hold_out and n_values < 2:
            raise InputError(
                f"{name}: there is one, which cannot be held out: should be two or more, or leave "
                f"{column} out of hold_out"
            )
    return forms


def _tokens_differ(
    family: Family, kind: Kind, forms: Mapping[str, Form], tokenizer: Tokenizer
) -> Family:
    """Leave out inputs of which two answers begin with the same token under a tokenizer."""
    asked = [
        (x, task, form, y)
        for form in forms.values()
        for x, ys in family.answers.items()
        for task, y in ys.items()
    ]
    texts = [_text(kind, form, family.tasks[task], x, tokenizer) for x, task, form, _ in asked]
    xs, ys = [x for x, *_ in asked], [y for *_, y in asked]
    unknown: set[str] = set()
    tokens: dict[tuple[str, Form], list[int]] = {}
    for (x, _, form, _), token in zip(asked, first_tokens(tokenizer, texts, xs, ys), strict=True):
        if token is None:
            unknown.add(x)
        else:
            tokens.setdefault((x, form), []).append(token)
    same = {x for (x, _), each in tokens.items() if len(set(each)) < len(each)} - unknown
    family = family.without(unknown, "with an answer whose first token is not known")
    reason = "with two answers that begin with the same token"
    return family.without(same, reason, as_examples=True)


def _text(kind: Kind, form: Form, phrase: str, x: str, tokenizer: Tokenizer) -> str:
    """Return a prompt without examples, as a model reads it."""
    if kind != "chat":
        return written(form, phrase, (), x)[0]
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{type(tokenizer).__name__} has no chat template: make icl or plain prompts for a "
            "base model"
        )
    return render(tokenizer, as_messages(form, phrase, (), x), f"a prompt for {short(x)}")


def _large_enough(families: list[Family], settings: PromptSetSettings) -> list[Family]:
    """Return the families with enough inputs; InputError if one is missing that is named, or all.

    Of a family that is not crossed, each task needs as many.
    """
    n_examples = settings.shots * (2 if "context" in settings.hold_out else 1)
    small: dict[str, str] = {}
    for family in families:
        parts = parts_of(family)
        n = min(len(part.answers) for part in parts)
        n_all = min(len(part.answers) + len(part.shown) for part in parts)
        needed = settings.inputs
        if n >= needed:
            n, needed = n_all, needed + n_examples
        if n < needed:
            small[family.name] = f"has {n} inputs, too few for the {needed} that are needed"
    if not small:
        return families
    name, line = next(iter(small.items()))
    family = next(family for family in families if family.name == name)
    why = "".join(f"; {number} are left out {text}" for text, number in family.left_out.items())
    if settings.tasks or settings.families or len(small) == len(families):
        raise InputError(
            f"family {short(name)} {line}{why}: ask for fewer inputs or shots, or name other tasks"
        )
    for name, line in small.items():
        warn(f"family {name} is left out: it {line}")
    return [family for family in families if family.name not in small]

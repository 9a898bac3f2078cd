"""Draw the prompts of a family: which inputs are asked about, after which examples.

Every task of a family comes with the same contexts and inputs. So neither the input nor the words
of the examples give the task away.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.seeds import stream
from tasklens.core.settings import SettingsBase
from tasklens.data.prompt_families import Family, Share
from tasklens.data.prompt_forms import Form, Kind, as_messages, written
from tasklens.data.prompt_splits import KEPT

#: The split of what is held out, by its column.
HELD_OUT = {"context": "held_out_context", "input": "held_out_input"}
#: Times that examples are drawn again if another context has them.
_DRAWS = 100


class PromptSetSettings(SettingsBase):
    """The tasks, the size and the splits of a set of prompts.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.PromptSetSettings(families=["verbs"], shots=3).contexts
    16
    """

    tasks: tuple[str, ...] = ()
    """Names of tasks, or TOML and JSON files of tasks; empty: all tasks of the families."""
    families: tuple[str, ...] = ()
    """Names of families; empty: all, or those of the files."""
    shots: Annotated[int, Field(ge=0, le=1000)] = 5
    """Examples before the input. Without examples, prompts are in words, and each form is a
    context."""
    contexts: Annotated[int, Field(ge=1, le=100_000)] = 16
    """Draws of examples for each family, each of which comes with every task and input."""
    inputs: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    """Inputs of each family that are asked about. Examples have other inputs."""
    forms: tuple[str, ...] = ()
    """Ways in which a prompt is written; empty: the first with examples, otherwise all."""
    hold_out: tuple[Literal["context", "input"], ...] = ("context", "input")
    """What is held out, for all tasks of a family alike. The examples of held-out contexts have
    inputs that no other context has: half of those that are not asked about."""
    hold_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the contexts and inputs that is held out; at least one."""
    share: Share = "all"
    """Inputs of tasks that are lists in JSON. all: they have to be the same. common: those that all
    have. none: each its own, so that an input gives its task away."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in ("tasks", "families", "forms", "hold_out"):
            values = getattr(self, field)
            if twice := [value for value, n in Counter(values).items() if n > 1]:
                raise ValueError(f"{field}: {short(twice[0])} is given twice; give it once")
        return self


class Context(NamedTuple):
    """Surroundings of the input in prompts: examples, or only a form."""

    name: str
    examples: tuple[str, ...]
    """The inputs of the examples."""
    forms: tuple[str, ...]
    is_held_out: bool


def parts_of(family: Family) -> list[Family]:
    """Return what is drawn together: the family, or each task of one that is not crossed."""
    if family.crossed:
        return [family]
    return [family.of_tasks([task]) for task in family.tasks]


def draw_rows(
    family: Family, kind: Kind, forms: Mapping[str, Form], settings: PromptSetSettings, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the prompts of a family, the kept ones first."""
    rows: dict[str, list[dict[str, Any]]] = {KEPT: [], **{name: [] for name in HELD_OUT.values()}}
    for part in parts_of(family):
        name = part.name if family.crossed else next(iter(part.tasks))
        inputs = list(part.answers)
        order = stream(seed, "prompt set", name, "inputs").permutation(len(inputs))
        shuffled = [inputs[i] for i in order]
        asked = shuffled[: settings.inputs]
        others = [*part.shown, *shuffled[settings.inputs :]]
        held = set(asked[: _n_held("input", len(asked), settings)])
        contexts = _contexts(name, others, forms, settings, seed)
        for task, phrase in part.tasks.items():
            for context in contexts:
                for form in context.forms:
                    for x in asked:
                        out = [*["context"] * context.is_held_out, *["input"] * (x in held)]
                        if len(out) == 2:
                            continue
                        split = HELD_OUT[out[0]] if out else KEPT
                        row = _row(kind, part, task, phrase, context, form, forms[form], x)
                        rows[split].append(row | ({"split": split} if settings.hold_out else {}))
    for each in rows.values():
        yield from each


def _row(
    kind: Kind,
    family: Family,
    task: str,
    phrase: str,
    context: Context,
    form_name: str,
    form: Form,
    x: str,
) -> dict[str, Any]:
    answers = {**family.shown, **family.answers}
    examples = [(other, answers[other][task]) for other in context.examples]
    if kind == "chat":
        asked: dict[str, Any] = {"messages": as_messages(form, phrase, examples, x), "query": x}
    else:
        text, spans = written(form, phrase, examples, x)
        asked = {"text": text, **spans}
    return asked | {
        "label": task,
        "family": family.name,
        "input": x,
        "output": family.answers[x][task],
        "answers": dict(family.answers[x]),
        "context": context.name,
        "examples": list(context.examples),
        "form": form_name,
        "shots": len(examples),
    }


def _n_held(column: str, n: int, settings: PromptSetSettings) -> int:
    """Return how many of n values are held out."""
    if column not in settings.hold_out:
        return 0
    return min(n - 1, max(1, round(settings.hold_out_share * n)))


def _contexts(
    name: str,
    inputs: Sequence[str],
    forms: Mapping[str, Form],
    settings: PromptSetSettings,
    seed: int,
) -> list[Context]:
    """Return the contexts of a family, with examples of the inputs that are not asked about."""
    if not settings.shots:
        order = stream(seed, "prompt set", name, "forms").permutation(len(forms))
        held = set(order[: _n_held("context", len(forms), settings)].tolist())
        return [Context(f"{name} {form}", (), (form,), i in held) for i, form in enumerate(forms)]
    n_held = _n_held("context", settings.contexts, settings)
    random = stream(seed, "prompt set", name, "examples")
    # As many for the held-out contexts: with few words, all of them would have the same ones.
    n = len(inputs) // 2 if n_held else 0
    shuffled = [inputs[i] for i in random.permutation(len(inputs))]
    pools = {False: shuffled[n:], True: shuffled[:n]}
    drawn: set[tuple[str, ...]] = set()
    contexts = []
    for i in range(settings.contexts):
        is_held_out = i >= settings.contexts - n_held
        pool = pools[is_held_out]
        for _ in range(_DRAWS):
            chosen = random.choice(len(pool), settings.shots, replace=False)
            examples = tuple(pool[j] for j in chosen)
            if examples not in drawn:
                break
        else:
            raise InputError(
                f"family {short(name)} has too few inputs for {settings.contexts} different "
                "contexts: ask for fewer contexts, or name other tasks"
            )
        drawn.add(examples)
        contexts.append(Context(f"{name} {i + 1}", examples, tuple(forms), is_held_out))
    return contexts

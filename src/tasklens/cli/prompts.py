"""`tasklens prompts`: a file of prompts that ask a model something."""

from pathlib import Path
from typing import Annotated

import typer

from tasklens.cli.options import Json, check_out
from tasklens.cli.output import emit, emit_json, emit_path
from tasklens.core.errors import InputError

KindOfPrompts = Annotated[
    str,
    typer.Argument(
        metavar="icl|chat|plain",
        help="Few-shot prompts, messages for a chat model, or sentences such as: The past tense of "
        "eat is.",
    ),
]
TokenizerOf = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        metavar="MODEL",
        help="The directory or GGUF file of a model, whose tokenizer checks that the answers to an "
        "input begin with different tokens.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks",
        metavar="NAMES|FILE",
        help="Tasks, e.g. past_tense,ing_form; or a TOML or JSON file of tasks. May be given "
        "several times. [default: all]",
    ),
]
Families = Annotated[
    str | None,
    typer.Option(
        "--families",
        metavar="NAMES",
        help="Families of tasks over the same inputs, e.g. verbs,countries. [default: all]",
    ),
]
Shots = Annotated[
    int | None,
    typer.Option(
        "--shots", metavar="N", help="Examples before the input. [default: 5 for icl, otherwise 0]"
    ),
]
Contexts = Annotated[
    int | None,
    typer.Option(
        "--contexts", metavar="N", help="Draws of examples for each family. [default: 16]"
    ),
]
Inputs = Annotated[
    int | None,
    typer.Option(
        "--inputs",
        metavar="N",
        help="Inputs of each family that are asked about. [default: 20 for plain, otherwise 8]",
    ),
]
Forms = Annotated[
    str | None,
    typer.Option(
        "--forms",
        metavar="NAMES",
        help="Ways to write a prompt, e.g. arrow,colon. [default: the first with examples, "
        "otherwise all]",
    ),
]
HoldOutOf = Annotated[
    str | None,
    typer.Option(
        "--hold-out",
        metavar="context,input|none",
        help="What is held out, for all tasks of a family alike. [default: both]",
    ),
]
Share = Annotated[
    str | None,
    typer.Option(
        "--share",
        metavar="all|common|none",
        help="Inputs of tasks that are lists in JSON: the same ones, those that all have, or each "
        "its own. [default: all]",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of what is drawn.")]
PromptsOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE.jsonl", help="The file. [default: KIND.jsonl]"),
]


def prompts(
    kind: KindOfPrompts,
    tokenizer: TokenizerOf = None,
    tasks: Tasks = None,
    families: Families = None,
    shots: Shots = None,
    contexts: Contexts = None,
    inputs: Inputs = None,
    forms: Forms = None,
    hold_out: HoldOutOf = None,
    share: Share = None,
    seed: Seed = 0,
    out: PromptsOut = None,
    as_json: Json = False,
) -> None:
    """Make prompts that ask a model something, for tasklens probe.

    Within a family, every task is asked about the same inputs, after examples of the same words.
    Prints what the prompts are and one of them; the last line is the path of the file.
    """
    from tasklens.core.files import write_file
    from tasklens.data.prompt_forms import find_kind
    from tasklens.data.prompt_set import make_prompts, settings_of
    from tasklens.models.hf_loading import load_tokenizer

    known_kind = find_kind(kind)
    if out is not None and out.suffix.lower() != ".jsonl":
        raise InputError(f"--out {out}: should end in .jsonl")
    files = [Path(each) for each in tasks or () if Path(each).is_file()]
    check_out(out, files)
    given = {
        "tasks": [name for each in tasks or () for name in _names(each)] or None,
        "families": families and _names(families),
        "shots": shots,
        "contexts": contexts,
        "inputs": inputs,
        "forms": forms and _names(forms),
        "hold_out": hold_out and [name for name in _names(hold_out) if name != "none"],
        "share": share,
    }
    settings = settings_of(
        known_kind, {key: value for key, value in given.items() if value is not None}
    )
    reader = None
    if tokenizer is not None:
        reader = load_tokenizer(tokenizer)
        if reader is None:
            raise InputError(
                f"--tokenizer {tokenizer}: has no tokenizer: should be the directory of a model, "
                "or a GGUF file"
            )
    prompt_set = make_prompts(known_kind, reader, settings, seed)
    own = b"" if out else b'"answers": {'  # of each line
    out = out or Path(f"{kind}.jsonl")
    write_file(out, prompt_set.jsonl(), own)
    if as_json:
        emit_json(prompt_set.document() | {"file": out})
        return
    emit(prompt_set.text())
    emit_path(out)


def _names(text: str) -> list[str]:
    """Return names between commas, or the name of a file."""
    if Path(text).is_file():
        return [text]
    return [name.strip() for name in text.split(",")]

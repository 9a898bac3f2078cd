"""`tasklens probe`: any causal language model on labelled prompts."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from tasklens.cli.options import (
    Change,
    Engine,
    Json,
    Resume,
    check_changes,
    check_device,
    emit_results,
    this_command,
)
from tasklens.cli.output import emit, emit_json
from tasklens.core.errors import InputError
from tasklens.core.parse import value_of

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="Directories of models, of checkpoint-N or of training runs, GGUF files, or names "
        "on the hub.",
    ),
]
Stages = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=MODEL",
        help="A stage of one model, e.g. base=DIR, instead of MODEL. Given for each stage, in "
        "their order.",
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="JSONL, CSV or Parquet, one file per split; or tasks-in-words, tasks-in-words-equal. "
        "[default: the measured subsets of a training run, otherwise few-shot prompts, made for "
        "the tokenizer]",
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label", metavar="COLUMN", help="The column of the labels. [default: label, or task]"
    ),
]
Positions = Annotated[
    list[str] | None,
    typer.Option(
        "--position",
        metavar="last|COLUMN|TEXT|N|A:B",
        help="Position that is measured: the last token, a part of the text, a token, characters; "
        "with _mean after it, the mean over the part. May be given several times. "
        "[default: the separator of a prompt set, otherwise the input's last token]",
    ),
]
HoldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--hold-out", metavar="COLUMN", help="Hold out some of each label's values of the column."
    ),
]
States = Annotated[
    str | None,
    typer.Option(
        "--states",
        metavar="NAMES",
        help="Hidden states, e.g. embed,block6,ln_f, attn,mlp (of each block). [default: all]",
    ),
]
NumbersOfClusters = Annotated[
    str | None,
    typer.Option(
        "--k", metavar="N,N,...", help="Numbers of clusters. [default: as many as labels]"
    ),
]
Residualize = Annotated[
    str | None,
    typer.Option(
        "--residualize",
        metavar="COLUMN,...",
        help="Take columns out of the hidden states by a regression, e.g. length,form.",
    ),
]
Cross = Annotated[
    str | None,
    typer.Option(
        "--cross",
        metavar="COLUMN,...",
        help="Also compare the clusters with a column, and score the label within its values.",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision", metavar="NAMES", help="Revisions of a name on the hub, e.g. step0,step1000."
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="DIR",
        help="The base model of LoRA adapters. [default: the directory that each names]",
    ),
]
Untrained = Annotated[
    bool,
    typer.Option(
        "--untrained", help="Also measure the model with fresh weights, as step 0: a control."
    ),
]
ModelDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="cpu|cuda[:N]|auto",
        help="Device of the models; auto: all GPUs, the memory and the disk.",
    ),
]
DType = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="float32|bfloat16|float16",
        help="Precision of the models. [default: float32]",
    ),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")
]
ProbeOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="The run directory. [default: runs/probe-MODEL, or runs/probe-NAME-NAME of stages]",
    ),
]
Gpus = Annotated[
    float,
    typer.Option("--gpus", metavar="N", min=0.01, help="On Ray: GPUs per replica of a model."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what would be measured, token by token; do nothing."),
]


def probe(
    models: Models = None,
    model: Stages = None,
    prompts: Prompts = None,
    label: Label = None,
    position: Positions = None,
    hold_out: HoldOut = None,
    states: States = None,
    k: NumbersOfClusters = None,
    residualize: Residualize = None,
    cross: Cross = None,
    revision: Revision = None,
    base: Base = None,
    untrained: Untrained = False,
    device: ModelDevice = None,
    dtype: DType = None,
    trust_remote_code: TrustRemoteCode = False,
    change: Change = None,
    out: ProbeOut = None,
    resume: Resume = False,
    engine: Engine = "local",
    gpus: Gpus = 1.0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Measure any causal language model on labelled prompts.

    Measures every hidden state, and a series of checkpoints if several are given. With --model it
    measures stages of one model, and their differences. Prints the final table, a line for each
    finding, and the path of the report; the last line is the path of the figure.
    """
    from tasklens.runs.model_plan import describe
    from tasklens.runs.own_prompts import with_own_prompts
    from tasklens.runs.settings import ModelRunSettings

    names, models = _stages(model, models)
    given: dict[str, dict[str, object]] = {
        "subject": {
            "models": models,
            "names": names or None,
            "revisions": revision.split(",") if revision else None,
            "base": base,
            "untrained": untrained or None,
            "states": states.split(",") if states else None,
            "device": device,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code or None,
        },
        "prompts": {"files": prompts, "label": label, "hold_out": hold_out},
        "states": {"positions": position},
        "measure": {
            "k": _numbers(k) if k else None,
            "residualize": residualize.split(",") if residualize else None,
            "cross": cross.split(",") if cross else None,
        },
    }
    for name, table in given.items():
        given[name] = {key: value for key, value in table.items() if value is not None}
    keys = [f"{table}.{key}" for table, values in given.items() for key in values]
    settings = ModelRunSettings.from_table(given, check_changes(keys, change))
    if "files" not in settings.prompts.model_fields_set:
        settings = with_own_prompts(settings)
    if not math.isfinite(gpus):
        raise InputError(f"--gpus = {gpus}: should be a finite number")
    if dry_run:
        plan = describe(settings)
        if as_json:
            emit_json(plan.document())
        else:
            emit(plan.text())
        return
    check_device(settings.subject.device, "subject.device", engine)
    name, path = "-".join(names) or models[0], Path(models[0])
    if not names and path.exists():  # a link has its own name, but . and .. have none
        name = path.name if path.name not in ("", "..") else path.resolve().name
    from tasklens.runs.pipeline import run_all

    results = run_all(
        f"probe-{name.replace('/', '-')}",
        settings,
        out,
        resume=resume,
        command=this_command(),
        engine=engine,
        gpus=gpus,
    )
    emit_results(*results, as_json=as_json)


def _stages(given: list[str] | None, models: list[str] | None) -> tuple[list[str], list[str]]:
    """Return the names and the models of stages; or no names and the MODEL arguments."""
    if given and models:
        raise InputError(
            f"--model {given[0]}: the models are given as {models[0]}, too; give all of them in "
            "one way: MODEL..., or --model NAME=MODEL for each stage"
        )
    if not given:
        if not models:
            raise InputError("no model: give MODEL, or --model NAME=MODEL for each stage")
        return [], models
    parts = [each.partition("=") for each in given]
    for each, (name, _, stage) in zip(given, parts, strict=True):
        if not name or not stage:
            raise InputError(f"--model {each}: should be NAME=MODEL, such as base={each or 'DIR'}")
    return [name for name, _, _ in parts], [stage for _, _, stage in parts]


def _numbers(text: str) -> list[Any]:
    """Return numbers between commas as TOML writes them; InputError if they cannot be read."""
    try:
        return [value_of(each.strip()) for each in text.split(",")]
    except ValueError as error:
        raise InputError(f"--k: {error}") from error

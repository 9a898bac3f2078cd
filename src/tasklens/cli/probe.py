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
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Directories of models, of checkpoint-N or of training runs, GGUF files, or names "
        "on the hub.",
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="JSONL, CSV or Parquet, one file per split; or tasks-in-words, tasks-in-words-equal. "
        "[default: the measured subsets of a training run, otherwise tasks-in-words]",
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
        "[default: the input's last token]",
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
    typer.Option("--out", metavar="DIR", help="The run directory. [default: runs/probe-MODEL]"),
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
    models: Models,
    prompts: Prompts = None,
    label: Label = None,
    position: Positions = None,
    hold_out: HoldOut = None,
    states: States = None,
    k: NumbersOfClusters = None,
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

    Measures every hidden state, and a series of checkpoints if several are given. Prints the final
    table, a line for each finding, and the path of the report; the last line is the path of the
    figure.
    """
    from tasklens.runs.model_plan import describe
    from tasklens.runs.own_prompts import with_own_prompts
    from tasklens.runs.settings import ModelRunSettings

    given: dict[str, dict[str, object]] = {
        "subject": {
            "models": models,
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
        "measure": {"k": _numbers(k) if k else None},
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
    name, path = models[0], Path(models[0])
    if path.exists():  # a link has its own name, but . and .. have none
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


def _numbers(text: str) -> list[Any]:
    """Return numbers between commas as TOML writes them; InputError if they cannot be read."""
    try:
        return [value_of(each.strip()) for each in text.split(",")]
    except ValueError as error:
        raise InputError(f"--k: {error}") from error

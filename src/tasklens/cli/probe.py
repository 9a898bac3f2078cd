"""`tasklens probe`: any causal language model on labelled prompts."""

from pathlib import Path
from typing import Annotated

import typer

from tasklens.cli.options import (
    Change,
    Debug,
    Engine,
    Resume,
    check_device,
    print_results,
    this_command,
)

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Directories of models, of checkpoint-N or of our runs, or names on the hub.",
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="JSONL, CSV or Parquet, each a split; or tasks-in-words, tasks-in-words-equal.",
    ),
]
Label = Annotated[
    str | None,
    typer.Option("--label", metavar="COLUMN", help="The label. [default: label, or task]"),
]
Position = Annotated[
    str | None,
    typer.Option(
        "--position",
        metavar="last|COLUMN|TEXT|N|A:B",
        help="What is measured: the last token, a part of the text, a token, characters. "
        "[default: the input's last token]",
    ),
]
HoldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--hold-out", metavar="COLUMN", help="Hold out some of each label's values of it."
    ),
]
States = Annotated[str, typer.Option("--states", metavar="NAMES", help="E.g. embed,block6,ln_f.")]
NumbersOfClusters = Annotated[
    str | None,
    typer.Option("--k", metavar="N,N,...", help="Clusters. [default: one a label]"),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="NAMES", help="Of a name on the hub: a,b,..."),
]
Untrained = Annotated[
    bool,
    typer.Option("--untrained", help="Measure it with fresh weights, too, as step 0: a control."),
]
ModelDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="cpu|cuda[:N]|auto",
        help="Where the models run; auto: over all GPUs, the memory and the disk.",
    ),
]
DType = Annotated[
    str | None,
    typer.Option("--dtype", metavar="float32|bfloat16|float16", help="To compute in."),
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
    typer.Option(
        "--gpus", metavar="N", min=0.01, help="On Ray: of each replica of a model on GPUs."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what is measured, token by token; do nothing."),
]


def probe(
    models: Models,
    prompts: Prompts = None,
    label: Label = None,
    position: Position = None,
    hold_out: HoldOut = None,
    states: States = "all",
    k: NumbersOfClusters = None,
    revision: Revision = None,
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
    debug: Debug = False,
) -> None:
    """Measure any causal language model on labelled prompts.

    Layer by layer, and over a series of checkpoints if several are given. Prints the final table,
    a line for each finding, and the path of the report; the last line is the path of the figure.
    """
    from tasklens.core.workers import opened
    from tasklens.runs.load_run import new_run
    from tasklens.runs.pipeline import judge_and_report, run_stages
    from tasklens.runs.settings import ModelRunSettings
    from tasklens.runs.stage_states import describe

    given: dict[str, dict[str, object]] = {
        "subject": {
            "models": models,
            "revisions": revision.split(",") if revision else None,
            "untrained": untrained or None,
            "states": states.split(","),
            "device": device,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code or None,
        },
        "prompts": {"files": prompts, "label": label, "hold_out": hold_out},
        "position": {"at": position},
        "measure": {"k": [_number(n) for n in k.split(",")] if k else None},
    }
    for name, table in given.items():
        given[name] = {key: value for key, value in table.items() if value is not None}
    settings = ModelRunSettings.from_table(given, change or ())
    if dry_run:
        print(describe(settings), end="")
        return
    check_device(settings.subject.device, "subject.device", engine)
    name = Path(models[0]).resolve().name if Path(models[0]).exists() else models[0]
    with opened(engine):
        run = new_run(f"probe-{name.replace('/', '-')}", settings, out, resume=resume)
        with run.directory.locked():
            run_stages(run, this_command(), engine, gpus)
            verdict, page = judge_and_report(run, this_command())
    print_results(run, verdict, page)


def _number(text: str) -> int | str:
    return int(text) if text.strip().isdigit() else text

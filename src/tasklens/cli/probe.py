"""`tasklens probe`: any causal language model on labelled prompts."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tasklens.cli.options import (
    Change,
    Engine,
    Resume,
    check_devices,
    judged,
    open_run,
    reported,
    this_command,
)

#: Said in the place of the verdict.
NO_VERDICT = "no findings: they need the states embed and at least one block\n"


def probe(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Directories of models, of checkpoint-N or of our runs, or names on the hub.",
        ),
    ],
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="JSONL, CSV or Parquet, each a split; or tasks-in-words, tasks-in-words-equal.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="COLUMN", help="The label. [default: label, or task]"),
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(
            "--position",
            metavar="last|COLUMN|TEXT|N|A:B",
            help="What is measured: the last token, a part of the text, a token, characters. "
            "[default: the input's last token]",
        ),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            "--hold-out", metavar="COLUMN", help="Hold out some of each label's values of it."
        ),
    ] = None,
    states: Annotated[
        str, typer.Option("--states", metavar="NAMES", help="E.g. embed,block6,ln_f.")
    ] = "all",
    k: Annotated[
        str | None,
        typer.Option("--k", metavar="N,N,...", help="Clusters. [default: one a label]"),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", metavar="NAMES", help="Of a name on the hub: a,b,..."),
    ] = None,
    untrained: Annotated[
        bool,
        typer.Option(
            "--untrained", help="Measure it with fresh weights, too, as step 0: a control."
        ),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="cpu|cuda[:N]|auto",
            help="Where models and t-SNE run; auto: models alone, over all GPUs and the memory.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", metavar="float32|bfloat16|float16", help="To compute in."),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")
    ] = False,
    change: Change = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The run directory. [default: runs/probe-MODEL]"),
    ] = None,
    resume: Resume = False,
    engine: Engine = "local",
    gpus: Annotated[
        float,
        typer.Option(
            "--gpus", metavar="N", min=0.01, help="On Ray: of each replica of a model on GPUs."
        ),
    ] = 1.0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what is measured, token by token; do nothing."),
    ] = False,
) -> None:
    """Measure any causal language model on labelled prompts.

    Layer by layer, and over a series of checkpoints where several are given. Prints the final table
    a line for each finding, and the path of the report; the last line is the path of the figure.
    """
    from tasklens.runs.settings import ModelRunSettings

    said = {
        "subject.models": models,
        "subject.revisions": revision.split(",") if revision else None,
        "subject.untrained": untrained or None,
        "subject.states": states.split(","),
        "subject.device": device,
        "clusters.device": None if device == "auto" else device,
        "subject.dtype": dtype,
        "subject.trust_remote_code": trust_remote_code or None,
        "prompts.files": prompts,
        "prompts.label": label,
        "prompts.hold_out": hold_out,
        "position.at": position,
        "measure.k": [_number(n) for n in k.split(",")] if k else None,
    }
    # JSON's strings, numbers and lists are TOML's, too
    words = [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in said.items()
        if value is not None
    ]
    settings = ModelRunSettings.from_table({}, [*words, *(change or ())])
    from tasklens.runs.harvesting import describe

    if dry_run:
        print(describe(settings), end="")
        return
    from tasklens.core.engines import opened
    from tasklens.findings.verdict import verdict_text
    from tasklens.runs.experiment import load_scores
    from tasklens.runs.probing import has_layers, run_probe
    from tasklens.scoring.score_table import scores_text

    check_devices(settings, "subject", "clusters", engine=engine)
    name = Path(models[0]).resolve().name if Path(models[0]).exists() else models[0]
    with opened(engine):
        directory = open_run(f"probe-{name.replace('/', '-')}", settings, out, resume)
        with directory.locked():
            run_probe(directory, settings, this_command(), engine, gpus)
            verdict = judged(directory) if has_layers(directory, settings) else None
            page = reported(directory, verdict)
    told = verdict_text(verdict, checks=False) if verdict else NO_VERDICT
    print(f"{scores_text(load_scores(directory))}\n{told}")
    print(page)
    print(directory.figure("png"))


def _number(text: str) -> int | str:
    return int(text) if text.strip().isdigit() else text

"""What the commands share: their options, and how they open a run directory."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasklens.core.errors import InputError

if TYPE_CHECKING:
    from tasklens.findings.verdict import Verdict
    from tasklens.runs.run import Run as AnyRun

#: Printed instead of the verdict.
NO_VERDICT = "no findings: they need the states embed and at least one block\n"

Source = Annotated[
    str, typer.Argument(metavar="PRESET|FILE.toml", help="smoke, default, paper, or a TOML file.")
]
Change = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. train.steps=100."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The run directory. [default: runs/PRESET]"),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="cpu|cuda[:N]",
        help="Where to train and harvest: short for --set train.device.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume a run: do only what is missing.")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray[:ADDRESS]",
        help="Where the work is done: here, or on a Ray cluster (pip install -e '.[ray]').",
    ),
]


def _set_debug(value: bool) -> None:
    if value:
        os.environ["TASKLENS_DEBUG"] = "1"  # which worker processes inherit


Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_set_debug,
        help="Print the traceback of an error, too; also with TASKLENS_DEBUG=1.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def check_device(device: str, key: str, engine: str = "local") -> None:
    """Refuse a GPU that does not exist before anything is written.

    What the machines of a cluster have is not known here. Each Ray task is given its GPU, which
    has no number.
    """
    from tasklens.models.devices import check_device as check_local_device

    if device == "auto":
        return
    if engine == "local":
        check_local_device(device, key)
    elif device not in ("cpu", "cuda"):
        raise InputError(f"{key} = {device!r}: on Ray a task is given its GPU; say cuda")


def this_command() -> str:
    """Return the command line as it was given."""
    return shlex.join(["tasklens", *sys.argv[1:]])


def changed_run(path: Path, change: list[str] | None = None, *tables: str) -> "AnyRun":
    """Return a run with settings changed in some tables only."""
    from tasklens.runs.load_run import load_run, run_of

    run = load_run(path)
    for item in change or ():
        if item.partition("=")[0].partition(".")[0] not in (*tables, "workers"):
            allowed = " and ".join(f"{table}.*" for table in tables) or "workers"
            raise InputError(
                f"--set {item}: only {allowed} can change here; other settings make another "
                f"{run.kind}: tasklens {run.kind} ... --out DIR"
            )
    settings = type(run.settings).from_table(run.settings.model_dump(), change or ())
    return run_of(run.directory, settings)


def print_results(run: "AnyRun", verdict: "Verdict | None", page: Path) -> None:
    """Print the final table, a line for each finding, and the paths of the page and the figure."""
    from tasklens.findings.verdict import verdict_text
    from tasklens.scoring.score_table import scores_text

    print(scores_text(run.score_table(all_k=True)))
    print(verdict_text(verdict, checks=False) if verdict else NO_VERDICT)
    print(page)
    print(run.directory.figure("png"))

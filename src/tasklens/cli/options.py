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
    from tasklens.runs.settings import RunSettings

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


def new_run(default: str, settings: "RunSettings", out: Path | None, resume: bool) -> "AnyRun":
    """Return the run to be made or resumed; InputError if the directory holds another one."""
    from tasklens.runs.directory import RunDir
    from tasklens.runs.open_run import open_run, run_of

    directory = RunDir(out or Path("runs") / default)
    if directory.data.exists() and directory.config.exists():
        before = open_run(directory.path).settings
        key: str | None = "kind"
        if type(before) is type(settings):
            key = before.first_difference(settings)
        if key:
            raise InputError(
                f"{directory.path} holds another run (its {key} differs); name another "
                "directory with --out"
            )
        if not resume:
            raise InputError(
                f"{directory.path} already holds this run; resume it with --resume, or name "
                "another directory with --out"
            )
    elif not directory.is_new():
        raise InputError(
            f"{directory.path} is not empty and not a run directory; name another with --out"
        )
    return run_of(directory, settings)


def changed_run(path: Path, change: list[str] | None = None, *tables: str) -> "AnyRun":
    """Return a run with settings changed in some tables only."""
    from tasklens.runs.open_run import open_run, run_of

    run = open_run(path)
    for item in change or ():
        if item.partition("=")[0].partition(".")[0] not in (*tables, "workers"):
            allowed = " and ".join(f"{table}.*" for table in tables) or "workers"
            raise InputError(
                f"--set {item}: only {allowed} can change here; other settings make another "
                f"{run.kind}: tasklens {run.kind} ... --out DIR"
            )
    settings = type(run.settings).from_table(run.settings.model_dump(), change or ())
    return run_of(run.directory, settings)


def judge_and_report(run: "AnyRun") -> "tuple[Verdict | None, Path]":
    """Keep the verdict of a run, if it has layers to judge, and write its page."""
    from tasklens.findings.verdict import verdict_json
    from tasklens.runs.stage_report import write_report
    from tasklens.runs.verify import verify

    verdict = verify([run]) if run.has_layers else None
    if verdict:
        content, path = verdict_json(verdict), run.directory.verdict
        if not path.exists() or path.read_bytes() != content:
            run.directory.write(path, content)
    return verdict, write_report([run], [verdict], this_command())


def print_results(run: "AnyRun", verdict: "Verdict | None", page: Path) -> None:
    """Print the final table, a line for each finding, and the paths of the page and the figure."""
    from tasklens.findings.verdict import verdict_text
    from tasklens.scoring.score_table import scores_text

    print(scores_text(run.scores(all_k=True)))
    print(verdict_text(verdict, checks=False) if verdict else NO_VERDICT)
    print(page)
    print(run.directory.figure("png"))

"""What the commands share: their options, and how they open a run directory."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasklens.core.errors import InputError

if TYPE_CHECKING:
    from tasklens.findings.verdict import Verdict
    from tasklens.runs.directory import RunDir

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
        help="Where to train, harvest and embed: short for --set train.device, clusters.device.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a run: do only what is missing.")
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray[:ADDRESS]",
        help="Where the work is done: here, or on a Ray cluster (pip install 'tasklens[ray]').",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def check_devices(settings: Any, *tables: str, engine: str = "local") -> None:
    """Refuse a GPU that is not there before anything is written.

    Of an engine of many machines it is not known here what they have, but that there a task is
    given its GPU, which has no number.
    """
    from tasklens.models.devices import check_device

    for table in tables:
        device = getattr(settings, table).device
        if device == "auto":
            continue
        if engine == "local":
            check_device(device, f"{table}.device")
        elif device not in ("cpu", "cuda"):
            raise InputError(
                f"{table}.device = {device!r}: on Ray a task is given its GPU; say cuda"
            )


def this_command() -> str:
    """Return the command line as it was given."""
    return shlex.join(["tasklens", *sys.argv[1:]])


def open_run(default: str, settings: Any, out: Path | None, resume: bool) -> "RunDir":
    """Return the run directory; InputError where it holds what this run would overwrite."""
    from tasklens.runs.directory import RunDir
    from tasklens.runs.experiment import kind_of
    from tasklens.runs.settings import read_settings

    directory = RunDir(out or Path("runs") / default)
    if directory.data.exists() and directory.config.exists():
        key: str | None = "kind"
        if kind_of(directory) is type(settings):
            key = read_settings(directory.config, type(settings)).first_difference(settings)
        if key:
            raise InputError(
                f"{directory.path} holds another run (its {key} differs); name another "
                "directory with --out"
            )
        if not resume:
            raise InputError(
                f"{directory.path} already holds this run; go on with it with --resume, or name "
                "another directory with --out"
            )
    elif not directory.is_new():
        raise InputError(
            f"{directory.path} is not empty and not a run directory; name another with --out"
        )
    return directory


def continue_run(path: Path, change: list[str] | None = None, *tables: str) -> "tuple[RunDir, Any]":
    """Return a run directory and its settings, changed in the stage's own tables only."""
    from tasklens.runs.directory import RunDir
    from tasklens.runs.experiment import kind_of
    from tasklens.runs.settings import read_settings

    directory = RunDir(path)
    kind = kind_of(directory)
    settings = read_settings(directory.config, kind)
    for item in change or ():
        key = item.partition("=")[0]
        if key.partition(".")[0] not in (*tables, "workers"):
            which = " and ".join(f"{table}.*" for table in tables) or "workers"
            what = "probe" if directory.is_probe else "run"
            raise InputError(
                f"--set {item}: only {which} can change here; other settings make another {what}: "
                f"tasklens {what} ... --out DIR"
            )
    return directory, kind.from_table(settings.model_dump(), change or ())


def save_settings(directory: "RunDir", settings: Any) -> None:
    """Write the settings into the run directory."""
    directory.write(directory.config, settings.toml().encode())


def judged(directory: "RunDir") -> "Verdict":
    """Hold the findings against a run, and keep the verdict."""
    from tasklens.findings.verdict import verdict_json
    from tasklens.runs.verify import verify_runs

    verdict = verify_runs([directory.path])
    content = verdict_json(verdict)
    if not directory.verdict.exists() or directory.verdict.read_bytes() != content:
        directory.write(directory.verdict, content)
    return verdict


def reported(directory: "RunDir", verdict: "Verdict | None") -> Path:
    """Write the page of a run, which is locked, and return its path."""
    from tasklens.runs.sources import open_source
    from tasklens.runs.write_report import write_report

    return write_report([open_source(directory.path)], [verdict], this_command())

"""Options that several commands share, and how they open a run directory."""

import os
import shlex
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasklens.cli.output import emit, emit_json, emit_path
from tasklens.core.errors import InputError

if TYPE_CHECKING:
    from tasklens.findings.verdict import Verdict
    from tasklens.runs.run import Run

#: Printed instead of the verdict.
NO_VERDICT = "no findings: they need the states embed and at least one block"


def complete_source(incomplete: str) -> list[str]:
    """Return the presets and the TOML files that a word may become."""
    presets = resources.files("tasklens").joinpath("runs/presets").iterdir()
    names = [preset.name.removesuffix(".toml") for preset in presets]
    names = sorted(name for name in names if name.startswith(incomplete))
    return names + sorted(str(path) for path in Path().glob(f"{incomplete}*.toml"))


Source = Annotated[
    str,
    typer.Argument(
        metavar="PRESET|FILE.toml",
        help="smoke, default, distributions, paper, or a TOML file.",
        autocompletion=complete_source,
    ),
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
        help="Device that trains and harvests: short for --set train.device.",
    ),
]
Position = Annotated[
    str | None,
    typer.Option("--position", metavar="NAME", help="A position. [default: the first one]"),
]
Style = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="default|paper",
        help="Look of Figure 1: short for --set figure.style.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume a run: do only what is missing.")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray[:ADDRESS]",
        help="What does the work: this machine, or a Ray cluster (pip install -e '.[ray]').",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the results as one JSON document instead of text.")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def check_device(device: str, key: str, engine: str = "local") -> None:
    """Refuse a GPU that does not exist before anything is written.

    What the machines of a cluster have is not known in this process. Each Ray task is given its
    GPU, which has no number.
    """
    from tasklens.models.devices import check_device as check_local_device

    if device == "auto":
        return
    if engine == "local":
        check_local_device(device, key)
    elif device not in ("cpu", "cuda"):
        raise InputError(f"{key} = {device!r}: Ray gives each task its GPU: should be cuda")


def check_out(out: Path | None, inputs: Iterable[Path] = ()) -> None:
    """Raise InputError for an ``--out`` that would replace an input, or a file of a run."""
    from tasklens.runs.directory import RunDir

    if out is None or not out.is_file():
        return
    path = Path(os.path.realpath(out))
    if any(os.path.realpath(each) == str(path) for each in inputs):
        raise InputError(f"cannot write {out}: it is what is read; name another file with --out")
    for parent in path.parents:
        directory = RunDir(parent)
        if directory.manifest.is_file() and directory.config.is_file():
            own = directory.manifest, directory.config
            if path in own or directory.noted(path) is not None:
                raise InputError(
                    f"cannot write {out}: it is a file of the run {parent}; name another file "
                    "with --out"
                )


def check_changes(given: Iterable[str], change: list[str] | None) -> list[str]:
    """Return the changes of ``--set``; InputError for a key that an option has given, too."""
    keys = set(given)
    for item in change or ():
        key = item.partition("=")[0].strip()
        if key in keys:
            raise InputError(f"--set {item}: an option sets {key}, too; leave out one of the two")
    return list(change or ())


def with_setting(change: list[str] | None, key: str, value: str | None) -> list[str]:
    """Return the changes of ``--set``, with that of an option which is short for one of them."""
    if value is None:
        return list(change or ())
    return [f"{key}={value}", *check_changes([key], change)]


def this_command() -> str:
    """Return the command line as it was given."""
    return shlex.join(["tasklens", *sys.argv[1:]])


def changed_run(path: Path, change: list[str] | None = None, *changing: str) -> "Run":
    """Return a run with settings changed in some tables, or some settings, only."""
    from tasklens.runs.load_run import check_first_position, load_run, run_of

    run = load_run(path)
    for item in change or ():
        key = item.partition("=")[0].strip()
        if not {key, key.partition(".")[0]} & {*changing, "workers"}:
            named = [each if "." in each else f"{each}.*" for each in changing]
            allowed = " and ".join(filter(None, [", ".join(named[:-1]), *named[-1:]])) or "workers"
            raise InputError(
                f"--set {item}: only {allowed} can change in a finished run; other settings make "
                f"another {run.kind}: tasklens {run.kind} ... --out DIR"
            )
    settings = type(run.settings).from_table(run.settings.model_dump(), change or ())
    changed = run_of(run.directory, settings)
    check_first_position(run, changed)
    return changed


def emit_results(run: "Run", verdict: "Verdict | None", page: Path, *, as_json: bool) -> None:
    """Print the final table, a line for each finding, the result, and the paths of page and figure.

    The seconds of the stages go to standard error.
    """
    from tasklens.core.progress import inform
    from tasklens.findings.compare_text import steps_data, steps_summary
    from tasklens.findings.verdict_text import headline_text, summary_text, verdict_document
    from tasklens.runs.compare import compare_steps
    from tasklens.scoring.final_scores import scores_text
    from tasklens.scoring.stage_table import are_stages

    marks = run.directory.read_manifest()["stages"].items()
    inform(
        "seconds by stage: " + ", ".join(f"{name} {mark['seconds']:,.0f}" for name, mark in marks)
    )
    figure = run.directory.figure("png")
    compared = compare_steps(run) if are_stages(run.step_names) else []
    if as_json:
        verdict_content = verdict and verdict_document(verdict)
        differences = {"differences": steps_data(compared)} if compared else {}
        paths = {"report": page, "figure": figure}
        emit_json(scores_document(run) | {"verdict": verdict_content} | differences | paths)
        return
    emit(scores_text(run.score_table(all_k=True), run.step_names))
    emit("")
    if compared:
        emit(steps_summary(compared))
    emit(summary_text(verdict) if verdict else NO_VERDICT, verdicts=True)
    if verdict and not verdict.doubt:
        emit(headline_text(verdict))
    emit("")
    emit_path(page)
    emit_path(figure)


def scores_document(run: "Run") -> dict[str, Any]:
    """Return the final scores of a run as what `emit_json` prints."""
    from tasklens.scoring.final_scores import final_scores
    from tasklens.scoring.stage_table import are_stages

    every_step = are_stages(run.step_names)
    return {
        "run": run.directory.path,
        "kind": run.kind,
        "seed": run.settings.seed,
        "steps": run.steps,
        "step names": run.step_names,
        "scores": final_scores(run.score_table(all_k=True), every_step=every_step),
    }

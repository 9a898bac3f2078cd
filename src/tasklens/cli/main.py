"""The command line: a thin command for each stage, and `run` for all of them.

What is heavy is imported inside the commands: worker processes import this module again.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from tasklens.cli.options import (
    Change,
    Device,
    Engine,
    Out,
    Resume,
    Run,
    Source,
    check_devices,
    continue_run,
    judged,
    open_run,
    reported,
    save_settings,
    this_command,
)
from tasklens.cli.probe import probe
from tasklens.cli.report import report
from tasklens.cli.sweep import gather, sweep
from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.files import check_system
from tasklens.models.torchrun import follows, started

#: The base of all complaints about the command line's words: Click's ClickException, by way of
#: Typer, which carries its own Click in some versions and shares the common one in others.
_UsageProblem: Any = typer.BadParameter.__mro__[2]

#: The commands that torchrun may start.
TRAINING = ("run", "train")
#: What to do about cells that failed.
AGAIN = "the others are done; --resume, or tasklens measure, tries these again"
#: The exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def tasklens(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Does a causal language model sort what it reads by task?

    In which layer, from when in training on, and does it hold on data it has not seen?
    """  # noqa: D400
    if started() and context.invoked_subcommand not in TRAINING:
        raise InputError(
            f"torchrun trains one model by several processes: it starts tasklens "
            f"{' or '.join(TRAINING)}, not {context.invoked_subcommand or 'tasklens alone'}"
        )
    if version:
        print(f"tasklens {metadata.version('tasklens')}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    source: Source = "default",
    change: Change = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = False,
    engine: Engine = "local",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan with its time and disk, and do nothing."),
    ] = False,
) -> None:
    """Run all stages, data to report, and hold the paper's findings against the run.

    Prints the final table, a line for each finding, and the path of the report; the last line is
    the path of the figure.
    """
    from tasklens.runs.settings import load_settings

    settings = load_settings(source, [*_on(device), *(change or ())])
    if follows():
        if not dry_run:
            _train_along(out or Path("runs") / Path(source).stem, settings)
        return
    if dry_run:
        from tasklens.runs.plan import make_plan

        print(make_plan(settings).text(), end="")
        return
    from tasklens.core.workers import opened
    from tasklens.findings.verdict import verdict_text
    from tasklens.runs.experiment import prepare, run_all

    check_devices(settings, "train")
    check_devices(settings, "clusters", engine=engine)
    with opened(engine):
        directory = open_run(Path(source).stem, settings, out, resume)
        with directory.locked():
            prepare(directory, settings, this_command())
            run_all(directory, settings, engine)
            verdict = judged(directory)
            page = reported(directory, verdict)
    show(directory.path)
    print(f"\n{verdict_text(verdict, checks=False)}")
    print(page)
    print(directory.figure("png"))


app.command()(probe)
app.command()(report)


@app.command()
def data(
    source: Source = "default",
    change: Change = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Make a run directory with its data."""
    from tasklens.runs.experiment import make_data, prepare
    from tasklens.runs.settings import load_settings

    settings = load_settings(source, [*_on(device), *(change or ())])
    directory = open_run(Path(source).stem, settings, out, resume)
    with directory.locked():
        prepare(directory, settings, this_command())
        make_data(directory, settings)
    print(directory.data)


@app.command()
def train(run: Run) -> None:
    """Train the model, from where it stopped.

    Harvests and keeps checkpoints on the way.
    """
    from tasklens.runs.experiment import train_model

    directory, settings = continue_run(run)
    if follows():
        _train_along(run, settings)
        return
    with directory.locked():
        train_model(directory, settings)
    print(directory.checkpoints)


@app.command()
def measure(run: Run, change: Change = None, engine: Engine = "local") -> None:
    """Cluster and score the harvested states.

    With --set only clusters.* can change, e.g. clusters.n_init=20, and a probe's measure.*, e.g.
    measure.center=true; training and harvesting are not repeated.
    """
    from tasklens.core.workers import opened
    from tasklens.runs.directory import RunDir

    probe = RunDir(run).is_probe
    tables = ("clusters", "measure") if probe else ("clusters",)
    directory, settings = continue_run(run, change, *tables)
    check_devices(settings, "clusters", engine=engine)
    with opened(engine), directory.locked():
        save_settings(directory, settings)
        if probe:
            from tasklens.runs.probe_dir import Probe
            from tasklens.runs.probing import measure_probe

            measure_probe(Probe(directory, settings), engine)
        else:
            from tasklens.runs.experiment import measure

            measure(directory, settings, engine)
    print(directory.scores_csv)


@app.command()
def plot(run: Run, change: Change = None) -> None:
    """Draw the figure from the scores.

    With --set only figure.* can change, e.g. figure.space=tsne.
    """
    directory, settings = continue_run(run, change, "figure")
    with directory.locked():
        save_settings(directory, settings)
        if directory.is_probe:
            from tasklens.runs.probe_dir import Probe
            from tasklens.runs.probing import plot_probe

            plot_probe(Probe(directory, settings))
        else:
            from tasklens.runs.experiment import plot

            plot(directory, settings)
    print(directory.figure("png"))


@app.command()
def show(run: Run) -> None:
    """Print the final ARI and the accuracy."""
    from tasklens.runs.directory import RunDir
    from tasklens.runs.experiment import load_scores
    from tasklens.scoring.score_table import final_table

    directory = RunDir(run)
    if not directory.config.exists():
        raise InputError(f"{run} is not a run directory (no {directory.config.name})")
    scores = load_scores(directory)
    if directory.is_probe:
        from tasklens.runs.probe_cells import scores_text

        print(scores_text(scores), end="")
    else:
        print(final_table(scores), end="")


@app.command()
def verify(
    run: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Run directories that differ in their seed, or scores.parquet."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The verdict as JSON. [default: verdict.json, in RUN where there is but one]",
        ),
    ] = None,
    shuffled: Annotated[
        bool,
        typer.Option("--shuffled", help="Shuffle the tasks first: a control that should fail."),
    ] = False,
) -> int:
    """Hold the paper's findings against runs.

    Prints of each finding whether it holds, with an interval; the exit status is 0 where all hold
    and 1 where one fails or is undecided.
    """
    from tasklens.core.files import write_file
    from tasklens.findings.verdict import verdict_json, verdict_text
    from tasklens.runs.directory import RunDir
    from tasklens.runs.verify import verify_runs

    verdict = verify_runs(run, shuffled=shuffled)
    alone = len(run) == 1 and run[0].is_dir() and not shuffled
    directory = RunDir(run[0] if alone else Path())
    where = out or directory.verdict
    if alone and not out:
        directory.write(where, verdict_json(verdict))
    else:
        write_file(where, verdict_json(verdict))
    print(verdict_text(verdict), end="")
    print(where)
    return 0 if verdict.holds else 1


@app.command()
def follow(
    run: Run,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="E.g. block5. [default: the best one]"),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="NAME", help="The measured subset. [default: the first unseen one]"
        ),
    ] = None,
    space: Annotated[
        str, typer.Option("--space", metavar="raw|tsne", help="Where KMeans ran.")
    ] = "raw",
) -> None:
    """Follow tasks and clusters through training.

    Prints which task has a cluster of its own from which step on, and how many clusters split and
    merged on the way to each checkpoint.
    """
    from tasklens.runs.verify import follow_run
    from tasklens.scoring.cluster_tracking import followed_text

    layer, split, followed, names = follow_run(run, layer, split, space)
    print(f"{layer} on {split} ({space}):\n")
    print(followed_text(followed, names), end="")


app.command()(sweep)
app.command()(gather)


def main() -> None:
    """Run the command line; an error of the user's is one line and exit status 2."""
    try:
        check_system()
        status = app(standalone_mode=False)
    except (InputError, _UsageProblem) as error:
        message = str(error) if isinstance(error, InputError) else error.format_message()
        _fail(" ".join(message.split()))
    except CellsFailedError as error:
        for cell, reason in error.reasons.items():
            print(f"tasklens: cell {cell} failed: {reason}", file=sys.stderr)
        print(f"tasklens: {AGAIN}", file=sys.stderr)
        status = 1
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except OSError as error:
        _fail(f"{error.filename or 'writing'}: {error.strerror or error}")
    if status == INTERRUPTED:  # some versions of Typer return it
        print("tasklens: interrupted; go on with --resume", file=sys.stderr)
    sys.exit(status or 0)


def _fail(message: str) -> None:
    if not follows():  # the first of torchrun's processes says it for all
        print(f"tasklens: error: {message}", file=sys.stderr)
    sys.exit(2)


def _train_along(path: Path, settings: Any) -> None:
    from tasklens.runs.directory import RunDir
    from tasklens.runs.experiment import train_along

    check_devices(settings, "train")
    train_along(RunDir(path), settings)


def _on(device: str | None) -> list[str]:
    """Return the changes that ``--device`` stands for."""
    return [f"{table}.device={device}" for table in ("train", "clusters") if device]

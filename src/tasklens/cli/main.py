"""The command line: a thin command for each stage, and `run` for all of them.

What is heavy is imported inside the commands: worker processes import this module again.
"""

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasklens import __version__
from tasklens.cli.options import (
    Change,
    Debug,
    Device,
    Engine,
    Out,
    Resume,
    Run,
    Source,
    changed_run,
    check_device,
    print_results,
    this_command,
)
from tasklens.cli.probe import probe
from tasklens.cli.report import report
from tasklens.cli.sweep import gather, sweep
from tasklens.core.errors import CellsFailedError, InputError, debugging
from tasklens.core.files import check_system
from tasklens.models.torchrun import is_other_rank, launched_by_torchrun

if TYPE_CHECKING:
    from tasklens.runs.settings import TrainingRunSettings

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
    if launched_by_torchrun() and context.invoked_subcommand not in TRAINING:
        raise InputError(
            f"torchrun trains one model by several processes: it starts tasklens "
            f"{' or '.join(TRAINING)}, not {context.invoked_subcommand or 'tasklens alone'}"
        )
    if version:
        print(f"tasklens {__version__}")
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
    debug: Debug = False,
) -> None:
    """Run all stages, data to report, and test the paper's findings on the run.

    Prints the final table, a line for each finding, and the path of the report; the last line is
    the path of the figure.
    """
    from tasklens.runs.settings import load_settings

    settings = load_settings(source, [*_on(device), *(change or ())])
    if is_other_rank():
        if not dry_run:
            _train_with_rank_0(out or Path("runs") / Path(source).stem, settings)
        return
    if dry_run:
        from tasklens.runs.plan import make_plan

        print(make_plan(settings).text(), end="")
        return
    from tasklens.core.workers import opened
    from tasklens.runs.load_run import new_run
    from tasklens.runs.pipeline import judge_and_report, run_stages

    check_device(settings.train.device, "train.device")
    with opened(engine):
        run = new_run(Path(source).stem, settings, out, resume=resume)
        with run.directory.locked():
            run_stages(run, this_command(), engine)
            verdict, page = judge_and_report(run, this_command())
    print_results(run, verdict, page)


app.command()(probe)
app.command()(report)


@app.command()
def data(
    source: Source = "default",
    change: Change = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = False,
    debug: Debug = False,
) -> None:
    """Make a run directory with its data."""
    from tasklens.runs.load_run import new_run
    from tasklens.runs.pipeline import begin
    from tasklens.runs.settings import load_settings
    from tasklens.runs.stage_data import make_data

    settings = load_settings(source, [*_on(device), *(change or ())])
    run = new_run(Path(source).stem, settings, out, resume=resume)
    with run.directory.locked():
        begin(run, this_command())
        make_data(run)
    print(run.directory.data)


@app.command()
def train(path: Run, debug: Debug = False) -> None:
    """Train the model, from where it stopped.

    Harvests and keeps checkpoints on the way.
    """
    from tasklens.runs import stage_train
    from tasklens.runs.training_run import TrainingRun

    run = changed_run(path)
    if not isinstance(run, TrainingRun):
        raise InputError(f"{path} measures given models: there is nothing to train")
    if is_other_rank():
        _train_with_rank_0(path, run.settings)
        return
    with run.directory.locked():
        stage_train.train(run)
    print(run.directory.checkpoints)


@app.command()
def measure(
    path: Run, change: Change = None, engine: Engine = "local", debug: Debug = False
) -> None:
    """Cluster and score the harvested states.

    With --set only clusters.* and measure.* can change, e.g. clusters.n_init=20 or
    measure.center=true; training and harvesting are not repeated.
    """
    from tasklens.core.workers import opened
    from tasklens.runs import stage_measure

    run = changed_run(path, change, "clusters", "measure")
    with opened(engine), run.directory.locked():
        stage_measure.check_measurable(run)
        run.save_settings()
        stage_measure.measure(run, engine)
    print(run.directory.scores_csv)


@app.command()
def plot(path: Run, change: Change = None, debug: Debug = False) -> None:
    """Draw the figures from the scores.

    With --set only figure.* can change, e.g. figure.space=tsne.
    """
    from tasklens.runs import stage_plot

    run = changed_run(path, change, "figure")
    with run.directory.locked():
        stage_plot.plot(run)
        run.save_settings()
    print(run.directory.figure("png"))


@app.command()
def show(path: Run, debug: Debug = False) -> None:
    """Print the final ARI and the accuracy."""
    from tasklens.runs.load_run import load_run
    from tasklens.scoring.score_table import scores_text

    print(scores_text(load_run(path).score_table(all_k=True)), end="")


@app.command()
def verify(
    runs: Annotated[
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
    debug: Debug = False,
) -> int:
    """Test the paper's findings on runs.

    Prints of each finding whether it holds, with an interval; the exit status is 0 if all hold and
    1 if one fails or is undecided.
    """
    from tasklens.core.files import write_file
    from tasklens.findings.verdict import verdict_json, verdict_text
    from tasklens.runs.directory import RunDir
    from tasklens.runs.verify import verify

    verdict = verify(runs, shuffled=shuffled)
    content = verdict_json(verdict)
    if len(runs) == 1 and runs[0].is_dir() and not shuffled and not out:
        directory = RunDir(runs[0])
        out = directory.verdict
        directory.write(out, content)
    else:
        out = out or Path("verdict.json")
        write_file(out, content)
    print(verdict_text(verdict), end="")
    print(out)
    return 0 if verdict.holds else 1


@app.command()
def follow(
    path: Run,
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
    debug: Debug = False,
) -> None:
    """Follow tasks and clusters through training.

    Prints which task has a cluster of its own from which step on, and how many clusters split and
    merged on the way to each checkpoint.
    """
    from tasklens.runs.load_run import load_run
    from tasklens.runs.verify import follow_run
    from tasklens.scoring.cluster_tracking import followed_text

    layer, split, followed, names = follow_run(load_run(path), layer, split, space)
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
        print("tasklens: interrupted; resume with --resume", file=sys.stderr)
    sys.exit(status or 0)


def _fail(message: str) -> None:
    if debugging():
        traceback.print_exc()
    if not is_other_rank():  # rank 0 prints it for all ranks
        print(f"tasklens: error: {message}", file=sys.stderr)
    sys.exit(2)


def _train_with_rank_0(path: Path, settings: "TrainingRunSettings") -> None:
    from tasklens.runs.directory import RunDir
    from tasklens.runs.stage_train import train_with_rank_0
    from tasklens.runs.training_run import TrainingRun

    check_device(settings.train.device, "train.device")
    train_with_rank_0(TrainingRun(RunDir(path), settings))


def _on(device: str | None) -> list[str]:
    """Return the change that ``--device`` stands for."""
    return [f"train.device={device}"] if device else []

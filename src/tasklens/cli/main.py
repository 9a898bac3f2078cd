"""The command line: the commands, and what becomes of errors.

What is heavy is imported inside the commands: worker processes import this module again.
"""

import contextlib
import sys
from typing import Annotated, Any

import typer

import tasklens as package
from tasklens.cli.animate import animate
from tasklens.cli.command import Commands, add_command
from tasklens.cli.export import export
from tasklens.cli.intervene import intervene
from tasklens.cli.output import (
    BROKEN_PIPE,
    ReaderLeftError,
    emit,
    leave_pipe,
    prepare_streams,
)
from tasklens.cli.probe import probe
from tasklens.cli.prompts import prompts
from tasklens.cli.report import report
from tasklens.cli.results import compare, follow, show, verify
from tasklens.cli.run import data, measure, plot, run, train
from tasklens.cli.series import series
from tasklens.cli.signals import TerminatedError, end_by, raising
from tasklens.cli.sweep import gather, sweep
from tasklens.cli.usage import usage_message
from tasklens.core.environment import import_failure
from tasklens.core.errors import CellsFailedError, InputError, debugging
from tasklens.core.files import check_system
from tasklens.core.progress import Level, print_lines, print_traceback, reporting
from tasklens.models.torchrun import check_launch, is_other_rank, launched_by_torchrun

#: The base of all errors in how a command line is written: Click's ClickException, by way of
#: Typer, which carries its own Click in some versions and shares the common one in others.
_UsageError: Any = typer.BadParameter.__mro__[2]

#: The commands that torchrun may start.
TRAINING = ("run", "train")
#: The exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130

app = typer.Typer(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def tasklens(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
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
        emit(f"tasklens {package.__version__}")
    elif context.invoked_subcommand is None:
        emit(context.get_help())


add_command(
    app,
    run,
    "tasklens run smoke",
    "tasklens run default --out runs/first --set seed=1",
    "tasklens run paper --dry-run",
)
add_command(
    app,
    probe,
    "tasklens probe gpt2 --prompts tasks-in-words",
    "tasklens probe runs/first --prompts mine.jsonl --label topic --states embed,block5",
    "tasklens probe EleutherAI/pythia-70m --revision step0,step1000 --prompts mine.csv --dry-run",
    "tasklens probe --model base=ORG/NAME --model sft=ORG/NAME-SFT --untrained",
)
add_command(
    app,
    prompts,
    "tasklens prompts icl --tokenizer gpt2 --families verbs,countries",
    "tasklens prompts plain --tasks mine.toml --out mine.jsonl",
)
add_command(
    app,
    series,
    "tasklens series EleutherAI/pythia-70m",
    "tasklens series EleutherAI/pythia-70m --revision step0,step1000,main --json",
    "tasklens series runs/llama",
)
add_command(
    app,
    compare,
    "tasklens compare runs/first runs/second",
    "tasklens compare runs/first runs/second --json",
    "tasklens compare runs/first",
)
add_command(
    app,
    report,
    "tasklens report runs/first",
    "tasklens report runs/first runs/second --out both.html",
)
add_command(
    app,
    animate,
    "tasklens animate runs/first",
    "tasklens animate runs/first --layer block5 --map centroids --pace 0.3 --out block5.gif",
)
add_command(
    app,
    export,
    "tasklens export runs/first",
    "tasklens export runs/first --layer all --step all --out points.parquet",
    "tasklens export runs/first --to projector --layer block5",
)
add_command(
    app,
    show,
    "tasklens show runs/first",
    "tasklens show runs/first --json",
)
add_command(
    app,
    verify,
    "tasklens verify runs/seed-1 runs/seed-2 runs/seed-3",
    "tasklens verify runs/first --shuffled --out control.json",
)
add_command(
    app,
    follow,
    "tasklens follow runs/first",
    "tasklens follow runs/first --layer block5 --split val_subset",
)
add_command(
    app,
    data,
    "tasklens data smoke --out runs/first",
)
add_command(
    app,
    train,
    "tasklens train runs/first",
    "torchrun --nproc-per-node 2 -m tasklens train runs/first",
)
add_command(
    app,
    measure,
    "tasklens measure runs/first",
    "tasklens measure runs/first --set measure.k=[10,20,40]",
)
add_command(
    app,
    intervene,
    "tasklens intervene runs/first",
    "tasklens intervene runs/first --edit shift --edit random --state block4 --alpha 0.5 --alpha 2",
)
add_command(
    app,
    plot,
    "tasklens plot runs/first --set figure.space=tsne",
    "tasklens plot runs/first --style paper",
)
add_command(
    app,
    sweep,
    "tasklens sweep mine.toml --dry-run",
    "tasklens sweep mine.toml --workers 4",
    "tasklens sweep mine.toml --shard 1/8",
)
add_command(
    app,
    gather,
    "tasklens gather mine.toml",
)


def main() -> None:
    """Run the command line; an error of the user's is one line and exit status 2."""
    prepare_streams()
    # The processes of torchrun end at once: the others wait for them.
    signals = contextlib.nullcontext() if launched_by_torchrun() else raising()
    with reporting(Level.LINES), signals:
        status = _status()
    sys.exit(status)


def _status() -> int:
    """Run a command and return its exit status."""
    try:
        check_system()
        check_launch()
    except InputError as error:  # of each rank: which one it is, is not known
        print_lines(f"error: {error}")
        return 2
    try:
        status: int | None = app(standalone_mode=False)
    except InputError as error:
        return _print_error(str(error))
    except _UsageError as error:
        return _print_error(usage_message(error))
    except CellsFailedError as error:
        for cell, reason in error.reasons.items():
            print_lines(f"cell {cell} failed: {reason}")
        print_lines(error.again)
        return 1
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except TerminatedError as error:
        print_lines(f"ended by {error.name}; resume with --resume")
        return end_by(error.number)
    except ReaderLeftError:
        leave_pipe()
        return BROKEN_PIPE
    except OSError as error:
        if failure := import_failure(error):
            return _print_error(failure)
        return _print_error(f"{error.filename or 'writing'}: {error.strerror or error}")
    except Exception as error:
        if failure := import_failure(error):
            return _print_error(failure)
        raise
    if status == INTERRUPTED:  # some versions of Typer return it
        print_lines("interrupted; resume with --resume")
    return status or 0


def _print_error(message: str) -> int:
    if debugging():
        print_traceback()
    if not is_other_rank():  # rank 0 prints it for all ranks
        print_lines(f"error: {message}")
    return 2

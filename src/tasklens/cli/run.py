"""`tasklens run`, and a command for each of its stages: data, train, measure, plot."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasklens.cli.options import (
    Change,
    Device,
    Engine,
    Json,
    Out,
    Resume,
    RunPath,
    Source,
    Style,
    changed_run,
    check_device,
    emit_results,
    this_command,
    with_setting,
)
from tasklens.cli.output import emit, emit_json, emit_path
from tasklens.core.errors import InputError
from tasklens.models.torchrun import is_other_rank

if TYPE_CHECKING:
    from tasklens.runs.settings import TrainingRunSettings


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
    as_json: Json = False,
) -> None:
    """Run all stages, data to report, and test the paper's findings on the run.

    Prints the final table, a line for each finding, and the path of the report; the last line is
    the path of the figure.
    """
    from tasklens.runs.settings import load_settings

    settings = load_settings(source, with_setting(change, "train.device", device))
    if is_other_rank():
        if not dry_run:
            _train_with_rank_0(out or Path("runs") / Path(source).stem, settings)
        return
    if dry_run:
        from tasklens.runs.plan import make_plan

        plan = make_plan(settings)
        if as_json:
            emit_json(plan.document())
        else:
            emit(plan.text())
        return
    from tasklens.runs.pipeline import run_all

    check_device(settings.train.device, "train.device")
    results = run_all(
        Path(source).stem, settings, out, resume=resume, command=this_command(), engine=engine
    )
    emit_results(*results, as_json=as_json)


def data(
    source: Source = "default",
    change: Change = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Make a run directory with its data.

    Prints the path of the data.
    """
    from tasklens.runs.load_run import new_run
    from tasklens.runs.pipeline import begin, check_new
    from tasklens.runs.settings import load_settings
    from tasklens.runs.stage_data import make_data

    settings = load_settings(source, with_setting(change, "train.device", device))
    run = new_run(Path(source).stem, settings, out, resume=resume)
    check_new(run)
    with run.directory.locked():
        begin(run, this_command())
        make_data(run)
    emit_path(run.directory.data)


def train(path: RunPath) -> None:
    """Train the model, from the step at which it stopped.

    Harvests and keeps checkpoints on the way. Prints the path of the checkpoints.
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
    emit_path(run.directory.checkpoints)


def measure(path: RunPath, change: Change = None, engine: Engine = "local") -> None:
    """Cluster and score the harvested hidden states.

    With --set only clusters.*, measure.* and states.positions can change, e.g. clusters.n_init=20
    or measure.center=true; training and harvesting are not repeated. A position that is added, as
    in states.positions=["input","instruction_mean"], is harvested from the weights that were kept,
    or by reading the prompts again. Figures, verdict and report of the former scores are made
    again. Prints the path of the scores.
    """
    from tasklens.core.workers import opened, start_workers
    from tasklens.runs import stage_measure
    from tasklens.runs.more_positions import harvest_positions
    from tasklens.runs.pipeline import measure_and_renew

    run = changed_run(path, change, "clusters", "measure", "states.positions")
    with opened(engine), run.directory.locked():
        harvest_positions(run, engine)
        stage_measure.check_measurable(run)
        run.save_settings()
        with start_workers(engine, run.settings.workers) as workers:
            measure_and_renew(run, this_command(), workers)
    emit_path(run.directory.scores_csv)


def plot(path: RunPath, change: Change = None, style: Style = None) -> None:
    """Draw the figures from the scores.

    With --set only figure.* can change, e.g. figure.space=tsne. --style paper draws Figure 1 with
    two panels, dots by layer and a linear axis, to lay beside the paper's. Prints the path of the
    figure.
    """
    from tasklens.runs import stage_plot
    from tasklens.runs.pipeline import renew_results

    change = with_setting(change, "figure.style", style)
    run = changed_run(path, change, "figure")
    directory = run.directory
    with directory.locked():
        stage_plot.plot(run)
        run.save_settings()
        if change and directory.noted(directory.report) is not None:  # it shows the settings
            directory.remove(directory.report)
            renew_results(run, [directory.report], this_command())
    emit_path(run.directory.figure("png"))


def _train_with_rank_0(path: Path, settings: "TrainingRunSettings") -> None:
    from tasklens.runs.directory import RunDir
    from tasklens.runs.stage_train import train_with_rank_0
    from tasklens.runs.training_run import TrainingRun

    check_device(settings.train.device, "train.device")
    train_with_rank_0(TrainingRun(RunDir(path), settings))

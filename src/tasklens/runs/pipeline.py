"""The stages in order, each doing only what is missing: data, states, measure, plot, report."""

from pathlib import Path

from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.progress import inform
from tasklens.core.workers import LOCAL, Workers, check_workers, opened, start_workers
from tasklens.findings.verdict import Verdict
from tasklens.findings.verdict_text import verdict_json
from tasklens.interventions.settings import Selection
from tasklens.runs.edit_plan import tested_selection
from tasklens.runs.estimate import check_run
from tasklens.runs.frame_maker import FrameMaker
from tasklens.runs.load_run import new_run
from tasklens.runs.model_run import ModelRun
from tasklens.runs.more_positions import add_positions, check_weights
from tasklens.runs.run import Run
from tasklens.runs.settings import RunSettings, load_settings
from tasklens.runs.stage_data import make_data
from tasklens.runs.stage_intervene import intervene, intervene_for_figure
from tasklens.runs.stage_measure import measure, results_of
from tasklens.runs.stage_plot import plot
from tasklens.runs.stage_report import write_report
from tasklens.runs.stage_states import check_models, harvest_models
from tasklens.runs.stage_train import train
from tasklens.runs.training_run import TrainingRun
from tasklens.runs.verify import verify


def run(
    settings: RunSettings | Path | str = "default",
    out: Path | str | None = None,
    *,
    resume: bool = False,
    engine: str = LOCAL,
) -> Run:
    """Run every stage, data to report, as `tasklens run` and `tasklens probe` do.

    Parameters
    ----------
    settings : RunSettings, path or str
        Settings of a training run or of a model run; or a preset (``smoke``, ``default``,
        ``distributions``, ``paper``), or a TOML file, of a training run; see
        `tasklens.load_settings`.
    out : path, optional
        The run directory; by default ``runs/NAME``, by the preset or the file.
    resume : bool
        Resume a run that the directory holds already, doing only what is missing.
    engine : str
        Where the work is done: ``local``, or ``ray:ADDRESS`` for a Ray cluster.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If a setting is unknown or out of range, or if the directory holds something else.
    CellsFailedError
        If some hidden states could not be clustered; the others are done.

    Examples
    --------
    >>> import tasklens as tl
    >>> settings = tl.load_settings("smoke", {"train.steps": 8, "workers": 1})
    >>> tl.run(settings, out="runs/mine").steps
    (0, 1, 2, 4, 8)
    """
    name = "run" if isinstance(settings, RunSettings) else Path(settings).stem
    if not isinstance(settings, RunSettings):
        settings = load_settings(settings)
    finished, _, _ = run_all(
        name, settings, out, resume=resume, command="tasklens.run", engine=engine
    )
    return finished


def run_all(
    name: str,
    settings: RunSettings,
    out: Path | str | None,
    *,
    resume: bool,
    command: str,
    engine: str = LOCAL,
    gpus: float = 1.0,
) -> tuple[Run, Verdict | None, Path]:
    """Make or resume a run, from its data to its report; return it, its verdict and its page.

    For the name and the directory see `new_run`, for the command, the engine and the GPUs
    `make_states`. The frames of the report are made by the workers that have measured and edited,
    while this process draws the figures and tests the findings.
    """
    with opened(engine):
        run = new_run(name, settings, out, resume=resume)
        check_new(run)
        with run.directory.locked():
            make_states(run, command, engine, gpus)
            with start_workers(engine, run.settings.workers) as workers:
                beside = workers.count > 1 and not workers.remote
                frames = FrameMaker(run, workers) if beside else None
                if frames:
                    frames.begin_first()
                measure(run, workers)
                intervene_for_figure(run, None if workers.remote else workers)
                if frames:
                    frames.begin()
                plot(run)
                verdict = _judge(run)
                if frames:
                    frames.keep()
            page = write_report([run], [verdict], command)
    return run, verdict, page


def check_new(run: Run) -> None:
    """Raise InputError if this machine does not hold a run of these sizes, unless it has begun."""
    if isinstance(run, TrainingRun) and run.directory.mark("data") is None:
        check_run(run.settings, run.directory.path)
    else:
        check_workers(run.settings.workers, "workers")


def begin(run: Run, command: str) -> None:
    """Write the settings and the head of the manifest into a new or resumed run directory."""
    run.directory.begin(run.settings.seed, command)
    run.save_settings()


def make_states(run: Run, command: str, engine: str = LOCAL, gpus: float = 1.0) -> None:
    """Run the stages up to the hidden states; measure while training if cores allow.

    The manifest records the command. The engine (see `tasklens.core.workers.opened`) measures, and
    reads the prompts of a model run: on Ray a replica of a model on GPUs takes ``gpus`` of them.
    """
    if isinstance(run, ModelRun):
        check_models(run, engine)
    elif isinstance(run, TrainingRun):
        check_weights(run)
    begin(run, command)
    make_data(run)
    if isinstance(run, ModelRun):
        harvest_models(run, engine, gpus)
    elif isinstance(run, TrainingRun):
        train(run, engine, measuring=True)
        add_positions(run)


def finish_run(run: Run, command: str) -> Verdict | None:
    """Measure a run whose hidden states are there, and make its figures, verdict and report.

    The directory is locked by the caller. The manifest and the page record the command.
    """
    measure(run)
    plot(run)
    verdict = _judge(run)
    write_report([run], [verdict], command)
    return verdict


def measure_and_renew(run: Run, command: str, workers: Workers) -> None:
    """Measure a run, and make again what showed other scores.

    The directory is locked by the caller. If the best layer is another one, the random directions
    of its p value are drawn.
    """
    before = results_of(run)
    measure(run, workers)
    if selection := tested_selection(run):
        try:
            intervene(run, [selection], None if workers.remote else workers)
        except (InputError, CellsFailedError) as error:
            inform(f"the random directions are not drawn again: {error}")
    renew_results(run, before, command)


def edit_and_renew(
    run: Run, selection: Selection, command: str, workers: Workers | None = None
) -> Verdict | None:
    """Do what is missing of some edits, and make again what showed other effects.

    The directory is locked by the caller. Return the verdict if it was made again.
    """
    before = results_of(run)
    intervene(run, [selection], workers)
    return renew_results(run, before, command)


def renew_results(run: Run, before: list[Path], command: str) -> Verdict | None:
    """Make again those of the files `before`, from `results_of`, that are out of date.

    A stage has removed them. The manifest and the page record the command. Return the verdict if it
    was made again.
    """
    missing = {path for path in before if not path.exists()}
    if not missing:
        return None
    inform("the figures, the verdict and the report that were out of date are made again")
    directory = run.directory
    if any(path.parent == directory.figures for path in missing):
        plot(run)
    verdict = _judge(run) if missing & {directory.report, directory.verdict} else None
    if directory.report in missing:
        write_report([run], [verdict], command)
    return verdict


def _judge(run: Run) -> Verdict | None:
    """Return the verdict of a run and keep it, if it has layers to judge."""
    verdict = verify(run) if run.has_layers else None
    if verdict:
        content, path = verdict_json(verdict), run.directory.verdict
        if not run.directory.is_intact(path) or run.directory.read(path) != content:
            run.directory.write(path, content)
    return verdict

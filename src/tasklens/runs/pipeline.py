"""The stages in order, each doing only what is missing: data, states, measure, plot."""

from tasklens.core.workers import LOCAL
from tasklens.runs.model_run import ModelRun
from tasklens.runs.run import Run
from tasklens.runs.stage_data import make_data
from tasklens.runs.stage_measure import measure
from tasklens.runs.stage_plot import plot
from tasklens.runs.stage_states import check_models, harvest_models
from tasklens.runs.stage_train import train
from tasklens.runs.training_run import TrainingRun


def begin(run: Run, command: str) -> None:
    """Write the settings and the head of the manifest into a new or resumed run directory."""
    run.directory.begin(run.settings.seed, command)
    run.save_settings()


def run_stages(run: Run, command: str, engine: str = LOCAL, gpus: float = 1.0) -> None:
    """Run every stage that is not finished, in order; measure while training if cores allow.

    The manifest records the command. The engine (see `tasklens.core.workers.opened`) measures, and
    reads the prompts of a model run: on Ray a replica of a model on GPUs takes ``gpus`` of them.
    CellsFailedError if cells could not be measured; the others are.
    """
    if isinstance(run, ModelRun):
        check_models(run, engine)
    begin(run, command)
    make_data(run)
    if isinstance(run, ModelRun):
        harvest_models(run, engine, gpus)
    elif isinstance(run, TrainingRun):
        train(run, engine, measuring=True)
    measure(run, engine)
    plot(run)

"""A path to the run that it holds."""

from pathlib import Path

from tasklens.core.errors import InputError
from tasklens.core.settings import parse_toml
from tasklens.runs.directory import RunDir
from tasklens.runs.model_run import ModelRun
from tasklens.runs.run import Run
from tasklens.runs.settings import ModelRunSettings, RunSettings, TrainingRunSettings
from tasklens.runs.training_run import TrainingRun


def open_run(path: Path | str) -> Run:
    """Open a run directory: a `TrainingRun` or a `ModelRun`, whichever its settings are of.

    InputError if it is not a run directory, is of another format, or its settings are wrong.
    """
    directory = RunDir(path)
    try:
        content = directory.config.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} is not a run directory (no {directory.config.name}: {error.strerror}); "
            "make one with: tasklens run PRESET --out DIR"
        ) from error
    directory.check_format()
    table = parse_toml(content, str(directory.config))
    kind: type[RunSettings] = ModelRunSettings if "subject" in table else TrainingRunSettings
    return run_of(directory, kind.from_table(table, (), str(directory.config)))


def run_of(directory: RunDir, settings: RunSettings) -> Run:
    """Return the run of a directory under settings; nothing is read or written."""
    if isinstance(settings, ModelRunSettings):
        return ModelRun(directory, settings)
    return TrainingRun(directory, settings)

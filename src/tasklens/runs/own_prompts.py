"""Choose the prompts of a model run that names none."""

from pathlib import Path

from tasklens.core.progress import inform
from tasklens.data.dataset import MEASURED
from tasklens.data.prompt_readers import FEW_SHOT
from tasklens.runs.directory import RunDir
from tasklens.runs.load_run import load_run
from tasklens.runs.settings import ModelRunSettings
from tasklens.runs.training_run import TrainingRun


def with_own_prompts(settings: ModelRunSettings) -> ModelRunSettings:
    """Return settings that ask the models of one training run what this run has measured.

    The prompts are then its measured subsets, each a split. A model is of a run if it is named by
    the run's directory, by ``checkpoints`` in it, or by one of these. All other models get
    few-shot prompts, which are made for their tokenizer. A line names the prompts.

    Raises
    ------
    InputError
        If the run is damaged, or a file of its measured subsets is missing or damaged.
    """
    roots = [_training_run(Path(model)) for model in settings.subject.models]
    first = roots[0] if roots else None
    if first is None or any(root is None or not root.samefile(first) for root in roots):
        inform(
            "measured are few-shot prompts, made for the tokenizer of the model, since --prompts "
            "names no file"
        )
        return settings.changed(prompts=settings.prompts.changed(files=(FEW_SHOT,)))
    directory = RunDir(first)
    files = [directory.data / f"{name}.parquet" for name in MEASURED]
    for file in files:
        directory.check(file)
    inform(
        f"measured are the prompts of {first} itself ({', '.join(MEASURED)}), since --prompts "
        "names no file"
    )
    prompts = settings.prompts.changed(files=tuple(map(str, files)))
    return settings.changed(prompts=prompts)


def _training_run(model: Path) -> Path | None:
    """Return the directory of the training run that a model is of, or None."""
    checkpoints, run = model.absolute(), model.absolute().parent
    if checkpoints.parent.name == "checkpoints":
        checkpoints, run = checkpoints.parent, run.parent
    for path in (model, run):
        directory = RunDir(path)
        known = path == model or directory.checkpoints == checkpoints
        if known and directory.config.is_file() and directory.manifest.is_file():
            return path if isinstance(load_run(path), TrainingRun) else None
    return None

"""A path to the run that it holds."""

from pathlib import Path

from tasklens.core.errors import InputError
from tasklens.core.files import check_is_file, sha256
from tasklens.core.parse import parse_toml
from tasklens.runs.directory import RunDir
from tasklens.runs.model_run import ModelRun
from tasklens.runs.not_a_run import not_a_run
from tasklens.runs.run import Run
from tasklens.runs.settings import ModelRunSettings, RunSettings, TrainingRunSettings
from tasklens.runs.training_run import TrainingRun


def load_run(path: Path | str) -> Run:
    """Open a run directory: a `TrainingRun` or a `ModelRun`, whichever its settings are of.

    InputError if it is not a run directory, is of another format, or its settings are wrong.

    Examples
    --------
    >>> import tasklens as tl
    >>> run = tl.load_run("runs/smoke")
    >>> len(run.states("block2", split="val_subset")) == len(run.instances("val_subset").task)
    True
    """
    directory = RunDir(path)
    check_is_file(directory.config, "remove it")
    try:
        content = directory.config.read_bytes()
    except OSError as error:
        raise not_a_run(directory, error) from error
    directory.check_format()
    if directory.noted(directory.config) not in (None, sha256(content)):
        raise InputError(
            f"{directory.config} has changed since tasklens wrote it: its SHA-256 is not the one "
            f"in {directory.manifest.name}; restore it, or run again with --resume, which names "
            "the file to remove"
        )
    table = parse_toml(content, str(directory.config))
    kind: type[RunSettings] = ModelRunSettings if "subject" in table else TrainingRunSettings
    return run_of(directory, kind.from_table(table, (), str(directory.config)))


#: What differs if two runs have another first position.
FIRST_POSITION = "first of states.positions"


def first_difference(first: Run, second: Run, *, of_replicates: bool = False) -> str | None:
    """Return what differs first in the settings of two runs of a kind, or None if nothing does.

    See `SettingsBase.first_difference`. Runs may differ in the positions after the first, which no
    other result depends on.
    """
    mine, theirs = first.settings.positions, second.settings.positions
    # The default one is known from the prompts, which are read only if they have to be.
    if mine[:1] != theirs[:1] and first.positions[0] != second.positions[0]:
        return FIRST_POSITION
    same = second.settings.with_positions(mine)
    return first.settings.first_difference(same, of_replicates=of_replicates)


def check_first_position(before: Run, now: Run) -> None:
    """Raise InputError if a run would get another first position, which no file has the name of."""
    if first_difference(before, now) == FIRST_POSITION:
        raise InputError(
            f"{before.directory.path} has {before.positions[0]!r} as the first of its "
            "states.positions, which stays; name the others after it, or another directory with "
            "--out"
        )


def run_of(directory: RunDir, settings: RunSettings) -> Run:
    """Return the run of a directory under settings; nothing is read or written."""
    if isinstance(settings, ModelRunSettings):
        return ModelRun(directory, settings)
    return TrainingRun(directory, settings)


def new_run(default: str, settings: RunSettings, out: Path | str | None, *, resume: bool) -> Run:
    """Return the run to be made or resumed; InputError if the directory holds another one."""
    directory = RunDir(out or Path("runs") / default)
    holds_run = directory.data.exists() or directory.mark("data") is not None
    if holds_run and directory.config.exists():
        _check_config(directory, settings)
        before = load_run(directory.path)
        key: str | None = "kind"
        if type(before.settings) is type(settings):
            check_first_position(before, run_of(directory, settings))
            key = first_difference(before, run_of(directory, settings))
        if key:
            raise InputError(
                f"{directory.path} holds another run (its {key} differs); name another "
                "directory with --out"
            )
        if not resume:
            raise InputError(
                f"{directory.path} already holds this run; resume it with --resume, or name "
                "another directory with --out"
            )
    elif resume and directory.mark("data") is not None:  # the file of settings is gone
        directory.check_format()
        run = run_of(directory, settings)
        for stage in (stage for stage in run.before if directory.mark(stage) is not None):
            try:
                run.need(stage)
            except InputError as error:
                raise InputError(
                    f"{directory.config} is gone, and stage {stage} was finished under other "
                    "settings than these; give the settings of the run"
                ) from error
    elif not directory.is_new():
        raise InputError(
            f"{directory.path} is not empty and not a run directory; name another with --out"
        )
    return run_of(directory, settings)


def _check_config(directory: RunDir, settings: RunSettings) -> None:
    """Raise InputError that names the wrong one of two files if they do not belong together."""
    if directory.noted(directory.config) is None or directory.is_intact(directory.config):
        return
    if directory.config.is_file() and directory.config.read_bytes() == settings.toml().encode():
        raise InputError(
            f"{directory.manifest} is not of this run: it has another SHA-256 of "
            f"{directory.config.name}; remove {directory.manifest.name} and run again with --resume"
        )
    raise InputError(
        f"{directory.config} has changed since tasklens wrote it; remove it and run again with "
        "--resume and the settings of the run"
    )

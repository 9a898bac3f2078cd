"""The settings of a whole run: every stage's own, composed into one TOML file."""

import dataclasses
import difflib
import functools
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import tomlkit
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from tasklens.models.checkpoints import CheckpointSettings
from tasklens.clustering.cluster import ClusterSettings
from tasklens.clustering.map_frames import ReportSettings
from tasklens.data.synthetic import DataSettings
from tasklens.core.errors import InputError
from tasklens.report.figure1 import FigureSettings
from tasklens.models.gpt2 import ModelSettings
from tasklens.core.workers import default_workers
from tasklens.core.settings import CONFIG, one_line
from tasklens.data.tasks import TaskSettings
from tasklens.models.training import TrainSettings

#: Settings on which no result depends.
MEANS = ("workers", "fsdp")
PRESETS = ("smoke", "default", "paper")
#: From so many cores on, a quarter of them measures while the others train.
MANY_CORES = 8


@dataclass(frozen=True, config=CONFIG)
class Settings:
    """All settings of a run, a table of the TOML file for each stage."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Root seed; the tasks, the data, the weights, the batches and KMeans all derive from it."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that measure; 0: one a core; 1: none but this. No result depends on it."""
    fsdp: bool = False
    """Where torchrun starts several processes to train: split weights, gradients and moments over
    them (FSDP2), for a model that no device holds with all of these, in the place of a copy in each
    (DDP). No result depends on it but in its last bits."""
    tasks: TaskSettings = dataclasses.field(default_factory=TaskSettings)
    """The tasks and their instructions."""
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    """How the instances are split, and which are measured."""
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    """The size and the initialisation of GPT-2."""
    train: TrainSettings = dataclasses.field(default_factory=TrainSettings)
    """The optimiser and its schedule."""
    checkpoints: CheckpointSettings = dataclasses.field(default_factory=CheckpointSettings)
    """When a checkpoint is taken and what is kept of it."""
    clusters: ClusterSettings = dataclasses.field(default_factory=ClusterSettings)
    """How the hidden states are clustered."""
    figure: FigureSettings = dataclasses.field(default_factory=FigureSettings)
    """What the figure shows."""
    report: ReportSettings = dataclasses.field(default_factory=ReportSettings)
    """What the report shows of the measured instances."""

    def __post_init__(self) -> None:
        """Check what spans two tables."""
        instances = self.data.measured_instances
        if self.clusters.tsne != "none" and self.clusters.perplexity >= instances:
            raise ValueError(
                f"clusters.perplexity = {self.clusters.perplexity:g} must be less than "
                f"data.measured_instances = {instances}; t-SNE is best with a third of it or less"
            )

    @property
    def cores_training(self) -> int:
        """CPU threads that train."""
        cores = default_workers()
        if self.train.device != "cpu":
            return self.train.threads or 1
        return self.train.threads or (cores if cores < MANY_CORES else cores - cores // 4)

    @property
    def cores_beside(self) -> int:
        """Processes that measure while training goes on: as many as there are cores left."""
        if self.workers == 1:
            return 0
        left = default_workers() - self.cores_training
        return max(0, min(left, self.workers or left))


def load_settings(source: str, changes: Iterable[str] = ()) -> Settings:
    """Load a preset or a TOML file, with changes.

    Parameters
    ----------
    source : str
        One of `PRESETS`, or the path of a TOML file.
    changes : iterable of str
        Each ``table.key=value``, the value as TOML writes it; a bare word is a string.

    Raises
    ------
    InputError
        For an unknown key (naming the nearest known one), a value out of range, a file that is
        missing or is not TOML.
    """
    if source in PRESETS:
        content = resources.files("tasklens").joinpath(f"runs/presets/{source}.toml").read_bytes()
    elif source.endswith(".toml"):
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror}") from error
    else:
        raise InputError(f"{source!r} is neither a preset ({', '.join(PRESETS)}) nor a .toml file")
    settings: Settings = change_settings(_parse(content, source), changes, where=source)
    return settings


def change_settings(
    table: Mapping[str, Any],
    changes: Iterable[str],
    where: str = "",
    kind: type[Any] = Settings,
) -> Any:
    """Return the settings of a table of tables with ``table.key=value`` changes applied.

    Parameters
    ----------
    table : mapping
    changes : iterable of str
    where : str
        What error messages call the table, e.g. the path of its file.
    kind : type
        The dataclass of dataclasses that they are the settings of.

    Raises
    ------
    InputError
        For an unknown key, or a value out of range.
    """
    values = _flat(table, kind)
    for key in values:
        check_key(key, where, kind)
    changed = set()
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"--set {change}: should be key=value, e.g. train.steps=100")
        check_key(key.strip(), "--set", kind)
        values[key.strip()] = _value(text.strip())
        changed.add(key.strip().partition(".")[0])
    kinds = {f.name: f.type for f in dataclasses.fields(kind)}
    tables: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    for key, value in values.items():
        name, dot, rest = key.partition(".")
        if dot:
            tables.setdefault(name, {})[rest] = value
        else:
            top[name] = value
    for name, inner in tables.items():
        inner_kind: Any = kinds[name]
        try:
            top[name] = inner_kind(**inner)
        except ValidationError as error:
            raise _named(one_line(error, name), where, name in changed) from error
    try:
        return kind(**top)
    except ValidationError as error:
        raise _named(one_line(error), where, bool(changed)) from error


def settings_table(settings: Any) -> dict[str, Any]:
    """Return the settings as plain tables of strings, numbers and lists."""
    return dataclasses.asdict(settings)


def settings_toml(settings: Any) -> str:
    """Write the settings as TOML, every key under its meaning."""
    document = tomlkit.document()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            table = tomlkit.table()
            _comment(table, type(settings), field.name)
            for inner in dataclasses.fields(value):
                _comment(table, type(value), inner.name)
                plain = getattr(value, inner.name)
                table.add(inner.name, list(plain) if isinstance(plain, tuple) else plain)
            document.add(field.name, table)
        else:
            _comment(document, type(settings), field.name)
            document.add(field.name, value)
    return tomlkit.dumps(document)


def read_settings(path: Path, kind: type[Any] = Settings) -> Any:
    """Read the ``config.toml`` of a run directory."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path.parent} is not a run directory (no {path.name}: {error.strerror}); "
            "make one with: tasklens data PRESET --out DIR"
        ) from error
    return change_settings(_parse(content, str(path)), (), where=str(path), kind=kind)


def known_keys(kind: type[Any] = Settings) -> tuple[str, ...]:
    """Return every key, ``table.key`` where it stands in a table."""
    return _known_keys(kind)  # type: ignore[arg-type]


@functools.cache
def _known_keys(kind: Any) -> tuple[str, ...]:
    return tuple(_flat(settings_table(kind()), kind))


def _comment(table: Any, kind: Any, name: str) -> None:
    description = " ".join(kind.__pydantic_fields__[name].description.split())
    for line in textwrap.wrap(description, 98):
        table.add(tomlkit.comment(line))


def _named(error: InputError, where: str, changed: bool) -> InputError:
    """Say in which file the value stands, unless it may be one from the command line."""
    return error if changed or not where or where in PRESETS else InputError(f"{where}: {error}")


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # of TOML, or of UTF-8
        raise InputError(f"{where} is not TOML: {error}") from error


def _flat(table: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    tables = [f.name for f in dataclasses.fields(kind) if dataclasses.is_dataclass(f.type)]
    for key, value in table.items():
        if isinstance(value, Mapping) and (value or key in tables):
            flat |= {f"{key}.{inner}": v for inner, v in value.items()}
        else:
            flat[key] = value
    return flat


def check_key(key: str, where: str, kind: type[Any] = Settings) -> None:
    """Raise InputError, which begins with ``where``, for a key that is no setting."""
    known = known_keys(kind)
    if key in known:
        return
    by_last = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
    near = by_last or difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise InputError(f"{where}: no setting {key!r}; the nearest is {near[0]!r}")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

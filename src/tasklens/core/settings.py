"""What all settings classes share: bounds, TOML in and out, ``--set``, and what each one affects.

A stage's settings are a frozen class whose fields each carry a docstring and bounds; pydantic
checks them once, on construction. A run's settings hold one such class per TOML table.
"""

import difflib
import functools
import json
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, get_args

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasklens.core.errors import InputError

#: Where something runs: cpu, cuda or cuda:N.
Device: TypeAlias = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]

Stage: TypeAlias = Literal["data", "train", "states", "measure", "plot", "report", "nothing"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Affects:
    """What a setting changes: the one declaration that hashes, comparisons and names derive from.

    A settings class declares it for all its fields (``class TrainSettings(SettingsBase,
    affects="train")``), a field for itself (``Annotated[int, Affects("nothing")]``).
    """

    stage: Stage
    """The first stage whose result depends on it."""
    rounding: bool = False
    """Whether the result depends on it in the last bits only, so that runs remain comparable."""
    replicate: bool = False
    """Whether runs that differ in it alone are replicates, which are judged together."""


class SettingsBase(BaseModel):
    """Base of the settings of a stage, and of a whole run."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )
    #: Of every field that does not declare it.
    affects: ClassVar[Affects] = Affects("nothing")
    #: Settings of earlier versions that are gone, with what to do instead.
    removed: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, affects: Stage | Affects | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if affects:
            cls.affects = affects if isinstance(affects, Affects) else Affects(affects)

    @classmethod
    def from_table(
        cls, table: Mapping[str, Any], changes: Iterable[str] = (), where: str = ""
    ) -> Self:
        """Return the settings of a table of tables, with ``table.key=value`` changes applied.

        Values are as TOML writes them; a bare word is a string. ``where`` is what errors call the
        table, e.g. the path of its file. InputError for an unknown key, which names the nearest
        known one, or for a value out of range.
        """
        given, changed = cls._flattened(table), dict[str, Any]()
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals:
                raise InputError(f"--set {change}: should be key=value, e.g. train.steps=100")
            key, value = key.strip(), _value(text.strip())
            if key in changed:
                raise InputError(
                    f"--set {key} is given twice: {changed[key]} and {value}; give it once"
                )
            changed[key] = value
        for key in (*given, *changed):
            cls.check_key(key, where if key in given else "--set")
        nested: dict[str, Any] = {}
        for key, value in (given | changed).items():
            name, _, inner = key.rpartition(".")
            (nested.setdefault(name, {}) if name else nested)[inner] = value
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            place = error.errors(include_url=False)[0]["loc"]
            tables = {key.partition(".")[0] for key in changed}
            from_changes = place[0] in tables if place else bool(tables)
            message = one_line(error)
            raise (
                InputError(f"{where}: {message}") if where and not from_changes else message
            ) from error

    @classmethod
    def from_toml(cls, content: bytes, where: str, changes: Iterable[str] = ()) -> Self:
        """Return the settings of a TOML file's content; see `from_table`."""
        return cls.from_table(parse_toml(content, where), changes, where)

    def toml(self) -> str:
        """Return the settings as TOML, every key below its meaning."""
        document = tomlkit.document()
        _fill(document, self)
        return tomlkit.dumps(document)

    def changed(self, **changes: Any) -> Self:
        """Return a copy with some fields changed and checked."""
        return type(self)(**(dict(self) | changes))

    def flat(self) -> dict[str, Any]:
        """Return every setting by its key, ``table.key`` within a table."""
        return self._flattened(self.model_dump())

    def affecting(self, *stages: Stage) -> dict[str, Any]:
        """Return the settings, by key, that these stages are the first to depend on."""
        declared = self.declared()
        return {key: value for key, value in self.flat().items() if declared[key].stage in stages}

    @property
    def replicate(self) -> str:
        """What tells a run from its replicates, as JSON."""
        declared = self.declared()
        return json.dumps({k: v for k, v in self.flat().items() if declared[k].replicate})

    def first_difference(self, other: "SettingsBase", *, of_replicates: bool = False) -> str | None:
        """Return the first key in which the results of other settings may differ, or None.

        Replicates may also differ in what makes them replicates, what changes the last bits, and
        what only figures and the report depend on.
        """
        mine, theirs = self.flat(), other.flat()
        for key, affects in self.declared().items():
            ignored = affects.stage == "nothing" or (
                of_replicates
                and (affects.replicate or affects.rounding or affects.stage in ("plot", "report"))
            )
            if not ignored and mine[key] != theirs[key]:
                return key
        return None

    @classmethod
    @functools.cache
    def declared(cls) -> dict[str, Affects]:
        """Return what each setting affects, by key."""
        declared: dict[str, Affects] = {}
        for name, field in cls.model_fields.items():
            if table := _table_class(cls, name):
                declared |= {f"{name}.{key}": a for key, a in table.declared().items()}
            else:
                own = (each for each in field.metadata if isinstance(each, Affects))
                declared[name] = next(own, cls.affects)
        return declared

    @classmethod
    def check_key(cls, key: str, where: str) -> None:
        """Raise InputError, which begins with ``where``, for a key that is no setting."""
        known = tuple(cls.declared())
        if key in known:
            return
        if key in cls.removed:
            raise InputError(f"{where}: the setting {key} is gone: {cls.removed[key]}")
        by_last = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
        near = by_last or difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        raise InputError(f"{where}: no setting {key!r}; the nearest is {near[0]!r}")

    @classmethod
    def _flattened(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in table.items():
            if isinstance(value, Mapping) and (value or _table_class(cls, key)):
                flat |= {f"{key}.{inner}": v for inner, v in value.items()}
            else:
                flat[key] = value
        return flat


def parse_toml(content: bytes, where: str) -> dict[str, Any]:
    """Return the tables of a TOML file's content; InputError if it is none."""
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # of TOML, or of UTF-8
        raise InputError(f"{where} is not TOML: {error}") from error


def one_line(error: ValidationError) -> InputError:
    """Turn pydantic's report into one line that names the first bad key and what would be right."""
    first: dict[str, Any] = dict(error.errors(include_url=False)[0])
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    key = ".".join(map(str, first["loc"]))
    if isinstance(first["input"], Mapping | SettingsBase):  # what spans several keys names them
        return InputError(f"{key}: {message}" if key else message)
    return InputError(f"{key} = {first['input']!r}: {message}")


def _table_class(kind: type[SettingsBase], name: str) -> type[SettingsBase] | None:
    field = kind.model_fields.get(name)
    annotation: Any = field.annotation if field else None
    is_table = isinstance(annotation, type) and issubclass(annotation, SettingsBase)
    return annotation if is_table else None


def _fill(table: Any, settings: SettingsBase) -> None:
    """Add settings to a TOML table: plain ones first, then tables in the order of stages."""

    def rank(item: tuple[str, Any]) -> int:
        nested = isinstance(item[1], SettingsBase)
        return 1 + STAGES.index(item[1].affects.stage) if nested else 0

    for name, value in sorted(settings, key=rank):
        nested = isinstance(value, SettingsBase)
        described = tomlkit.table() if nested else table
        description = type(settings).model_fields[name].description or ""
        for line in textwrap.wrap(" ".join(description.split()), 98):
            described.add(tomlkit.comment(line))
        if nested:
            _fill(described, value)
            table.add(name, described)
        else:
            table.add(name, list(value) if isinstance(value, tuple) else value)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

"""Base of all settings classes: bounds, TOML in and out, ``--set``, and what each setting affects.

The settings of a stage are a frozen class. Each field has a docstring and bounds, which pydantic
checks once, on construction. The settings of a run hold one such class per TOML table.
"""

import difflib
import functools
import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    get_args,
    overload,
)

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasklens.core.errors import InputError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

S = TypeVar("S", bound="SettingsBase")
T = TypeVar("T", bound="SettingsBase")

#: A device: cpu, cuda or cuda:N.
Device: TypeAlias = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]

Stage: TypeAlias = Literal[
    "data", "train", "states", "measure", "interventions", "plot", "report", "nothing"
]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Affects:
    """Declaration of what a setting changes, from which hashes, comparisons and names derive.

    A settings class declares it for all its fields (``class TrainSettings(SettingsBase,
    affects="train")``), a field for itself (``Annotated[int, Affects("nothing")]``).
    """

    stage: Stage
    """First stage whose result depends on the setting."""
    rounding: bool = False
    """Whether the setting changes the last bits only, so that runs remain comparable."""
    replicate: bool = False
    """Whether runs that differ in this setting alone are replicates, which are judged together."""


class _OneLineErrors(ModelMetaclass):
    """Turn the errors of a wrong keyword or value into InputError, as `from_table` does."""

    def __call__(cls, *args: Any, **values: Any) -> Any:  # noqa: N805
        _check_fields(values, {cls.__name__: tuple(getattr(cls, "model_fields", ()))})
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise one_line(error) from None


class SettingsBase(BaseModel, metaclass=_OneLineErrors):
    """Base of the settings of a stage, and of a whole run."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )
    #: What each field affects that has no declaration.
    affects: ClassVar[Affects] = Affects("nothing")
    #: Settings of earlier versions that were removed, with what to do instead.
    removed: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, affects: Stage | Affects | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if affects:
            cls.affects = affects if isinstance(affects, Affects) else Affects(affects)

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        for key, value in self:
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and re.search(r"[\ud800-\udfff]", text):
                    raise ValueError(
                        f"{key} = {text!r}: is not UTF-8, in which settings are written: rename it"
                    )
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self).__name__
        raise InputError(f"{kind} cannot be changed; make a copy with .changed({name}={value!r})")

    @classmethod
    def from_table(
        cls,
        table: Mapping[str, Any],
        changes: Iterable[str] | Mapping[str, Any] = (),
        source: str = "",
    ) -> Self:
        """Return the settings of a table of tables, with changes applied.

        Changes are values by key, or lines ``table.key=value`` with values as TOML writes them, in
        which a bare word is a string. ``source`` is the name of the table in messages, e.g. the
        path of its file. InputError for a value out of range, or for an unknown key, with the
        nearest known one.
        """
        given = cls._flattened(table)
        if isinstance(changes, Mapping):
            changed, option = cls._flattened(changes), "changes"
        else:
            changed, option = _parse_changes(changes), "--set"
        for key in (*given, *changed):
            cls.check_key(key, source if key in given else option)
        nested: dict[str, Any] = {}
        for key, value in (given | changed).items():
            name, _, inner = key.rpartition(".")
            (nested.setdefault(name, {}) if name else nested)[inner] = value
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            location = error.errors(include_url=False)[0]["loc"]
            tables = {key.partition(".")[0] for key in changed}
            from_changes = location[0] in tables if location else bool(tables)
            message = one_line(error)
            raise (
                InputError(f"{source}: {message}") if source and not from_changes else message
            ) from error

    @classmethod
    def from_toml(
        cls, content: bytes, source: str, changes: Iterable[str] | Mapping[str, Any] = ()
    ) -> Self:
        """Return the settings of a TOML file's content; see `from_table`."""
        return cls.from_table(parse_toml(content, source), changes, source)

    def toml(self) -> str:
        """Return the settings as TOML, with a comment above each key."""
        document = tomlkit.document()
        _fill(document, self)
        return tomlkit.dumps(document)

    def changed(self, **changes: Any) -> Self:
        """Return a checked copy with some fields changed."""
        return type(self)(**(dict(self) | changes))

    def flat(self) -> dict[str, Any]:
        """Return every setting by its key, ``table.key`` within a table."""
        return self._flattened(self.model_dump())

    def affecting(self, *stages: Stage) -> dict[str, Any]:
        """Return the settings, by key, whose first affected stage is one of these."""
        declared = self.declared()
        return {key: value for key, value in self.flat().items() if declared[key].stage in stages}

    @property
    def replicate(self) -> str:
        """The settings in which replicates of a run may differ, as JSON."""
        declared = self.declared()
        return json.dumps({k: v for k, v in self.flat().items() if declared[k].replicate})

    def first_difference(self, other: "SettingsBase", *, of_replicates: bool = False) -> str | None:
        """Return the first key whose value may change the results, or None if there is none.

        With ``of_replicates``, three kinds of settings are also ignored: those that define
        replicates, those that change the last bits only, and those of the figures and the report.
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
    def check_key(cls, key: str, source: str) -> None:
        """Raise InputError, which begins with ``source``, for a key that is no setting."""
        known = tuple(cls.declared())
        if key in known:
            return
        if key in cls.removed:
            raise InputError(f"{source}: the setting {key} was removed: {cls.removed[key]}")
        by_last = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
        nearest = by_last[0] if by_last else _nearest(key, known)
        raise InputError(f"{source}: no setting {key!r}; the nearest is {nearest!r}")

    @classmethod
    def _flattened(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in table.items():
            if isinstance(value, Mapping) and (value or _table_class(cls, key)):
                flat |= {f"{key}.{inner}": v for inner, v in value.items()}
            else:
                flat[key] = value
        return flat


@overload
def with_keywords(values: Mapping[str, Any], first: S, /) -> tuple[S]: ...
@overload
def with_keywords(values: Mapping[str, Any], first: S, second: T, /) -> tuple[S, T]: ...
def with_keywords(values: Mapping[str, Any], *settings: SettingsBase) -> tuple[SettingsBase, ...]:
    """Return settings with some fields changed, each in the class that has this field.

    InputError for a value out of range, or for a name that no class has, with the nearest field.
    """
    _check_fields(values, {type(each).__name__: type(each).model_fields for each in settings})
    return tuple(
        each.changed(**{name: values[name] for name in type(each).model_fields if name in values})
        for each in settings
    )


def _check_fields(names: Iterable[str], fields: Mapping[str, Iterable[str]]) -> None:
    """Raise InputError for a name that is no field of any class, given the fields by class."""
    known = [field for each in fields.values() for field in each]
    for name in names:
        if name not in known:
            near = _nearest(name, known)
            raise InputError(
                f"{' or '.join(fields)} has no field {name!r}; the nearest is {near!r}"
            )


def _nearest(name: str, known: Sequence[str]) -> str:
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def parse_toml(content: bytes, source: str) -> dict[str, Any]:
    """Return the tables of a TOML file's content; InputError if it is not TOML."""
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # not TOML, or not UTF-8
        raise InputError(f"{source} is not TOML: {error}") from error


def one_line(error: ValidationError) -> InputError:
    """Turn pydantic's report into one line: the first invalid key and what would be right."""
    first: dict[str, Any] = dict(error.errors(include_url=False)[0])
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    key = ".".join(map(str, first["loc"]))
    if isinstance(first["input"], Mapping | SettingsBase):  # the message itself names the keys
        return InputError(f"{key}: {message}" if key else message)
    return InputError(f"{key} = {first['input']!r}: {message}")


def _table_class(kind: type[SettingsBase], name: str) -> type[SettingsBase] | None:
    field = kind.model_fields.get(name)
    annotation: Any = field.annotation if field else None
    is_table = isinstance(annotation, type) and issubclass(annotation, SettingsBase)
    return annotation if is_table else None


def _fill(table: Any, settings: SettingsBase) -> None:
    """Add settings to a TOML table: plain values first, then tables in the order of stages."""

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


def _parse_changes(lines: Iterable[str]) -> dict[str, Any]:
    """Return the changes of ``--set``, by key; InputError if one is none, or if a key repeats."""
    changed: dict[str, Any] = {}
    for line in lines:
        key, equals, text = line.partition("=")
        if not equals:
            raise InputError(f"--set {line}: should be key=value, e.g. train.steps=100")
        key, value = key.strip(), _value(text.strip())
        if key in changed:
            raise InputError(
                f"--set {key} is given twice: {changed[key]} and {value}; give it once"
            )
        changed[key] = value
    return changed


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

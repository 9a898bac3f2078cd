"""Base of all settings classes: bounds, TOML in and out, ``--set``, and what each setting affects.

The settings of a stage are a frozen class. Each field has a docstring and bounds, which pydantic
checks once, on construction. The settings of a run hold one such class per TOML table.
"""

import functools
import json
import re
import textwrap
from collections.abc import Iterable, Mapping
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
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tasklens.core.errors import InputError
from tasklens.core.messages import nearest, remedy, short
from tasklens.core.parse import parse_changes, parse_toml

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

S = TypeVar("S", bound="SettingsBase")
T = TypeVar("T", bound="SettingsBase")


def check_device_name(device: str, others: str = "") -> str:
    """Return the name of a device; ValueError, which may list others, if it is none."""
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]*))?", device):
        raise ValueError(f"should be {others}cpu, cuda or cuda:N, e.g. cuda:0")
    return device


#: A device: cpu, cuda or cuda:N.
Device: TypeAlias = Annotated[str, AfterValidator(check_device_name)]


def _as_tuple(value: Any) -> Any:
    """Return a text as a tuple of it, or of nothing if it is empty."""
    return ((value,) if value else ()) if isinstance(value, str) else value


#: Names of columns; a single one may be given as a text.
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]

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
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )
    #: What each field affects that has no declaration.
    affects: ClassVar[Affects] = Affects("nothing")
    #: Settings of earlier versions that were removed, with what to do instead.
    removed: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, affects: Stage | Affects | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if affects:
            cls.affects = affects if isinstance(affects, Affects) else Affects(affects)

    @field_validator("*", mode="before")
    @classmethod
    def _check_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse numbers beyond 64 bits, which no array holds, and true or false as a number."""
        numbers = {int: "a whole number", float: "a number", tuple[int, ...]: "whole numbers"}
        kind = cls.model_fields[str(info.field_name)].annotation
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, bool) and kind in numbers:
                raise ValueError(f"should be {numbers[kind]}, not true or false")
            if isinstance(each, int) and abs(each) >= 2**63:
                raise ValueError("should be a number below 2^63")
        return value

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        for key, value in self:
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and re.search(r"[\0\ud800-\udfff]", text):
                    reason = "has a NUL" if "\0" in text else "is not UTF-8"
                    raise ValueError(
                        f"{key} = {short(text)}: {reason}: settings are written in UTF-8, without "
                        "NUL: rename it"
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
            lines = [changes] if isinstance(changes, str) else changes
            changed, option = parse_changes(lines), "--set"
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
        raise InputError(
            f"{source}: no setting {short(key)}; the nearest is {nearest(key, known)!r}"
        )

    @classmethod
    def _flattened(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in table.items():
            if isinstance(value, Mapping) and (value or _table_class(cls, key)):
                flat |= {f"{key}.{inner}": v for inner, v in value.items()}
            else:
                flat[str(key)] = value
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
            raise InputError(
                f"{' or '.join(fields)} has no field {short(name)}; the nearest is "
                f"{nearest(name, known)!r}"
            )


def one_line(error: ValidationError) -> InputError:
    """Turn pydantic's report into one line: the first invalid key and what would be right."""
    fault = error.errors(include_url=False)[0]
    key, message = ".".join(map(str, fault["loc"])), remedy(fault)
    if isinstance(fault["input"], Mapping | SettingsBase):  # the message itself names the keys
        return InputError(f"{key}: {message}" if key else message)
    return InputError(f"{key} = {short(fault['input'])}: {message}")


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

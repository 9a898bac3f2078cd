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
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
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

        Parameters
        ----------
        table : mapping
        changes : iterable of str
            The value as TOML writes it; a bare word is a string.
        where : str
            What error messages call the table, e.g. the path of its file.

        Raises
        ------
        InputError
            For an unknown key (naming the nearest known one), or a value out of range.
        """
        values = cls._flattened(table)
        for key in values:
            cls.check_key(key, where)
        changed = set()
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals:
                raise InputError(f"--set {change}: should be key=value, e.g. train.steps=100")
            cls.check_key(key.strip(), "--set")
            values[key.strip()] = _value(text.strip())
            changed.add(key.strip().partition(".")[0])
        nested: dict[str, Any] = {}
        for key, value in values.items():
            name, dot, rest = key.partition(".")
            if dot:
                nested.setdefault(name, {})[rest] = value
            else:
                nested[name] = value
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            location = error.errors(include_url=False)[0]["loc"]
            from_file = where and (location[0] not in changed if location else not changed)
            message = one_line(error)
            raise (InputError(f"{where}: {message}") if from_file else message) from error

    @classmethod
    def from_toml(cls, content: bytes, where: str, changes: Iterable[str] = ()) -> Self:
        """Return the settings of a TOML file's content; see `from_table`."""
        return cls.from_table(parse_toml(content, where), changes, where)

    def toml(self) -> str:
        """Return the settings as TOML, every key below its meaning."""
        document = tomlkit.document()
        for name, value in sorted(self, key=lambda item: _rank(item[1])):
            if isinstance(value, SettingsBase):
                table = tomlkit.table()
                _comment(table, type(self), name)
                for inner, plain in value:
                    _comment(table, type(value), inner)
                    table.add(inner, list(plain) if isinstance(plain, tuple) else plain)
                document.add(name, table)
            else:
                _comment(document, type(self), name)
                document.add(name, value)
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
        flat = {key: value for key, value in self.flat().items() if declared[key].replicate}
        return json.dumps(flat)

    def first_difference(self, other: "SettingsBase", *, of_replicates: bool = False) -> str | None:
        """Return the first key in which the results of other settings may differ, or None.

        Parameters
        ----------
        other : SettingsBase
            Of the same class.
        of_replicates : bool
            Do not count what replicates differ in, nor what changes the last bits, nor what only
            figures and the report depend on.
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
    def declared(cls) -> dict[str, Affects]:
        """Return what each setting affects, by key."""
        return _declared(cls)

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


@functools.cache
def _declared(kind: type[SettingsBase]) -> dict[str, Affects]:
    declared: dict[str, Affects] = {}
    for name, field in kind.model_fields.items():
        table = _table_class(kind, name)
        if table:
            declared |= {f"{name}.{key}": affects for key, affects in _declared(table).items()}
        else:
            own = [each for each in field.metadata if isinstance(each, Affects)]
            declared[name] = own[0] if own else kind.affects
    return declared


def _rank(value: Any) -> int:
    """Return the place of a setting in a file: plain ones first, then tables in order of stages."""
    return 1 + STAGES.index(value.affects.stage) if isinstance(value, SettingsBase) else 0


def _comment(table: Any, kind: type[SettingsBase], name: str) -> None:
    description = " ".join((kind.model_fields[name].description or "").split())
    for line in textwrap.wrap(description, 98):
        table.add(tomlkit.comment(line))


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

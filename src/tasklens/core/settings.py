"""What every stage's settings have in common.

A stage's settings are a frozen dataclass whose fields each carry a docstring and bounds; pydantic
checks them once, on construction.
"""

from typing import Annotated, Any, TypeAlias

from pydantic import ConfigDict, Field, ValidationError

from tasklens.core.errors import InputError

#: Passed to `pydantic.dataclasses.dataclass` by every settings class.
CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_default=True)

#: Where something runs: cpu, cuda or cuda:N.
Device: TypeAlias = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]


def one_line(error: ValidationError, where: str = "") -> InputError:
    """Turn pydantic's report into one line that names the first bad key and what would be right."""
    first: dict[str, Any] = dict(error.errors(include_url=False)[0])
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    key = ".".join([where, *map(str, first["loc"])]).strip(".")
    if not first["loc"]:  # what spans several keys names them itself
        return InputError(f"{key}: {message}" if key else message)
    return InputError(f"{key} = {first['input']!r}: {message}")

"""Common behaviour of commands: shared options, examples in the help, no option given twice."""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tasklens.cli.usage import command_message
from tasklens.core import progress
from tasklens.core.errors import InputError

#: Where the documentation is, in the repository.
DOCS = "docs/reference/cli.md, and docs/index.md with all pages"

#: Options with a path, which may not be empty: an empty path is the working directory.
_PATHS = ("--out", "--prompts")

_Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print results, warnings and errors only: no progress.")
]
_Verbose = Annotated[
    bool, typer.Option("--verbose", help="Also print details: files, precision, what was done.")
]
_Debug = Annotated[
    bool, typer.Option("--debug", help="Also print an error's traceback, as with TASKLENS_DEBUG=1.")
]
_COMMON: dict[str, Any] = {"quiet": _Quiet, "verbose": _Verbose, "debug": _Debug}


class Commands(TyperGroup):
    """The commands, of which an unknown one is refused with the nearest."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return a command by the first of some words; InputError if there is none."""
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            raise InputError(command_message(args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


class OnceOnly(TyperCommand):
    """A command that refuses an option with one value if it is given twice, and empty paths."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; InputError for an option given twice, or an empty path."""
        if not ctx.resilient_parsing:  # which completes a command line
            self._check_repeated(ctx, args)
        return super().parse_args(ctx, args)

    def _check_repeated(self, ctx: Any, args: list[str]) -> None:
        parameters: list[Any] = self.get_params(ctx)  # of Click, which some versions of Typer carry
        with_value = {
            option: parameter
            for parameter in parameters
            if parameter.param_type_name == "option" and not parameter.is_flag
            for option in parameter.opts
        }
        values: dict[str, list[str]] = {}
        rest = iter(args)
        for word in rest:
            if word == "--":
                break
            option, equals, value = word.partition("=")
            if option in with_value:
                values.setdefault(option, []).append(value if equals else next(rest, "-"))
            elif not word:  # as of a variable of the shell that is not set
                raise InputError(f"an argument of tasklens {self.name} is empty; see --help")
        for option, given in values.items():
            if "" in given and option in _PATHS:
                raise InputError(f"{option} is empty: should be a path")
            if len(given) > 1 and not with_value[option].multiple:
                raise InputError(f"{option} is given twice: {' and '.join(given)}; give it once")


def add_command(app: typer.Typer, function: Callable[..., Any], *examples: str) -> None:
    """Add a function as a command of its name, with the common options and examples."""

    @functools.wraps(function)
    def command(*, quiet: bool, verbose: bool, debug: bool, **arguments: Any) -> Any:
        if quiet and verbose:
            raise InputError("--quiet and --verbose exclude each other; leave out one")
        if quiet or verbose:
            progress.set_level(progress.Level.QUIET if quiet else progress.Level.DETAILS)
        if debug:
            os.environ["TASKLENS_DEBUG"] = "1"  # which worker processes inherit
        progress.status(f"{function.__name__}: starting")
        return function(**arguments)

    signature = inspect.signature(function)
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter(name, keyword, default=False, annotation=kind)
        for name, kind in _COMMON.items()
    ]
    parameters = [each.replace(kind=keyword) for each in signature.parameters.values()]
    command.__signature__ = signature.replace(parameters=[*parameters, *common])  # type: ignore[attr-defined]
    command.__annotations__ = function.__annotations__ | _COMMON
    app.command(cls=OnceOnly, epilog=_epilog(examples))(command)


def _epilog(examples: tuple[str, ...]) -> str:
    r"""Return the end of a command's help, in which Click keeps the lines: they follow a "\b"."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExamples:\n{lines}\n\n\b\nDocumentation: {DOCS}"

"""The lines in which a mistake in the command line is refused."""

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from tasklens.core.errors import shortened
from tasklens.core.messages import nearest, remedy, short, synonym

#: Words that users of other programs have for our commands and options.
_COMMANDS = {
    "compare": ("diff",),
    "data": ("dataset", "generate", "make"),
    "follow": ("track", "watch"),
    "gather": ("collect", "merge"),
    "intervene": ("ablate", "edit", "patch", "steer"),
    "measure": ("cluster", "score"),
    "plot": ("draw", "figure", "figures"),
    "probe": ("analyse", "analyze", "eval", "evaluate", "model"),
    "report": ("html", "page"),
    "run": ("all", "fit", "start"),
    "show": ("print", "results", "scores", "table"),
    "sweep": ("grid", "search"),
    "verify": ("check", "judge", "test"),
}
_OPTIONS = {
    "debug": ("traceback",),
    "dry-run": ("dry", "n", "plan"),
    "engine": ("backend", "ray"),
    "json": ("format",),
    "layer": ("state", "states"),
    "out": ("dir", "directory", "o", "out_dir", "output", "output_dir", "save"),
    "prompts": ("data", "dataset", "file", "input", "inputs", "prompt"),
    "quiet": ("q", "silent"),
    "resume": ("continue", "restart"),
    "revision": ("branch", "revisions"),
    "state": ("layer", "layers", "states"),
    "states": ("layer", "layers", "state"),
    "verbose": ("v",),
}


def command_message(name: str, known: Sequence[str]) -> str:
    """Return the line on a command that does not exist."""
    near = synonym(name, known, _COMMANDS) or nearest(name, known)
    return f"no command {short(name)}; the nearest is {near!r}"


def usage_message(error: Any) -> str:
    """Return the line on an error of Click's kind, see `tasklens.cli.main`."""
    cause, option = error.__cause__, getattr(error, "option_name", None)
    if isinstance(cause, ValidationError):  # of an option's or an argument's value
        fault = cause.errors(include_url=False)[0]
        name = (getattr(error.param, "opts", None) or [""])[0]
        return f"{name} = {short(fault['input'])}: {remedy(fault)}"
    if option is not None and error.ctx is not None:
        return _option_message(str(option), error.ctx)
    return shortened(" ".join(error.format_message().split()))


def _option_message(option: str, context: Any) -> str:
    """Return the line on an option that a command does not have."""
    known = [
        name.removeprefix("--")
        for parameter in context.command.get_params(context)
        for name in parameter.opts
        if name.startswith("--")
    ]
    name = option.lstrip("-")
    near = synonym(name, known, _OPTIONS)
    setting = None if near or "set" not in known else _setting(name, context.info_name)
    alike = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if setting:
        hint = f"the nearest is --set {setting}=VALUE"
    elif near or alike:
        hint = f"the nearest is --{near or alike[0]}"
    else:
        hint = f"{context.command_path} --help lists them"
    return f"no option {short(option)} of {context.command_path}; {hint}"


def _setting(name: str, command: str) -> str | None:
    from tasklens.runs.settings import ModelRunSettings, TrainingRunSettings

    kind = ModelRunSettings if command == "probe" else TrainingRunSettings
    return synonym(name, tuple(kind.declared()))

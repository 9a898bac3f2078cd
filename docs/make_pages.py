"""Write docs/cli.md and docs/settings.md from the code: `python docs/make_pages.py`."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tasklens.config import PRESETS, Settings, load_settings

HERE = Path(__file__).parent
MADE = "Made by `python docs/make_pages.py`; a test fails when it drifts."
COMMANDS = ("run", "data", "train", "measure", "plot", "show", "verify", "follow", "sweep")


def cli_page() -> str:
    """Return the help of every command."""
    page = f"# The command line\n\n{MADE}\n"
    for command in ("", *COMMANDS):
        words = [sys.executable, "-m", "tasklens", *([command] if command else []), "--help"]
        environment = os.environ | {"COLUMNS": "100", "TERM": "dumb"}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        page += f"\n## `tasklens {command}`".rstrip(" `") + f"`\n\n```\n{text}\n```\n"
    return page.replace("python -m tasklens", "tasklens")


def settings_page() -> str:
    """Return a table of every setting, its meaning and its value in each preset."""
    presets = [load_settings(name) for name in PRESETS]
    page = (
        f"# Settings\n\n{MADE} Change one with\n`--set table.key=value`, or write a TOML file with "
        "these tables and run it.\n"
    )
    head = f"\n| key | meaning | {' | '.join(PRESETS)} |\n|---|---|{'---|' * len(PRESETS)}\n"
    page += head
    for field in dataclasses.fields(Settings):
        if not dataclasses.is_dataclass(getattr(presets[0], field.name)):
            page += _row(Settings, field.name, presets)
    for field in dataclasses.fields(Settings):
        inner = getattr(presets[0], field.name)
        if dataclasses.is_dataclass(inner):
            page += f"\n## [{field.name}]\n{head}"
            tables = [getattr(preset, field.name) for preset in presets]
            for key in dataclasses.fields(inner):
                page += _row(type(inner), key.name, tables)
    return page


def _row(kind: object, name: str, values: Sequence[object]) -> str:
    meaning = " ".join(kind.__pydantic_fields__[name].description.split())  # type: ignore[attr-defined]
    shown = [str(getattr(value, name)).replace("|", "\\|") or '""' for value in values]
    return f"| `{name}` | {meaning} | {' | '.join(shown)} |\n"


if __name__ == "__main__":
    (HERE / "cli.md").write_text(cli_page())
    (HERE / "settings.md").write_text(settings_page())

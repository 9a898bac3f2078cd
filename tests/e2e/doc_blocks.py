"""Read the code blocks of the documentation, and what each of their lines runs."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The pages with commands. Those of docs/reference/cli.md are generated; see `examples_of_help`.
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name not in ("CHANGELOG.md", "cli.md")
)
#: What a line of a block of commands may begin with.
PROGRAMS = ("tasklens", "torchrun", "make", "pip", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    """Yield the fenced blocks of all pages, without the directives of Sphinx."""
    for page in PAGES:
        matches = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", page.read_text(), re.MULTILINE)
        for language, text in matches:
            if language.startswith("{"):
                continue
            yield Block(page.relative_to(ROOT).as_posix(), language, text)


def commands_of(block: Block) -> Iterator[list[str]]:
    """Yield the commands of a block, as lists of words; variables are replaced.

    In a console block, the lines after "$ " are commands; the others are what they print.
    """
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    variables: dict[str, str] = {}
    for line in lines:
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        parts = shlex.split(line, comments=True)
        if parts and (variable := re.fullmatch(r"([A-Z]+)=(\S+)", parts[0])):
            variables[variable[1]] = variable[2]
        elif parts:
            yield parts


def commands() -> list[tuple[str, list[str]]]:
    """Return the page and the words of every command of the pages."""
    return [
        (block.page, parts)
        for block in blocks()
        if block.language in ("", "console")
        for parts in commands_of(block)
    ]


def blocks_of(language: str) -> list[Block]:
    """Return all blocks of a language."""
    return [block for block in blocks() if block.language == language]


def examples_of_help() -> list[list[str]]:
    """Return the examples of every command's help, as lists of words."""
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    return [
        shlex.split(line) for line in re.findall(r"^    ((?:tasklens|torchrun) .*)$", page, re.M)
    ]

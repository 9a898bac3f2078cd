"""Check that names, docstrings, comments and messages are plain English (see CONTRIBUTING.md).

Ruff's rule D401 checks that the first line of a function's docstring begins with a verb.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "docs", "benchmarks", "examples")
#: Identifiers that tell a reader nothing about the value.
NAMES = (
    *("about", "apart", "found", "here", "its", "made", "of"),
    *("place", "said", "there", "told", "where", "which", "words"),
)
#: Words that are not plain, or that name a thing which has another name.
UNPLAIN = re.compile(
    r"\b(any|some|no|every)body\b|\b(any|some|every)one\b|\bwho(m)?ever\b|\bstrangers?\b"
    r"|\blest\b|\bsooner\b|\bclaims?\b|\bsa(y|ys|id|ying)\b|\btold\b|\bg(o|oes|oing|one) on\b"
    r"|\b(hold|holds|held) against\b|(?<!thing )\belse\b",
    re.IGNORECASE,
)
QUESTIONS = re.compile(r"(what|who|whom|whose|which|whether|where|when|why|how|of)\b", re.I)
MOST_WORDS = 25
#: Lines of a docstring that are no prose: an example, or the name or type of a parameter.
NO_SENTENCE = re.compile(r"^ *(>>> .*|\.\.\. .*|-{3,}|\S+|[\w.*, ]+ : .*)$", re.MULTILINE)


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of everything that a module names itself."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name


def texts(source: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the content of each string, and of each block of comments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    blocks: list[tuple[int, list[str]]] = []
    for token in comments:
        line, is_alone = token.start[0], token.line.lstrip().startswith("#")
        if is_alone and blocks and line == blocks[-1][0] + len(blocks[-1][1]):
            blocks[-1][1].append(token.string.lstrip("#: "))
        else:
            blocks.append((line, [token.string.lstrip("#: ")]))
    for line, parts in blocks:
        yield line, "\n".join(parts)


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text; a colon or a semicolon ends one, as a line of a list does."""
    for paragraph in re.split(r"\n\s*\n|\n\s*[-|*] ", NO_SENTENCE.sub("", text)):
        yield from re.split(r"(?<=[.;:!?])\s+", paragraph)


def problems(source: str) -> list[str]:
    """Return what is not plain English in a module, as LINE: PROBLEM."""
    tree = ast.parse(source)
    lines = [
        f"{line}: the name {name!r}"
        for line, name in identifiers(tree)
        if name.strip("_").lower() in NAMES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            name = node.name.replace("_", " ")
            lines += [f"{node.lineno}: the word {m[0]!r} in a name" for m in UNPLAIN.finditer(name)]
    for line, text in texts(source, tree):
        lines += [f"{line}: the word {match[0]!r}" for match in UNPLAIN.finditer(text)]
        if len(text) > 100:
            long = [s for s in sentences(text) if len(s.split()) > MOST_WORDS]
            lines += [f"{line}: more than {MOST_WORDS} words: {' '.join(s.split())}" for s in long]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if QUESTIONS.match(first):
                lines.append(f"{getattr(node, 'lineno', 1)}: begins with a question word: {first}")
    return lines


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_and_sentences_are_plain(folder: str) -> None:
    paths = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / folder).rglob("*.py")}
    assert paths
    lines = [
        f"{name}:{line}"
        for name, path in sorted(paths.items())
        if path != Path(__file__)
        for line in problems(path.read_text(encoding="utf-8"))
    ]
    assert not lines, "\n".join(lines)


def page_text(page: str) -> str:
    """Return the prose of a page, without code, and without the rules on language themselves."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.sub(
        r"^```.*?^```|`[^`\n]*`|^## Language$.*?(?=^### Glossary$)", "", text, flags=re.M | re.S
    )


DOCS = (path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", *DOCS)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_pages_are_plain(page: str) -> None:
    unplain = [match[0] for match in UNPLAIN.finditer(page_text(page))]
    assert not unplain, f"{page}: {', '.join(unplain)}"


LONG = " ".join(["word"] * (MOST_WORDS + 1))


@pytest.mark.parametrize(
    "source",
    [
        "said = 1", "def f(where): ...", "x.found = 2", "import numpy as of",
        "def its(): ...", "class Place: ...", "for _, here in []: ...", "f = lambda which: 0",
        "def test_it_goes_on(): ...",
        'raise ValueError(f"nobody {1}")', '"""Whoever reads."""', "x = 1  # or else",
        '"""What it is."""', 'def f():\n    """Whether it is so."""',
        f'"""{LONG}."""', f"# {LONG[:90]}\n# {LONG[90:]}",
    ],
)  # fmt: skip
def test_a_planted_problem_is_reported(source: str) -> None:
    assert len(problems(source)) == 1


def test_plain_code_has_no_problem() -> None:
    source = f'"""Find something else: {LONG[:99]}. {LONG[:99]}."""\nx = np.where(a, b, c)\n'
    assert problems(f"{source}words_of_text = 1  # a comment\n") == []

"""Write values as text: JSON, aligned columns, and text that a terminal only shows."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

#: Characters that a terminal or a browser obeys, or that no reader sees: controls (C0 and C1),
#: changes of the direction of writing, separators of lines, invisible characters, tags and lone
#: surrogates. The joiners U+200C and U+200D are not among them: writing systems and emoji use them.
_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return a text in which what would act or be unseen is written out, e.g. ``\x1b``.

    All other characters are unchanged, whatever their language. The result is one line, unless
    `lines` keeps the line breaks.
    """
    if lines:
        return "\n".join(map(visible, text.split("\n")))
    return _HIDDEN.sub(lambda match: written_out(match[0]), text)


def written_out(character: str) -> str:
    r"""Return a character as Python writes it in a string, e.g. ``\n`` or ``\u202e``."""
    return character.encode("unicode_escape").decode()


def json_text(document: Any) -> str:
    """Return a document as JSON, without a line break at the end.

    Arrays are lists, a number that JSON does not have is null, and what JSON does not know, such as
    a path, is a string. All characters are printable ASCII.
    """
    text = json.dumps(_plain(document), indent=1, allow_nan=False)
    return text.replace("\x7f", "\\u007f")  # the only control that JSON leaves as it is


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the keys and values of a JSON object; ValueError if a key occurs twice.

    It is given to `json.loads` as ``object_pairs_hook``. Otherwise the last value would be taken.
    """
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return record


def check_characters(document: Any) -> None:
    r"""Raise ValueError if a text of a JSON document has half a character, as from ``\ud800``."""
    try:
        json.dumps(document, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        half = written_out(error.object[error.start])
        raise ValueError(f"a text has half a character, {half}, which is not UTF-8") from error


def without_slash(name: str) -> str:
    """Return a name as a part of another one, in which a slash separates; `unquote` reverts it."""
    return name.replace("%", "%25").replace("/", "%2F")


def aligned(rows: Sequence[Iterable[str]]) -> list[str]:
    """Return rows of as many texts each as visible lines, in which the columns are aligned."""
    shown = [list(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if hasattr(content, "tolist"):  # of NumPy, which need not be imported for a text
        return _plain(content.tolist())
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    return content if content is None or isinstance(content, bool | int | str) else str(content)

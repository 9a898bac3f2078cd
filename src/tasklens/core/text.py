"""Write values as text: JSON documents, and rows with aligned columns. Check JSON objects."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any


def json_text(document: Any) -> str:
    """Return a document as JSON, without a line break at the end.

    Arrays are lists, a number that JSON does not have is null, and what JSON does not know, such as
    a path, is a string.
    """
    return json.dumps(_plain(document), indent=1, allow_nan=False)


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the keys and values of a JSON object; ValueError if a key occurs twice.

    It is given to `json.loads` as ``object_pairs_hook``. Otherwise the last value would be taken.
    """
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return record


def aligned(rows: Sequence[Iterable[str]]) -> list[str]:
    """Return rows of as many texts each as lines, in which the columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
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

"""Values as JSON and as aligned rows."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from hostile import ACTS, HOSTILE
from tasklens.core.text import aligned, json_text, visible


def test_json_has_plain_values_and_null_for_what_it_lacks() -> None:
    document = {
        "numbers": (1, 2.5, True, None),
        "lost": [float("nan"), float("inf"), np.float64("nan")],
        "array": np.array([[1, 2], [3, 4]]),
        "scalar": np.int64(7),
        "path": Path("runs") / "first",
        3: "a number as key",
    }
    assert json.loads(json_text(document)) == {
        "numbers": [1, 2.5, True, None],
        "lost": [None, None, None],
        "array": [[1, 2], [3, 4]],
        "scalar": 7,
        "path": "runs/first",
        "3": "a number as key",
    }
    assert not json_text(document).endswith("\n")


def test_columns_are_aligned_without_spaces_at_the_end() -> None:
    assert aligned([["a", "bb", "c"], ["long", "", ""]]) == ["a     bb  c", "long"]


#: The bidirectional classes of characters that change the direction of what follows.
BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J\x85\x7f", r"\x9b2J\x85\x7f"),
        ("a\tb\r\nc\x00", r"a\tb\r\nc\x00"),
        ("\u202efdp.exe\u2066\u200f", r"\u202efdp.exe\u2066\u200f"),
        ("a\u2028b\u200b", r"a\u2028b\u200b"),
        ("half \ud83d, \udcff", r"half \ud83d, \udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_acts_or_is_unseen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "größe नमस्ते 猫 שלום",
        "\U0001f469\u200d\U0001f52c \u2764\ufe0f",
        "می\u200cخواهم",
        r"\x1b$%{}<",
    ],
)
def test_printable_text_of_any_language_is_unchanged(text: str) -> None:
    assert visible(text) == text
    assert visible(f"{text}\n{text}\n", lines=True) == f"{text}\n{text}\n"


def test_every_control_is_written_out() -> None:
    for character in map(chr, range(0x110000)):
        acts = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        if acts or unicodedata.bidirectional(character) in BIDI:
            assert visible(character).isprintable()


def test_rows_have_no_line_but_their_own() -> None:
    rows = [[name, "end"] for name in HOSTILE.values()]
    lines = aligned(rows)
    assert len(lines) == len(rows)
    assert not any(ACTS.search(line) or "\n" in line for line in lines)


def test_json_is_ascii_and_exact() -> None:
    text = json_text(HOSTILE)
    assert text.isascii()
    assert visible(text, lines=True) == text
    assert json.loads(text) == HOSTILE

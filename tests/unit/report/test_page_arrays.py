"""Arrays and values into a page, read back by other means than the page's own."""

import base64
import json
import zlib
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasklens.core.seeds import stream
from tasklens.report.page_arrays import LEVELS, Packer, script_json


def unpacked(packer: Packer) -> dict[str, NDArray[Any]]:
    """Return the arrays as they are written; of maps the levels."""
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(packer.text())), "<u2").astype(int)
    arrays, end = {}, 0
    for name, entry in packer.directory.items():
        assert entry["at"] == end
        end += int(np.prod(entry["shape"]))
        arrays[name] = numbers[entry["at"] : end].reshape(entry["shape"])
    assert end == len(numbers)
    return arrays


def places_of(packer: Packer, name: str) -> NDArray[np.float64]:
    entry, levels = packer.directory[name], unpacked(packer)[name]
    half, middle = np.array(entry["half"]), np.array(entry["middle"])
    assert levels.min() >= 0
    assert levels.max() <= LEVELS
    within = levels / (LEVELS / 2) - 1
    placed: NDArray[np.float64] = within * half[:, None, None] + middle[:, None]
    return placed


def test_whole_numbers_come_back() -> None:
    rng = stream(0, "packed")
    arrays: dict[str, NDArray[Any]] = {
        "small": np.array([0, 1, 255]),
        "large": np.array([0, 255, 256, 65_535]),
        "table": rng.integers(70, size=(3, 5)),
        "wide": rng.integers(60_000, size=(4, 3, 2)),
        "columns": rng.integers(1000, size=(5, 3)).T,  # not contiguous
        "bytes": rng.integers(2, size=7).astype(np.uint8),
        "nothing": np.zeros(0, dtype=np.int64),
    }
    packer = Packer()
    for name, values in arrays.items():
        packer.add(name, values)
    found = unpacked(packer)
    assert list(found) == list(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)


def test_places_come_back_to_half_a_level() -> None:
    rng = stream(1, "packed")
    scale = np.array([1, 300, 1e-3, 7])[:, None, None]
    places = (np.array([0, 50]) + scale * rng.normal(size=(4, 30, 2))).astype(np.float32)
    packer = Packer()
    packer.add("before", np.arange(3))  # what stands before does not shift it
    packer.add_map("places", places)
    span = np.ptp(places, axis=1).max(axis=1)  # (S,): one scale for both directions
    half = np.array(packer.directory["places"]["half"])
    assert half == pytest.approx(span / 2, rel=1e-4)
    off = np.abs(places_of(packer, "places") - places).max(axis=(1, 2))
    assert (off <= 1.01 * half / LEVELS).all()
    assert (off > 0.5 * half / LEVELS).any(), "as fine as is said, and no finer"


def test_points_that_coincide_or_a_single_checkpoint() -> None:
    packer = Packer()
    packer.add_map("same", np.full((3, 5, 2), 4.5, dtype=np.float32))
    packer.add_map("one", np.array([[[0, 0], [2, 1]]], dtype=np.float32))
    assert places_of(packer, "same") == pytest.approx(4.5, abs=1 / LEVELS)
    assert places_of(packer, "one")[0] == pytest.approx(np.array([[0, 0], [2, 1]]), abs=1 / LEVELS)


class Elements(HTMLParser):
    """What a page is made of: its elements, comments and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.comments: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "string",
    [
        "</script><script>bad()</script>",
        "<!--<script>",
        "-->",
        "]]>",
        "<img src=x onerror=bad()>",
        "&lt;&amp;&quot;",
        "a\u2028b\u2029c",
        "'\"\\\n\t\x00\x7f",
        "\\u003c",
        "ü, 任務, 🙂",
        "{{data}} ${bad()}",
    ],
)
def test_no_string_can_leave_its_script(string: str) -> None:
    value = {string: [string, {"deep": [string, None, True, 1.5, -3]}]}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029").intersection(text)
    page = Elements(f'<p></p><script type="application/json">{text}</script><b></b>')
    assert page.tags == ["p", "script", "b"]
    assert page.comments == []
    assert json.loads(page.text) == value


def test_what_is_no_json_is_refused() -> None:
    for value in (float("nan"), float("inf"), [-float("inf")]):
        with pytest.raises(ValueError, match="JSON"):
            script_json(value)

"""Arrays and values as text in a page; `page_assets/unpack.js` reads the arrays.

A packed array is uint16, little-endian. All arrays of a split are concatenated, deflated and
written in base64.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

#: Levels of a coordinate between the edges of a map, at one checkpoint: finer than a screen.
LEVELS = 2**12 - 1


class Packer:
    """Collects arrays; gives them as one text, and a directory of the arrays in it."""

    def __init__(self) -> None:
        self.directory: dict[str, dict[str, Any]] = {}
        self._chunks: list[bytes] = []
        self._length = 0

    def add(self, name: str, values: npt.NDArray[np.integer], **about: Any) -> None:
        """Add integers of any shape, from 0 to 65,535."""
        self.directory[name] = {"at": self._length, "shape": list(values.shape), **about}
        self._chunks.append(values.astype("<u2").tobytes())
        self._length += values.size

    def add_map(self, name: str, places: npt.NDArray[np.float32]) -> None:
        """Add the places of points in the plane at S checkpoints, (S, N, 2).

        They are quantised relative to the middle and half the width of the square around all
        points of a checkpoint.
        """
        middle = (places.max(axis=1) + places.min(axis=1)) / 2  # (S, 2)
        half = np.abs(places - middle[:, None]).max(axis=(1, 2))  # (S,)
        half[half == 0] = 1
        relative = (places - middle[:, None]) / half[:, None, None]  # -1 .. 1
        levels = np.rint((relative + 1) * (LEVELS / 2)).astype(np.uint16)
        self.add(name, levels, half=half.tolist(), middle=middle.tolist())

    def text(self) -> str:
        """Return all arrays as text."""
        return base64.b64encode(zlib.compress(b"".join(self._chunks), 9)).decode()


def script_json(value: object) -> str:
    """Return a value as JSON that is safe in a script element, whatever strings it contains."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Nothing but JSON's own escapes: no string can end the element or begin a comment.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text

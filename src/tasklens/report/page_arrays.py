"""Write arrays and values as text of a page; `page_assets/unpack.js` reads the arrays.

A packed array is little-endian uint16. All arrays of a split are concatenated, compressed by
deflate and written in base64.
"""

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from tasklens.core.text import written_out

#: Levels of a coordinate between the edges of a map at one checkpoint: more than a screen has dots.
LEVELS = 2**12 - 1
#: Characters that turn the text beside them, also numbers; halves of characters, which UTF-8 lacks.
_TURNING = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Packer:
    """Collect arrays as one text, with a directory of their names, shapes and offsets."""

    def __init__(self) -> None:
        self.directory: dict[str, dict[str, Any]] = {}
        self._chunks: list[bytes] = []
        self._length = 0

    def add(self, name: str, values: npt.NDArray[np.integer], **entries: Any) -> None:
        """Add integers of any shape, from 0 to 65,535; `entries` are put into the directory."""
        self.directory[name] = {"at": self._length, "shape": list(values.shape), **entries}
        self._chunks.append(values.astype("<u2").tobytes())
        self._length += values.size

    def add_map(self, name: str, coordinates: npt.NDArray[np.float32]) -> None:
        """Add the coordinates of points at S checkpoints, (S, N, 2).

        They are quantised relative to the square around all points of a checkpoint, which is given
        by its middle and half its width.
        """
        middle = (coordinates.max(axis=1) + coordinates.min(axis=1)) / 2  # (S, 2)
        half = np.abs(coordinates - middle[:, None]).max(axis=(1, 2))  # (S,)
        half[half == 0] = 1
        relative = (coordinates - middle[:, None]) / half[:, None, None]  # -1 .. 1
        levels = np.rint((relative + 1) * (LEVELS / 2)).astype(np.uint16)
        self.add(name, levels, half=half.tolist(), middle=middle.tolist())

    def text(self) -> str:
        """Return all arrays as one text."""
        return base64.b64encode(zlib.compress(b"".join(self._chunks))).decode()


def script_json(value: object) -> str:
    r"""Return a value as JSON that is safe in a script element, also if it contains HTML.

    A character that would change how its surroundings are read is text, e.g. ``\u202e``.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # With these escapes, which JSON knows, no string can end the element or begin a comment.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _TURNING.sub(lambda match: "\\" + written_out(match[0]), text)

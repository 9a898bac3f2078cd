"""Write arrays and values as text of a page; `page_assets/unpack.js` reads the arrays.

A packed array is uint16. All arrays of a split are concatenated. The low bytes of all numbers stand
before the high bytes, which are nearly all 0. They are compressed by deflate and written in base64.
"""

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from tasklens.core.text import written_out

#: Levels of a coordinate between the edges of a map at one checkpoint: two or three per pixel.
LEVELS = 1500
#: Characters that turn the text beside them, also numbers; halves of characters, which UTF-8 lacks.
_TURNING = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Packer:
    """Collect arrays as one text, with a directory of their names, shapes and offsets."""

    def __init__(self) -> None:
        self.directory: dict[str, dict[str, Any]] = {}
        self._arrays: dict[str, npt.NDArray[np.integer]] = {}
        self._length = 0

    def add(self, name: str, values: npt.NDArray[np.integer], **entries: Any) -> None:
        """Add integers of any shape, from 0 to 65,535; `entries` are put into the directory."""
        self.directory[name] = {"at": self._length, "shape": list(values.shape), **entries}
        self._arrays[name] = values
        self._length += values.size

    def add_map(
        self, name: str, coordinates: npt.NDArray[np.float32], by: str | None = None
    ) -> None:
        """Add the coordinates of points at S checkpoints, (S, N, 2).

        They are quantised relative to the square around all points of a checkpoint, which is given
        by its middle and half its width. Each is written as its change since the checkpoint before,
        minus the mean change of the earlier points of the same label: points of one input move
        together. `by` is the name of an added array of labels, (N,); by default all are one.
        """
        middle = _short((coordinates.max(axis=1) + coordinates.min(axis=1)) / 2)  # (S, 2)
        half = _short(np.abs(coordinates - middle[:, None]).max(axis=(1, 2)))  # (S,)
        half[half == 0] = 1
        relative = (coordinates - middle[:, None]) / half[:, None, None]  # -1 .. 1
        levels = np.rint((relative + 1) * (LEVELS / 2)).clip(0, LEVELS).astype(np.int64)
        changes = np.diff(levels, axis=0, prepend=0).transpose(0, 2, 1)  # (S, 2, N)
        labels = self._arrays[by] if by else np.zeros(changes.shape[2], dtype=np.int64)
        odd = changes - _expected(changes, labels)
        signless = np.where(odd < 0, -2 * odd - 1, 2 * odd)
        square = {"half": half.tolist(), "middle": middle.tolist()}
        self.add(name, signless, **square, **({"by": by} if by else {}))

    def text(self) -> str:
        """Return all arrays as one text."""
        numbers = [values.astype("<u2").ravel() for values in self._arrays.values()]
        low_high = np.concatenate(numbers).view(np.uint8).reshape(-1, 2)
        return base64.b64encode(zlib.compress(low_high.T.tobytes(), 9)).decode()


def _short(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Round numbers to 7 digits, as many as a coordinate has."""
    short = [float(f"{value:.7g}") for value in values.ravel()]
    return np.array(short).reshape(values.shape)


def _expected(
    changes: npt.NDArray[np.int64], labels: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Return the rounded mean change of the earlier points with the same label, (S, 2, N)."""
    order = np.argsort(labels, kind="stable")
    begins = np.diff(labels[order], prepend=-1) != 0  # the first point of each label
    first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    earlier = np.cumsum(changes[..., order], axis=-1) - changes[..., order]
    n = np.maximum(np.arange(len(labels)) - first, 1)
    expected = np.empty_like(changes)
    expected[..., order] = np.floor((earlier - earlier[..., first]) / n + 0.5)
    return expected


def script_json(value: object) -> str:
    r"""Return a value as JSON that is safe in a script element, also if it contains HTML.

    A character that would change how its surroundings are read is text, e.g. ``\u202e``.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # With these escapes, which JSON knows, no string can end the element or begin a comment.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _TURNING.sub(lambda match: "\\" + written_out(match[0]), text)

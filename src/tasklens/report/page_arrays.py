"""Arrays as text in a page: quantised where they are places, packed, deflated and in base64.

`page/unpack.js` reads what is written here.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

#: Places are told apart to this part of what a map spans at its checkpoint: finer than a screen.
LEVELS = 2**12 - 1


class Packer:
    """Collects arrays, then gives them as one text and the directory to find them in it."""

    def __init__(self) -> None:
        self.directory: dict[str, dict[str, Any]] = {}
        self._chunks: list[bytes] = []
        self._length = 0

    def add(self, name: str, values: npt.NDArray[np.integer]) -> None:
        """Add whole numbers of any shape, none of them negative or above 65,535."""
        kind = np.uint8 if values.max(initial=0) < 2**8 else np.uint16
        self._add(name, values.astype(kind), {})

    def add_places(self, name: str, places: npt.NDArray[np.float32]) -> None:
        """Add places in the plane at S checkpoints, (S, N, 2), one scale for both directions.

        They are relative to the middle and half the width of their checkpoint's square, and
        written as differences from the checkpoint before, which pack better.
        """
        middle = (places.max(axis=1) + places.min(axis=1)) / 2  # (S, 2)
        half = np.abs(places - middle[:, None]).max(axis=(1, 2))  # (S,)
        half[half == 0] = 1
        within = (places - middle[:, None]) / half[:, None, None]  # -1 .. 1
        levels = np.rint((within + 1) * (LEVELS / 2)).astype(np.uint16)
        steps = np.diff(levels, axis=0, prepend=np.zeros_like(levels[:1]))  # modulo 2^16
        self._add(name, steps, {"half": half.tolist(), "middle": middle.tolist()})

    def _add(self, name: str, values: npt.NDArray[Any], about: dict[str, Any]) -> None:
        bytes_each = values.dtype.itemsize
        # the low bytes of all, then the high bytes: like beside like packs better
        planes = values.reshape(-1).view(np.uint8).reshape(-1, bytes_each).T
        entry = {"at": self._length, "bytes": bytes_each, "shape": list(values.shape)}
        self.directory[name] = entry | about
        self._chunks.append(np.ascontiguousarray(planes).tobytes())
        self._length += values.nbytes

    def text(self) -> str:
        """Return all that was added, deflated, in base64."""
        return base64.b64encode(zlib.compress(b"".join(self._chunks), 9)).decode()


def script_json(value: object) -> str:
    """Return a value as JSON that can stand in a script element, whatever strings are in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Nothing but JSON's own escapes: no string can end the element or begin a comment.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text

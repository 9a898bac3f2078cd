"""Read the packed arrays of a page, without the code that wrote them."""

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpacked(directory: dict[str, dict[str, Any]], text: str) -> dict[str, NDArray[Any]]:
    """Return the arrays as they are written; of maps the levels."""
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2").astype(int)
    arrays, end = {}, 0
    for name, entry in directory.items():
        assert entry["at"] == end
        end += int(np.prod(entry["shape"]))
        arrays[name] = numbers[entry["at"] : end].reshape(entry["shape"])
    assert end == len(numbers)
    return arrays

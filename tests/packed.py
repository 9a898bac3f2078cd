"""Read the packed arrays of a page, without the code that wrote them."""

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpacked(directory: dict[str, dict[str, Any]], text: str) -> dict[str, NDArray[Any]]:
    """Return the arrays as they are written; of maps the levels, (S, N, 2)."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(int)
    low, high = planes.reshape(2, -1)
    numbers = low + 256 * high
    arrays: dict[str, NDArray[Any]] = {}
    end = 0
    for name, entry in directory.items():
        assert entry["at"] == end
        end += int(np.prod(entry["shape"]))
        arrays[name] = numbers[entry["at"] : end].reshape(entry["shape"])
        if "half" in entry:
            labels = arrays[entry["by"]].tolist() if "by" in entry else [0] * entry["shape"][2]
            arrays[name] = levels(arrays[name], labels)
    assert end == len(numbers)
    return arrays


def levels(written: NDArray[Any], labels: list[int]) -> NDArray[Any]:
    """Return the levels (S, N, 2) of changes (S, 2, N) from those of earlier points of a label."""
    n_steps, _, n = written.shape
    read = np.zeros((n_steps, n, 2), dtype=int)
    for step, axis in np.ndindex(n_steps, 2):
        changes: dict[int, list[int]] = {}
        for i, label in enumerate(labels):
            number = int(written[step, axis, i])
            odd = -(number + 1) // 2 if number % 2 else number // 2
            earlier = changes.setdefault(label, [])
            mean = (2 * sum(earlier) + len(earlier)) // (2 * len(earlier)) if earlier else 0
            earlier.append(odd + mean)
            before = int(read[step - 1, i, axis]) if step else 0
            read[step, i, axis] = before + odd + mean
    return read

"""Changes of files that break them: bytes that are replaced, values of JSON and TOML edited."""

import json
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from hypothesis import strategies as st

#: What stands instead of a value: of other types, out of range, empty, or too long.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**40, 2**70, 0.5, -0.5, math.inf, math.nan),
    *("", "x", "0", "a\nb", "\0", "é", "../x", "x" * 3000),
    *([], [1], ["x"], [[]], {}, {"a": 1}, {"": None}),
]
PIECES = [b"", b"\0", b"\xff", b"\n", b'"', b"[", b"}", b"=", b",", b"9", b"-"]
LENGTHS = [0, 1, 2, 10, 1000, 10**9]
EDITS = ["replace", "remove", "add"]


@dataclass(frozen=True)
class Cut:
    """A change of bytes: from a share of the content on, some are replaced by others."""

    begin: float
    length: int
    piece: bytes

    def __call__(self, content: bytes) -> bytes:
        i = int(self.begin * len(content))
        return content[:i] + self.piece + content[i + self.length :]


@dataclass(frozen=True)
class Edit:
    """A change of a value in JSON, JSONL or TOML: the one at a share of all that there are."""

    format: str
    at: float
    what: str
    value: Any

    def __call__(self, content: bytes) -> bytes:
        if self.format == ".json":
            return json.dumps(self.edited(json.loads(content))).encode()
        if self.format == ".toml":
            try:
                return tomlkit.dumps(
                    without_none(self.edited(tomllib.loads(content.decode())))
                ).encode()
            except (TypeError, ValueError, AttributeError):  # it has none of the value
                return b"\0"
        rows = self.edited([json.loads(line) for line in content.splitlines()])
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    def edited(self, tree: Any) -> Any:
        """Return the tree with a value replaced or removed, or with a key that is new."""
        known = list(branches(tree))
        container, key = known[int(self.at * len(known))]
        if self.what == "remove":
            del container[key]
        elif self.what == "add" and isinstance(container, dict):
            container["unknown"] = self.value
        else:
            container[key] = self.value
        return tree


def branches(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container with a key of it, from the root on."""
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from branches(tree[key])


def without_none(tree: Any) -> Any:
    """Return a tree without its None, which TOML has not."""
    if isinstance(tree, dict):
        return {key: without_none(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [without_none(value) for value in tree if value is not None]
    return tree


Change = Cut | Edit
SHARE = st.floats(0, 1, exclude_max=True)
CUT = st.builds(Cut, SHARE, st.sampled_from(LENGTHS), st.sampled_from(PIECES))
EDIT = {
    suffix: st.builds(Edit, st.just(suffix), SHARE, st.sampled_from(EDITS), st.sampled_from(VALUES))
    for suffix in (".json", ".jsonl", ".toml")
}


def change_of(name: str) -> st.SearchStrategy[Change]:
    """Return the changes of a file."""
    suffix = Path(name).suffix
    return CUT | EDIT[suffix] if suffix in EDIT else CUT

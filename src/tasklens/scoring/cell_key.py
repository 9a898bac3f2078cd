"""Build and parse the names of the arrays of clusters at a checkpoint."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from tasklens.core.text import without_slash

_NAME = re.compile(
    r"(?P<split>[^/]+)/(?P<state>[^/]+)/(?P<space>[^/]+)"
    r"(/at=(?P<position>[^/]+))?(/k=(?P<k>\d+))?/(?P<kind>[^/=]+)"
)


class CellKey(NamedTuple):
    """The key of a cell within its checkpoint.

    The name of an array is ``split/state/space/kind``. Before the kind, ``at=POSITION/`` is written
    for a position other than the run's first. In a position's name, a slash is ``%2F`` and a
    percent sign ``%25``. In the same way, ``k=K/`` is written for a number of clusters other than
    the first.
    """

    split: str
    state: str
    space: str
    k: int | None = None
    """None for the first number of clusters of the split."""
    position: str = ""
    """Empty for the run's first position."""

    def name(self, kind: str) -> str:
        """Return the name of an array of the cell; the kind is "labels" or another."""
        at = f"at={without_slash(self.position)}/" if self.position else ""
        k = "" if self.k is None else f"k={self.k}/"
        return f"{self.split}/{self.state}/{self.space}/{at}{k}{kind}"

    @classmethod
    def parse(cls, name: str) -> tuple["CellKey", str] | None:
        """Return the cell and the kind of an array; None for other arrays ("split/answer")."""
        parts = _NAME.fullmatch(name)
        if parts is None:
            return None
        k = None if parts["k"] is None else int(parts["k"])
        position = unquote(parts["position"] or "")
        return cls(parts["split"], parts["state"], parts["space"], k, position), parts["kind"]

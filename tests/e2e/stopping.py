"""The command line, which stops itself in the middle: a process that test_resume.py starts.

It stops by itself and not from outside, so that where it stops does not depend on how busy the
machine is: before a step of training, or after a sync to the disk.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stop:
    """A point of a run to stop at, and the signal."""

    path: str
    """The run directory."""
    signal: int
    steps: int = 0
    """Number of lines that the metrics must have."""
    states: int = 0
    """Number of checkpoints that must be harvested."""
    measured: int = 0
    """Number of checkpoints that must be measured."""
    edited: int = 0
    """Number of checkpoints whose edits must be kept."""
    skip: int = 0
    """So many of these points are passed."""
    alone: bool = False
    """Whether the workers are spared, as by the kernel if memory is short."""

    def program(self) -> tuple[str, ...]:
        """Return the arguments of Python that start this program; those of tasklens follow."""
        return (__file__, json.dumps(asdict(self)))

    def is_due(self) -> bool:
        """Return whether the run has reached the point."""
        path = Path(self.path)
        metrics = path / "metrics.jsonl"
        lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        states, measured = (
            len(list((path / part).glob("step-*"))) for part in ("states", "measured")
        )
        edited = len(list((path / "interventions").glob("step-*")))
        counted = ((lines, self.steps), (states, self.states), (measured, self.measured))
        return all(n >= wanted for n, wanted in (*counted, (edited, self.edited)))


def main() -> None:
    """Run ``tasklens ARGUMENTS`` until it is to stop."""
    from tasklens.cli import main as cli
    from tasklens.models.training import Trainer

    stop = Stop(**json.loads(sys.argv[1]))
    sys.argv = ["tasklens", *sys.argv[2:]]
    left = stop.skip

    def check() -> None:
        nonlocal left
        if stop.is_due():
            left -= 1
            if left == -1:
                (os.kill if stop.alone else os.killpg)(os.getpid(), stop.signal)

    def step(self: Trainer, *arguments: Any) -> Any:
        check()
        return take_step(self, *arguments)

    def sync(descriptor: Any) -> None:
        fsync(descriptor)
        check()

    take_step: Callable[..., Any] = Trainer.take_step
    fsync = os.fsync
    Trainer.take_step = step  # type: ignore[assignment, method-assign]
    os.fsync = sync  # type: ignore[assignment]
    cli.main()


if __name__ == "__main__":
    main()

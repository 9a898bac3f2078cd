"""Give the parts of `make gpu` their options, and a record that outlives a crash."""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn


class Part:
    """The options of a part, and the record of its results.

    Attributes
    ----------
    device, preset : str
    work : Path
        A temporary directory; the records of earlier parts are in it.
    """

    def __init__(self, description: str | None) -> None:
        options = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
        options.add_argument("--device", default="cuda")
        options.add_argument("--preset", default="paper")
        options.add_argument("--work", type=Path, required=True)
        options.add_argument("--record", type=Path, required=True)
        options.add_argument("--limit", type=float, default=60)
        asked = options.parse_args()
        self.device, self.preset, self.work = asked.device, asked.preset, asked.work
        self._record, self._end = asked.record, time.monotonic() + asked.limit
        self.results: dict[str, Any] = {}
        self._windows: dict[str, tuple[float, float]] = {}

    @property
    def left(self) -> float:
        """Seconds until the part is stopped."""
        return float(self._end - time.monotonic())

    def record(self, **results: Any) -> None:
        """Write results beside those before, numbers to six digits."""
        self.results |= results
        rounded = json.loads(
            json.dumps(self.results), parse_float=lambda x: float(f"{float(x):.6g}")
        )
        temporary = self._record.with_suffix(".tmp")
        temporary.write_text(json.dumps({**rounded, "windows": self._windows}))
        temporary.replace(self._record)

    def earlier(self, part: str) -> dict[str, Any]:
        """Return the record of an earlier part; empty if it recorded nothing."""
        path = self.work / f"{part}.json"
        recorded: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return recorded

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Record when the block began and ended, so that the GPU's use in it is known."""
        began = time.time()
        try:
            yield
        finally:
            self._windows[name] = (began, time.time())
            self.record()


def run_tasklens(part: Part, *command: str, accepted: tuple[int, ...] = (0,)) -> None:
    """Run a command of tasklens; RuntimeError with its last line if it ends in another status."""
    with (part.work / "errors").open("w+") as errors:
        try:
            line = [sys.executable, "-m", "tasklens", *command]
            status = subprocess.run(line, stderr=errors, check=False).returncode
        finally:  # also if the part is stopped meanwhile
            errors.seek(0)
            lines = errors.read().splitlines()
            print(*lines, sep="\n", flush=True)
    if status not in accepted:
        last = lines[-1] if lines else "no output"
        raise RuntimeError(f"tasklens {command[0]}: exit status {status}: {last}")


def main(description: str | None, *sections: Callable[[Part], object]) -> NoReturn:
    """Run the sections of a part in order; one that fails is recorded, and the next begins."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that blocks end as they should
    part = Part(description)
    part.record(failed="")
    for section in sections:
        began = time.perf_counter()
        try:
            section(part)
        except Exception as error:
            import traceback

            traceback.print_exc()
            reasons = [part.results["failed"], f"{section.__name__}: {type(error).__name__}"]
            first = (str(error).strip().splitlines() or [""])[0]
            part.record(failed="; ".join(filter(None, reasons)) + f": {first[:300]}")
        print(f"{section.__name__}: {time.perf_counter() - began:.1f} s", flush=True)
    sys.exit(1 if part.results["failed"] else 0)

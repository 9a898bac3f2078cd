"""Sample how busy a GPU is, by nvidia-smi, while other processes use it. Standard library alone."""

import shutil
import subprocess
import threading
import time
from typing import Any

FIELDS = ("utilization.gpu", "memory.used", "power.draw", "clocks.sm")
#: How each field is called in the results.
NAMES = ("utilisation_percent", "memory_mib", "power_watt", "clock_mhz")
MILLISECONDS = 250


class Usage:
    """Samples of a GPU, from the beginning to the end of a ``with`` block."""

    def __init__(self, device: str) -> None:
        self.samples: list[tuple[float, list[float | None]]] = []
        self.missing = "not available on the CPU" if device == "cpu" else ""
        if not self.missing and not shutil.which("nvidia-smi"):
            self.missing = "not available: no nvidia-smi"
        self._command = ["nvidia-smi", "-i", device.partition(":")[2] or "0"]
        self._command += [f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
        self._command += ["-lms", str(MILLISECONDS)]

    def __enter__(self) -> "Usage":
        if not self.missing:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.missing:
            self._process.kill()
            self._process.wait()
            self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.samples.append((time.time(), [_number(word) for word in line.split(",")]))

    def between(self, began: float, ended: float) -> Any:
        """Return the mean and the largest of each field between two times, seconds since 1970."""
        if self.missing:
            return self.missing
        rows = [row for at, row in list(self.samples) if began <= at <= ended]
        summary: dict[str, Any] = {"samples": len(rows)}
        for i, name in enumerate(NAMES):
            values = [row[i] for row in rows if len(row) == len(NAMES)]
            known = [value for value in values if value is not None]
            if known:
                mean, largest = sum(known) / len(known), max(known)
                summary[name] = {"mean": round(mean, 1), "max": round(largest, 1)}
        return summary


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:  # "[N/A]"
        return None

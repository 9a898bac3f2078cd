"""Check and time tasklens on a machine with one CUDA GPU, little time and no package registry.

    make gpu                          # or: python3 benchmarks/gpu.py --device cuda --preset paper
    make gpu DEVICE=cpu PRESET=smoke  # the same anywhere, in two minutes

The script takes the Python and the packages of the machine, `src`, and `wheels/` for what is
missing (see `make gpu-wheels`). Each part runs in a process of its own, with a time limit of its
own. However a part ends, `gpu.json` keeps what it has recorded, and the next part begins. `gpu.log`
has all output. This file imports the standard library alone.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_usage import Usage
from gpu_wheels import install_missing

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent
#: The parts, in order, with their shares of the time. What one leaves goes to those after it.
PARTS = {"facts": 4, "tests": 8, "steps": 12, "run": 24, "llama": 12}
#: Seconds that a part has to record its last results after a signal to stop.
GRACE = 5
#: Results are copied from machines that limit the size of a file.
LARGEST_LOG = 8 * 2**20


class Results:
    """The results of all parts, on the disk after each."""

    def __init__(self, directory: Path, head: dict[str, Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.file, self.log = directory / "gpu.json", directory / "gpu.log"
        self.log.write_bytes(b"")
        self.content: dict[str, Any] = {**head, "parts": {}}
        self.write()

    def write(self) -> None:
        """Write the file so that it is whole at any time."""
        temporary = self.file.with_name(".tmp-gpu.json")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n")
        temporary.replace(self.file)

    def note(self, line: str) -> None:
        """Print a line, and write it into the log."""
        print(line, flush=True)
        with self.log.open("a") as log:
            log.write(f"== {line}\n")

    def shorten_log(self) -> None:
        """Keep the beginning and the end of a log that is too large."""
        content = self.log.read_bytes()
        if len(content) > LARGEST_LOG:
            half = LARGEST_LOG // 2
            cut = f"\n== {len(content) - 2 * half:,} bytes are left out\n".encode()
            self.log.write_bytes(content[:half] + cut + content[-half:])


def run_part(
    name: str, limit: float, options: list[str], work: Path, results: Results, usage: Usage
) -> None:
    """Run a part in a process of its own, and keep what it has recorded, however it ends."""
    record = work / f"{name}.json"
    command = [sys.executable, str(SCRIPTS / f"gpu_{name}.py"), *options]
    command += ["--work", str(work), "--record", str(record), "--limit", str(limit - GRACE)]
    results.note(f"{name}: at most {limit:.0f} s")
    began = time.time()
    status: int | None = None
    with results.log.open("ab") as log:
        # A group of its own, so that whatever the part has started ends with it.
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(timeout=max(0.0, limit - GRACE))
        except subprocess.TimeoutExpired:
            stop(process, signal.SIGTERM, GRACE)
        finally:
            stop(process, signal.SIGKILL, GRACE)
    ended = time.time()
    recorded = read_record(record)
    windows = {"whole": (began, ended), **recorded.pop("windows", {})}
    outcome = "cut off" if status is None else "done" if status == 0 else "failed"
    if outcome == "done" and recorded.get("failed"):
        outcome = "failed"
    results.content["parts"][name] = {
        "outcome": outcome,
        "seconds": round(ended - began, 1),
        "limit_seconds": round(limit, 1),
        "status": status,
        **recorded,
        "gpu": {key: usage.between(*window) for key, window in windows.items()},
    }
    results.write()
    why = f": {recorded['failed']}" if recorded.get("failed") else ""
    results.note(f"{name}: {outcome} after {ended - began:.0f} s{why}")


def stop(process: subprocess.Popen[bytes], how: signal.Signals, seconds: float) -> None:
    """Send a signal to the group of a process, if it is not gone, and wait for the process."""
    try:
        os.killpg(process.pid, how)
        process.wait(timeout=seconds)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass


def read_record(path: Path) -> dict[str, Any]:
    """Return what a part has recorded; it writes the file whole each time."""
    try:
        recorded: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {"failed": "the part ended before it recorded anything; see gpu.log"}
    return recorded


def environment(site: Path, device: str) -> dict[str, str]:
    """Return the variables that the parts run under."""
    paths = [str(ROOT / "src"), str(ROOT / "tests"), str(site), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        "TASKLENS_TEST_DEVICE": device,
        "HF_HUB_OFFLINE": "1",
    }


def commit() -> str:
    """Return the commit of the tree; empty if it is no checkout."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def part_limit(text: str) -> tuple[str, float]:
    """Return the part and the seconds of PART=S."""
    part, _, seconds = text.partition("=")
    if part not in PARTS or not re.fullmatch(r"\d+(\.\d+)?", seconds):
        raise argparse.ArgumentTypeError(f"{text}: should be PART=S, of {', '.join(PARTS)}")
    return part, float(seconds)


def main() -> int:
    """Run from the command line; return 0 if every part is done, 1 otherwise."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    options.add_argument("--preset", default="paper", help="paper, default or smoke")
    options.add_argument("--out", type=Path, default=ROOT / "gpu-results", metavar="DIR")
    options.add_argument("--wheels", type=Path, default=ROOT / "wheels", metavar="DIR")
    options.add_argument("--limit", type=float, default=540, metavar="S", help="seconds in all")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument(
        "--part-limit", nargs="+", type=part_limit, default=[], metavar="PART=S",
        help="at most S seconds for a part, also if its share is larger",
    )  # fmt: skip
    asked = options.parse_args()
    end = time.monotonic() + asked.limit
    if sys.version_info < (3, 11):  # noqa: UP036, no installer has checked it
        options.error(f"Python {sys.version.split()[0]}: tasklens needs 3.11 or later")
    head = {"device": asked.device, "preset": asked.preset, "limit_seconds": asked.limit}
    head |= {"began": time.strftime("%Y-%m-%d %H:%M:%S %z"), "commit": commit()}
    results = Results(asked.out, head)
    with tempfile.TemporaryDirectory(prefix="tasklens-gpu-") as directory:
        work = Path(directory)
        packages = install_missing(ROOT / "pyproject.toml", asked.wheels, work / "site")
        results.content["packages"] = packages
        results.write()
        for kind, lines in packages.items():
            results.note(f"{kind}: {', '.join(lines) or 'none'}")
        os.environ.update(environment(work / "site", asked.device))
        shared = ["--device", asked.device, "--preset", asked.preset]
        with Usage(asked.device) as usage:
            for i, name in enumerate(asked.parts):
                shares = [PARTS[part] for part in asked.parts[i:]]
                share = max(0.0, end - time.monotonic()) * shares[0] / sum(shares)
                limit = min(share, dict(asked.part_limit).get(name, share))
                run_part(name, limit, shared, work, results, usage)
    results.content["seconds"] = round(asked.limit - (end - time.monotonic()), 1)
    results.write()
    results.shorten_log()
    print(results.file)
    return 0 if all(p["outcome"] == "done" for p in results.content["parts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

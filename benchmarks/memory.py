"""Compare the peak resident memory of runs with few and with many checkpoints: it should not grow.

The run is a small model of the default width on the default data, with as many measured instances
as usual. The states of one checkpoint take about 15 MB, so that keeping them all would show.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Result, begin, parser

from tasklens.models.lr_schedule import checkpoint_steps

TARGET = "<= 1"
STEPS = 40
#: Steps between checkpoints; there are also checkpoints at powers of two.
FEW, MANY = 40, 1
SETTINGS = {
    "model.n_layer": 2,
    "train.steps": STEPS,
    "train.warmup_steps": 5,
    "train.instructions_per_step": 4,
    "train.precision": "fp32",
    "checkpoints.weights_gib": 0,
    "clusters.n_init": 1,
    "clusters.cluster_seeds": 1,
    "clusters.tsne": "none",
}


def peak_memory(every: int) -> float:
    """Return the peak resident memory, in bytes, of the largest process of one run."""
    changes = SETTINGS | {"checkpoints.every": every}
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tasklens", "run", "default", "--out", f"{directory}/run"]
        for key, value in changes.items():
            command += ["--set", f"{key}={value}"]
        log = Path(directory) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"the run failed:\n{log.read_text()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit


def main() -> None:
    """Run from the command line."""
    report = begin(parser(__doc__).parse_args())
    few, many = (len(checkpoint_steps(STEPS, every)) for every in (FEW, MANY))
    with_many, with_few = peak_memory(MANY), peak_memory(FEW)
    report.add(
        Result(
            what=f"peak memory of a run with {many} checkpoints",
            against=f"the same with {few}",
            ours=with_many / 1e6,
            theirs=with_few / 1e6,
            unit="MB",
            ratio=with_many / with_few,
            target=TARGET,
            note=f"{STEPS} steps each; the largest of the run's processes",
        )
    )


if __name__ == "__main__":
    main()

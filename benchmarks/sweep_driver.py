"""Measure the driver of a large sweep: reading the file, finding finished runs, gathering tables.

The runs are simulated: directories with the marks of finished stages and the scores of a real run.
Nothing is trained or measured.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from common import ROOT, Result, begin, parser, peak_megabytes, printed, timed

from tasklens.core.parquet import parquet_bytes
from tasklens.core.settings import Stage
from tasklens.runs.sweep import gather, is_done, point_run
from tasklens.runs.sweep_file import Sweep, read_sweep
from tasklens.runs.training_run import TrainingRun
from tasklens.scoring.score_table import read_score_table

#: The scores of a run of the preset `default`: 30 checkpoints of 8 states.
SCORES = ROOT / "docs" / "data" / "scores" / "seed6.parquet"


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=2000, help="runs that are simulated")
    options.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.out:
        drive(arguments.out)
        return
    report = begin(arguments)
    few, many = (simulate(n) for n in (arguments.runs // 4, arguments.runs))
    for i, (what, unit) in enumerate(
        (
            ("reading a sweep's file", "s"),
            ("finding what is done", "s"),
            ("gathering", "s"),
            ("peak memory of the driver", "MB"),
        )
    ):
        report.add(
            Result(
                what=f"{what}, {arguments.runs:,} runs",
                against=f"{arguments.runs // 4:,}",
                ours=many[i],
                theirs=few[i],
                unit=unit,
                ratio=many[i] / few[i],
                target="< 1000 MB" if unit == "MB" else "4, as many runs",
            )
        )
    report.add(
        Result(
            what=f"scores.parquet of {arguments.runs:,} runs",
            against=f"of {arguments.runs // 4:,}",
            ours=many[-1],
            theirs=few[-1],
            unit="MB",
            ratio=many[-1] / few[-1],
        )
    )


def simulate(n: int) -> list[float]:
    """Make the directory of a finished sweep of n runs; return its driver's seconds and memory."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        (out / "sweep.toml").write_text(f'base = "default"\nseeds = {list(range(n))}\n')
        scores = read_score_table(SCORES)
        for point in read_sweep(out / "sweep.toml").points:
            finish(point_run(out, point), scores)
        command = [sys.executable, __file__, "--out", str(out)]
        took = printed(command, 4)
        megabytes = (out / "scores.parquet").stat().st_size / 1e6
    return [*took, megabytes]


def finish(run: TrainingRun, scores: pa.Table) -> None:
    """Write the files of a finished run of a sweep that the driver reads."""
    directory = run.directory
    directory.path.mkdir(parents=True)
    names = pa.array([run.name] * scores.num_rows)
    content = parquet_bytes(scores.set_column(0, "run", names))
    # as many files as in the manifest of a run of 40 checkpoints
    files = {f"measured/step-{step:08d}/{i}": "0" * 64 for step in range(40) for i in range(3)}
    manifest: dict[str, object] = {"files": files, "stages": {}}
    stages: tuple[Stage, ...] = ("data", "train", "measure")
    for stage in stages:
        directory.manifest.write_text(json.dumps(manifest, indent=2))
        marks = {**manifest["stages"]}  # type: ignore[dict-item]
        marks[stage] = {"inputs": run.inputs(stage), "files": [*files]}
        manifest = {**manifest, "stages": marks}
    directory.manifest.write_text(json.dumps(manifest, indent=2))
    directory.scores_parquet.write_bytes(content)


def drive(out: Path) -> None:
    """Run a driver, and print the seconds of each part and the peak memory."""
    plan: list[Sweep] = []
    seconds = [timed(lambda: plan.append(read_sweep(out / "sweep.toml")))]
    seconds.append(timed(lambda: [is_done(out, point) for point in plan[0].points]))
    seconds.append(timed(lambda: gather(plan[0], out)))
    shutil.rmtree(out / "runs")
    print(*seconds, peak_megabytes())


if __name__ == "__main__":
    main()

"""Test whether final scores differ more between fp32 and bf16 than between seeds.

The same small world (precision.toml) is trained twice for each seed. For each layer, the mean
difference between the precisions is printed with its standard error over the seeds. Beside it is
the standard deviation between the seeds of one precision.
"""

import tempfile
from pathlib import Path

import numpy as np
from common import begin, parser

from tasklens.runs.directory import RunDir
from tasklens.runs.pipeline import make_states
from tasklens.runs.settings import TrainingRunSettings, load_settings
from tasklens.runs.stage_measure import measure
from tasklens.runs.training_run import TrainingRun

FILE = Path(__file__).with_name("precision.toml")
PRECISIONS = ("fp32", "bf16")
SPLIT = "val_subset"


def final_scores(directory: Path, settings: TrainingRunSettings) -> dict[str, float]:
    """Run an experiment and return the last ARI by layer, and the accuracy, on unseen pairs."""
    run = TrainingRun(RunDir(directory), settings)
    make_states(run, "benchmarks/precision.py")
    measure(run)
    scores: dict[str, list[float]] = {}
    for row in run.score_table().to_pylist():
        if row["step"] == settings.train.steps and row["split"] == SPLIT:
            if row["metric"] == "accuracy":
                scores.setdefault("accuracy", []).append(row["value"])
            elif row["metric"] == "ari" and row["space"] == "raw":
                scores.setdefault(row["layer"], []).append(row["value"])
    return {name: float(np.mean(values)) for name, values in scores.items()}


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = options.parse_args()
    begin(arguments)
    scores: dict[str, list[dict[str, float]]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as directory:
        for seed in arguments.seeds:
            for precision in PRECISIONS:
                changes = [f"seed={seed}", f"train.precision={precision}"]
                out = Path(directory) / f"{precision}-{seed}"
                scores[precision].append(final_scores(out, load_settings(str(FILE), changes)))
                last = {name: round(value, 3) for name, value in scores[precision][-1].items()}
                print(f"  seed {seed}, {precision}: {last}", flush=True)
    print("| unseen pairs | fp32 | bf16 | bf16 - fp32 | between seeds |")
    print("| --- | --- | --- | --- | --- |")
    for name in scores["fp32"][0]:
        fp32, bf16 = (np.array([s[name] for s in scores[p]]) for p in PRECISIONS)
        difference = bf16 - fp32
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        spread = np.sqrt((fp32.var(ddof=1) + bf16.var(ddof=1)) / 2)
        print(
            f"| {name} | {fp32.mean():.3f} | {bf16.mean():.3f} | "
            f"{difference.mean():+.3f} ± {error:.3f} | {spread:.3f} |"
        )


if __name__ == "__main__":
    main()

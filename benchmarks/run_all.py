"""Run all benchmarks, one after the other, and renew the table in docs/results/performance.md.

Each runs in a process of its own. All together take less than 20 minutes on two cores, including a
run of the `default` preset. The courses of training to an accuracy were recorded before (see
accuracy.py).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, Result, machine

BENCHMARKS = Path(__file__).parent
PAGE = ROOT / "docs" / "results" / "performance.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
#: Environment variables that would slow numpy's matrix products, and so the reference.
HANDICAPS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def plan(run: Path, *, is_finished: bool) -> list[list[str]]:
    """Return each benchmark's command: the script's name and its options.

    Parameters
    ----------
    run : Path
        The run whose states are clustered; experiment.py comes first and makes it.
    is_finished : bool
        Whether the run exists already.
    """
    return [
        ["experiment.py", "--run" if is_finished else "--out", str(run), "--quick"],
        ["accuracy.py"],
        ["rate.py", "--widths", "128"],
        ["tsne.py", "--states", str(run)],
        ["kmeans.py", "--states", str(run)],
        ["memory.py"],
        ["training.py", "--rounds", "4"],
        ["harvest.py", "--rounds", "2"],
        ["probe.py", "--rounds", "2"],
        ["interventions.py", "--rounds", "2"],
    ]


def run_one(command: list[str], rows: Path) -> bool:
    """Run one benchmark, and return whether it succeeded."""
    environment = {key: value for key, value in os.environ.items() if key not in HANDICAPS}
    print(f"\n== {' '.join(command)}", flush=True)
    began = time.perf_counter()
    script, *options = command
    ran = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options, "--json", str(rows)],
        env=environment,
        cwd=ROOT,
        check=False,
    )
    print(f"== {script}: {time.perf_counter() - began:.0f} s, status {ran.returncode}", flush=True)
    return ran.returncode == 0


def table(results: list[Result]) -> str:
    """Return the rows as Markdown, under the machine, the date, the versions and the commit."""
    lines = [
        "| what | against | ours | theirs | ratio | target |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        cells = (
            r.what,
            r.against or "-",
            f"{_number(r.ours)} {r.unit}",
            "-" if r.theirs is None else f"{_number(r.theirs)} {r.unit}",
            "-" if r.ratio is None else f"**{r.ratio:.3g}**",
            r.verdict(),
        )
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- {r.what}: {r.note}." for r in results if r.note]
    description = "; ".join(f"{key}: {value}" for key, value in machine().items())
    return "\n".join([f"{description}.", "", *lines, "", *notes])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def renew(page: Path, text: str) -> None:
    """Put the text between the page's markers, or print it if there are none."""
    old = page.read_text() if page.exists() else ""
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        print(f"\n{page.name} has no place for it ({BEGIN} .. {END}):\n\n{text}")
        return
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    print(f"\nrenewed the table in {page.relative_to(ROOT)}")


def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--run", type=Path, help="a finished default run, instead of making one")
    options.add_argument("--only", nargs="+", metavar="SCRIPT", help="e.g. training.py rate.py")
    options.add_argument("--json", type=Path, help="append the rows to this file of JSON lines")
    arguments = options.parse_args()
    began = time.perf_counter()
    failed = []
    with tempfile.TemporaryDirectory() as directory:
        rows = Path(directory) / "rows.jsonl"
        run = arguments.run or Path(directory) / "run"
        for command in plan(run.absolute(), is_finished=bool(arguments.run)):
            if arguments.only and command[0] not in arguments.only:
                continue
            if not run_one(command, rows):
                failed.append(command[0])
        lines = rows.read_text().splitlines() if rows.exists() else []
    if arguments.json:
        with arguments.json.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
    print(f"\nall together: {(time.perf_counter() - began) / 60:.1f} minutes", flush=True)
    text = table([Result(**json.loads(line)) for line in lines])
    if failed or arguments.only:
        print(f"\n{text}\n")
        raise SystemExit(f"the page is left as it is; failed: {', '.join(failed) or 'none'}")
    renew(PAGE, text)


if __name__ == "__main__":
    main()

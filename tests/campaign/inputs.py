"""Input that hypothesis makes: settings, task files, files of prompts, files of sweeps."""

import csv
import io
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from campaign.attempt import Judged, Outcome
from campaign.command import Command, Ended, run
from campaign.contents import hostile
from campaign.directories import SMALL, Directories, results
from e2e.conftest import TINY
from e2e.damage import CUT, VALUES, change_of
from e2e.stock import QUICK, Record, csv_of
from e2e.sweeps import SWEEP
from tasklens.runs.settings import ModelRunSettings, load_settings

#: Examples are drawn so many at a time: those before an attack's own are drawn for it, too.
BATCH = 50
#: Values of settings by their type: most are valid, and make small runs.
VALID: dict[type, list[str]] = {
    bool: ["true", "false"],
    int: ["0", "1", "2", "3", "4"],
    float: ["0.0", "0.5", "1.0", "1e-3", "3.0"],
    tuple: ["[]", "[2]", "[2, 3]", '["embed"]', '["abc+", "bcd*e"]'],
    str: ["last", "all", "none", "raw", "tsne", "ami", "bf16", "fp32", "output", "input", "abcd"],
}
#: Values of any setting: few are valid.
TEXTS = [
    *("0", "1", "2", "3", "5", "-1", "0.5", "1e-3", "2.5", "nan", "inf", "-inf", "1e999", "1_0"),
    *("true", "false", "[]", "[2]", "[2, 3]", "[3, 3]", '["x"]', "[1.5]", "{}", "{a = 1}"),
    *("x", '"x"', '""', "", " ", "last", "all", "none", "raw", "tsne", "é", '"a\\u0000b"', "[["),
]
#: Settings that start processes, or that no machine has.
LEFT_OUT = ("workers", "train.device", "subject.device", "subject.models", "tasks.file")

#: Takes the directories, a path to work at, the seed and the number of the attack; returns what
#: was seen, and what was done.
Attack = Callable[[Directories, Path, int, int], tuple[Judged, str]]


def drawn(strategy: st.SearchStrategy[Any], seed_: int, number: int) -> Any:
    """Return an example of a strategy, which derives from a seed and the number."""
    examples: list[Any] = []

    @seed(f"{seed_} {number // BATCH}")
    @settings(
        max_examples=BATCH,
        phases=[Phase.generate],
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        examples.append(example)

    state = random.getstate()
    collect()
    random.setstate(state)
    return examples[number % BATCH % len(examples)]


def _twice(judged: Judged, work: Path, kind: str, command: Command) -> Ended:
    """Run a command that makes a directory; if it is not refused, again, and compare."""
    ends, hashes = [], []
    for name in ("first", "second"):
        (work / name).mkdir(parents=True)
        ended = run(work / name, command)
        ends.append(ended)
        if judged.failed("the command", ended):
            return ended
        if ended.status:
            left = {p.name for p in (work / name).rglob("*")}
            is_late = ended.status != 2 or "loss" in ended.err  # not known before any work
            judged.refused(ended, set() if is_late else left)
            return ended
        hashes.append(results(work / name / kind))
    if ends[0].out != ends[1].out or hashes[0] != hashes[1]:
        names = [name for name in hashes[0] if hashes[0][name] != hashes[1].get(name)]
        judged.note(Outcome.DIFFERENT, f"the second time: {', '.join(names[:4])}")
    return ends[0]


def _changes(known: dict[str, Any]) -> st.SearchStrategy[dict[str, str]]:
    """Draw values of one or two settings, or of one that does not exist."""
    item = st.sampled_from([key for key in known if key not in LEFT_OUT]).flatmap(
        lambda key: st.tuples(
            st.just(key),
            st.one_of(*2 * [st.sampled_from(VALID[type(known[key])])], st.sampled_from(TEXTS)),
        )
    )
    unknown = st.just(("model.n_layers", "2"))
    return st.lists(st.one_of(*8 * [item], unknown), min_size=1, max_size=2).map(dict)


def settings_of_a_run(d: Directories, work: Path, seed_: int, number: int) -> tuple[Judged, str]:
    """Run a training run with one or two settings changed."""
    changed = drawn(_changes(load_settings("smoke").flat()), seed_, number)
    command = _run_command(changed)
    judged = Judged()
    _twice(judged, work, "run", command)
    return judged, f"{changed}"


def _run_command(changed: dict[str, str]) -> Command:
    small = {key.replace("__", "."): str(value) for key, value in SMALL.items()}
    values = {**TINY, **small, **changed}
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return ("run", "smoke", *sets, "--out", "run")


def settings_of_a_probe(d: Directories, work: Path, seed_: int, number: int) -> tuple[Judged, str]:
    """Probe a model with one or two settings changed."""
    strategy = _changes(ModelRunSettings.from_table({"subject": {"models": ["x"]}}, []).flat())
    changed = drawn(strategy, seed_, number)
    sets = [word for key, value in changed.items() for word in ("--set", f"{key}={value}")]
    judged = Judged()
    command = d.stock.command(*sets, "--out", "one", models=d.stock.checkpoints[200])
    _twice(judged, work, "one", command)
    return judged, f"{changed}"


def task_file(d: Directories, work: Path, seed_: int, number: int) -> tuple[Judged, str]:
    """Run a training run of changed tasks."""
    change = drawn(change_of("tasks.json"), seed_, number)
    content = change((d.cases["run"].path / "data" / "tasks.json").read_bytes())
    work.mkdir(parents=True)
    (work / "tasks.json").write_bytes(content)
    judged = Judged()
    _twice(judged, work, "run", _run_command({"tasks.file": str(work / "tasks.json")}))
    return judged, f"{change}"[:200]


def hostile_file(d: Directories, work: Path, seed_: int, number: int) -> tuple[Judged, str]:
    """Run a command with a file of settings, tasks, a sweep or prompts that is none."""
    rng = random.Random(f"{seed_} hostile {number}")
    name = rng.choice(["settings.toml", "tasks.json", "sweep.toml", "prompts.jsonl", "prompts.csv"])
    contents: dict[str, Callable[[], bytes]] = {
        "settings.toml": (d.cases["run"].path / "config.toml").read_bytes,
        "tasks.json": (d.cases["run"].path / "data" / "tasks.json").read_bytes,
        "sweep.toml": SWEEP.encode,
        "prompts.jsonl": d.stock.prompts.read_bytes,
        "prompts.csv": partial(csv_of, d.stock.rows),
    }
    content, what = hostile(contents[name](), rng)
    work.mkdir(parents=True)
    file = work / name
    file.write_bytes(content)
    probe = d.stock.command("--prompts", file, "--out", "one", models=d.stock.checkpoints[200])
    commands: dict[str, tuple[str, Command]] = {
        "settings.toml": ("run", ("run", file, "--out", "run")),
        "tasks.json": ("run", _run_command({"tasks.file": str(file)})),
        "sweep.toml": ("sweep", ("sweep", file, "--dry-run", "--out", "sweep")),
    }
    judged = Judged()
    _twice(judged, work, *commands.get(name, ("one", probe)))
    return judged, f"{name}: {what}"


def sweep_file(d: Directories, work: Path, seed_: int, number: int) -> tuple[Judged, str]:
    """List the runs of a changed sweep."""
    change = drawn(change_of("sweep.toml"), seed_, number)
    work.mkdir(parents=True)
    (work / "sweep.toml").write_bytes(change(SWEEP.encode()))
    judged = Judged()
    command = ("sweep", work / "sweep.toml", "--dry-run", "--out", "sweep")
    _twice(judged, work, "sweep", command)
    return judged, f"{change}"[:200]


# --- Prompts ---

#: What stands in a column: of other types, very long, deep, with NUL.
CELLS: list[Any] = [*VALUES, "x" * 200_000, "\0\0", 'a,b\n"c"', "\ufeff", "\u202e", 1e300]


@st.composite
def _prompt_files(draw: st.DrawFn, rows: list[Record]) -> tuple[str, bytes, str]:
    """Draw the ending, the content and a description of a file of prompts."""
    suffix = draw(st.sampled_from(["jsonl", "csv", "parquet"]))
    records = [{**row} for row in rows]
    what = []
    for _ in range(draw(st.integers(0, 2))):
        column = draw(st.sampled_from([*records[0], "split", "new"]))
        cells = draw(st.lists(st.sampled_from(CELLS), min_size=1, max_size=4))
        some = draw(st.sampled_from([1, 5, 47, 48]))
        for i in range(some):
            records[-1 - i][column] = cells[i % len(cells)]
        what.append(f"{column} of {some} rows: {cells!r}"[:100])
    if suffix == "jsonl":
        content = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    elif suffix == "csv":
        content = csv_of(records)
    else:
        table = io.BytesIO()
        try:
            pd.DataFrame(records).to_parquet(table)
        except (TypeError, ValueError, OverflowError, pa.ArrowException):
            pd.DataFrame(records).astype(str).to_parquet(table)
        content = table.getvalue()
    if draw(st.integers(0, 2)) == 0 or not what:
        change = draw(CUT)
        content = change(content)
        what.append(f"{change}"[:100])
    if draw(st.integers(0, 9)) == 0:
        content += b"[" * 100_000
        what.append("deep")
    return suffix, content, "; ".join(what)


def prompt_file(d: Directories, work: Path, seed_: int, number: int) -> tuple[Judged, str]:
    """Plan a probe of changed prompts, compare the plan with the file, and run it."""
    suffix, content, what = drawn(_prompt_files(d.stock.rows), seed_, number)
    work.mkdir(parents=True)
    file = work / f"prompts.{suffix}"
    file.write_bytes(content)
    judged = Judged()
    quick = [word for item in QUICK for word in ("--set", item)]
    command: Command = (
        "probe",
        d.stock.checkpoints[200],
        "--prompts",
        file,
        *quick,
        "--out",
        "one",
    )
    ended = run(work, (*command, "--dry-run", "--json"))
    if not judged.failed("the plan", ended):
        if ended.status:
            judged.note(Outcome.REFUSED, ended.err.strip())
        else:
            _compare(judged, json.loads(ended.out), file)
            _twice(judged, work, "one", command)
    return judged, f"{suffix}: {what}"


def _compare(judged: Judged, plan: dict[str, Any], file: Path) -> None:
    """Compare a plan with what other readers find in the file."""
    try:
        labels = _labels(file)
    except (ValueError, RecursionError, KeyError, csv.Error, pa.ArrowException) as error:
        judged.note(Outcome.DIFFERENT, f"read, though {type(error).__name__}: {error}"[:200])
        return
    if plan["prompts"] != len(labels):
        judged.note(Outcome.DIFFERENT, f"{plan['prompts']} prompts of {len(labels)}")
    missing = [each for each in labels if each in (None, "") or each != each]
    if missing:
        judged.note(Outcome.DIFFERENT, f"{len(missing)} labels are missing, and none is refused")
    elif len(plan["labels"]) != len({json.dumps(each) for each in labels}):
        judged.note(Outcome.DIFFERENT, f"labels {plan['labels']} of {set(map(repr, labels))}")


def _labels(file: Path) -> list[Any]:
    if file.suffix == ".parquet":
        return list(pd.read_parquet(file)["label"])
    text = file.read_text("utf-8-sig")
    if file.suffix == ".csv":
        return [row["label"] for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    return [json.loads(line)["label"] for line in text.split("\n") if line.strip()]


INPUTS: dict[str, Attack] = {
    "settings-run": settings_of_a_run,
    "settings-probe": settings_of_a_probe,
    "task-file": task_file,
    "sweep-file": sweep_file,
    "prompt-file": prompt_file,
    "hostile-file": hostile_file,
}

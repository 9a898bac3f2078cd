"""Sweeps, and following the tasks of one run, through the command line."""

import json
import shutil
from pathlib import Path
from unittest import mock

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import tasklens as tl
from e2e.conftest import TINY, Finished, assert_refused, call, changes, scores_of, succeed
from e2e.sweeps import (
    AXES,
    DIVERGES,
    SHORT,
    interrupted_at,
    listed,
    outputs,
    sweep,
    touched,
    write_sweep,
)
from tasklens.data.dataset import MEASURED
from tasklens.runs import sweep as runs_sweep


@pytest.fixture
def run(swept: Finished) -> Path:
    """A run of the finished sweep. Not to be changed."""
    return min((swept.path / "runs").iterdir())


@pytest.fixture
def copied(swept: Finished, tmp_path: Path) -> Path:
    """A copy of the finished sweep, for the test to change."""
    return Path(shutil.copytree(swept.path, tmp_path / "out"))


def everything(path: Path) -> dict[str, bytes]:
    """Return all files of a directory, without logs and manifests."""
    return {
        str(file): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("manifest.json", "log.txt")
    }


# --- What a sweep writes ---


def test_one_table_of_all_runs(swept: Finished, sweep_file: Path) -> None:
    assert (swept.result.status, swept.result.err) == (0, "")
    names = list(listed(sweep_file, swept.path))
    written = ["scores.parquet", "points.parquet", "points.csv", "separation.png", "phase.png"]
    assert swept.result.out.splitlines() == [str(swept.path / name) for name in written]
    assert (swept.path / "phase.png").read_bytes().startswith(b"\x89PNG")
    assert (swept.path / "sweep.toml").read_bytes() == sweep_file.read_bytes()
    assert {path.name for path in (swept.path / "runs").iterdir()} == set(names)
    scores = scores_of(swept.path)
    each = [scores_of(swept.path / "runs" / name) for name in names]
    assert scores == [row for rows in each for row in rows]
    assert [{row["run"] for row in rows} for rows in each] == [{name} for name in names]
    cell = {"split": "val_subset", "layer": "block1", "space": "raw"}
    points = scores_of(swept.path / "points.parquet", **cell)
    assert [(r["run"], r["model.n_embd"], r["train.learning_rate"], r["seed"]) for r in points] == [
        (name, n_embd, 3e-3, seed)
        for name, (n_embd, seed) in zip(names, [(8, 0), (8, 1), (16, 0), (16, 1)], strict=True)
    ]
    for row in points:
        (final,) = (
            r["value"]
            for r in scores_of(swept.path, run=row["run"], step=2, **cell)
            if r["metric"] == "ari"
        )
        assert row["final"] == final
    assert len({row["final"] for row in points}) > 1
    head, *lines = (swept.path / "points.csv").read_text().splitlines()
    assert len(lines) == pq.read_table(swept.path / "points.parquet").num_rows
    assert head.replace('"', "").startswith("run,seed,model.n_embd,train.learning_rate,split,")


def test_a_point_is_the_run_of_its_settings(swept: Finished, tmp_path: Path) -> None:
    path = tmp_path / "plain"
    settings = changes(**SHORT | {"model.n_embd": 16, "train.learning_rate": 3e-3, "seed": 1})
    succeed("run", "smoke", *settings, "--out", path)
    (name,) = {
        row["run"]
        for row in scores_of(swept.path / "points.parquet", **{"model.n_embd": 16, "seed": 1})
    }
    plain, point = scores_of(path), scores_of(swept.path, run=name)
    assert [{**row, "run": name} for row in plain] == point
    assert (path / "metrics.jsonl").read_bytes() == (
        swept.path / "runs" / name / "metrics.jsonl"
    ).read_bytes()


@pytest.mark.long
def test_two_workers_make_the_same_bytes(swept: Finished, sweep_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "out"
    result = call("sweep", sweep_file, "--out", path, "--workers", "2")
    assert (result.status, result.err) == (0, "")
    mine, theirs = outputs(path), outputs(swept.path)
    assert mine.keys() == theirs.keys()
    assert [name for name, content in mine.items() if content != theirs[name]] == []


def test_a_dry_run_lists_the_runs_and_writes_nothing(
    swept: Finished, sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    runs = listed(sweep_file)
    assert list(empty.iterdir()) == []
    assert list(runs.values()) == [
        f"to do  seed={seed}  model.n_embd={n_embd}, train.learning_rate=0.003"
        for n_embd in (8, 16)
        for seed in (0, 1)
    ]
    before = outputs(swept.path)
    again = listed(sweep_file, swept.path)
    assert again == {name: line.replace("to do", "done ") for name, line in runs.items()}
    assert outputs(swept.path) == before


def test_a_wrong_file_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_sweep(tmp_path, '[grid]\n"model.n_layr" = [1]\n')
    line = assert_refused(call("sweep", file), str(file), "no setting 'model.n_layr'")
    assert line.endswith("the nearest is 'model.n_layer'")
    assert_refused(call("sweep", tmp_path / "none.toml"), "none.toml cannot be read")
    assert list(tmp_path.iterdir()) == [file]


# --- What is kept and resumed ---


def test_nothing_is_done_twice(swept: Finished, sweep_file: Path, copied: Path) -> None:
    before = touched(copied)
    result = sweep(sweep_file, copied)
    assert (result.status, result.err) == (0, "")
    assert touched(copied) == before
    assert outputs(copied) == outputs(swept.path)


def test_edits_are_made_before_the_weights_are_removed(tmp_path: Path) -> None:
    file, out = write_sweep(tmp_path, '[grid]\n"model.n_embd" = [8]\n'), tmp_path / "out"
    assert sweep(file, out).status == 0
    assert "interventions.parquet" not in outputs(out)
    assert all(line.startswith("done") for line in listed(file, out).values())
    plan = call("sweep", file, "--out", out, "--dry-run", "--intervene").out
    assert plan.count("to do") == 2, "they have no weights and are trained again"
    result = sweep(file, out, "--intervene")
    assert result.status == 0, result.err
    assert str(out / "interventions.parquet") in result.out.splitlines()
    table = pq.read_table(out / "interventions.parquet")
    for run in (out / "runs").iterdir():
        assert not (run / "checkpoints").exists()
        own = pq.read_table(run / "interventions.parquet")
        of_run = table.filter(pc.field("run") == run.name).to_pandas()
        pd.testing.assert_frame_equal(of_run, own.to_pandas())
        assert tl.load_run(run).verdict().use.untested == ""
    # From then on edits belong to the sweep.
    (next((out / "runs").iterdir()) / "interventions.parquet").unlink()
    assert sorted(line[:5] for line in listed(file, out).values()) == ["done ", "to do"]
    assert sweep(file, out, "--shard", "1/1").status == 0
    assert all(line.startswith("done") for line in listed(file, out).values())


@pytest.mark.parametrize("command", ["sweep", "shard", "gather"])
def test_a_directory_that_is_not_of_a_sweep_is_left_alone(
    sweep_file: Path, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "mine"
    for name in (".tmp-a", "runs/.tmp-b", "runs/notes", "sweep.toml", "scores.parquet"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"mine")
    before = everything(out)
    arguments = {"sweep": ["sweep"], "shard": ["sweep", "--shard", "1/2"], "gather": ["gather"]}
    name, *more = arguments[command]
    result = call(name, sweep_file, "--out", out, *more)
    assert_refused(result, f"{out} is not empty and not the directory of a sweep; name another")
    assert everything(out) == before


@pytest.mark.parametrize("command", ["sweep", "gather"])
def test_a_run_that_is_a_link_is_not_followed(
    sweep_file: Path, copied: Path, tmp_path: Path, command: str
) -> None:
    run = next((copied / "runs").iterdir())
    shutil.rmtree(run)
    (tmp_path / "theirs").mkdir()
    run.symlink_to(tmp_path / "theirs")
    line = f"{run} is a link: remove it and run the sweep again"
    assert_refused(call(command, sweep_file, "--out", copied), line)
    assert not list((tmp_path / "theirs").iterdir())
    shutil.rmtree(copied / "runs")
    (copied / "runs").write_bytes(b"a file")
    line = f"{copied / 'runs'} should be a directory: move the file elsewhere"
    assert_refused(call(command, sweep_file, "--out", copied), line)


def test_a_sweep_without_a_manifest_is_still_one(
    swept: Finished, sweep_file: Path, copied: Path
) -> None:
    (copied / "manifest.json").write_bytes(b"{")
    assert_refused(sweep(sweep_file, copied), f"{copied / 'manifest.json'} is damaged (")
    (copied / "manifest.json").unlink()
    before = touched(copied)
    assert sweep(sweep_file, copied).status == 0
    assert touched(copied) == before
    assert outputs(copied) == outputs(swept.path)


def test_what_is_not_of_tasklens_stays_in_the_directory_of_a_sweep(
    sweep_file: Path, copied: Path
) -> None:
    run = next((copied / "runs").iterdir())
    for name in (".tmp-a", ".tasklens-a", "runs/.tmp-b", f"runs/{run.name}/states/notes"):
        (copied / name).parent.mkdir(exist_ok=True)
        (copied / name).write_bytes(b"mine")
    before = everything(copied)
    assert sweep(sweep_file, copied).status == 0
    assert everything(copied) == before


def test_the_tables_of_another_list_are_removed_before_its_runs_begin(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_sweep, "measure", interrupted_at(1))
    assert sweep(write_sweep(tmp_path, AXES, seeds="[0, 1, 2]"), copied).status == 130
    left = {path.name for path in copied.iterdir()}
    assert left == {"runs", "sweep.toml", "manifest.json", ".lock"}


def test_a_longer_list_runs_what_is_new(copied: Path, tmp_path: Path, swept: Finished) -> None:
    file = write_sweep(tmp_path, AXES.replace("[8, 16]", "[16, 4]"), "[1]")
    before = touched(copied)
    assert sweep(file, copied).status == 0
    after = touched(copied)
    assert {name: after[name] for name in before} == before
    new = {Path(name).relative_to(copied / "runs").parts[0] for name in after.keys() - before}
    assert len(new) == 1
    points = scores_of(copied / "points.parquet", split="val_subset", layer="block1")
    assert [(r["model.n_embd"], r["seed"]) for r in points] == [(16, 1), (4, 1)], "of this file"
    assert points[1]["run"] in new


def test_the_map_of_a_grid_is_not_of_what_varies_around_the_base(
    copied: Path, tmp_path: Path
) -> None:
    def drawn(axes: str) -> dict[str, bytes]:
        file = write_sweep(tmp_path, axes, "[0]", model__n_embd=8)
        assert sweep(file, copied).status == 0
        return {path.name: path.read_bytes() for path in copied.glob("*.png")}

    grid = drawn(AXES)
    # The base is on the grid, and another run differs from it in what is on no axis of the map.
    both = drawn(AXES + '[around]\n"tasks.variants_per_task" = [15]\n')
    points = scores_of(copied / "points.parquet", split="val_subset", layer="block1")
    assert sorted((r["model.n_embd"], r["tasks.variants_per_task"]) for r in points) == [
        *((8, 12), (8, 15), (16, 12))
    ]
    assert both["phase.png"] == grid["phase.png"]
    assert both["separation.png"] != grid["separation.png"], "which is of all of them"
    assert both.keys() - grid.keys() == {"around.png"}


def test_an_interrupted_sweep_resumes(swept: Finished, sweep_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "out"
    first, *_ = listed(sweep_file, path)
    shutil.copytree(swept.path / "runs" / first, path / "runs" / first)
    with mock.patch("tasklens.runs.sweep.measure", interrupted_at(2)):
        result = sweep(sweep_file, path)
    assert result.status == 130
    assert not (path / "scores.parquet").exists()
    runs = listed(sweep_file, path)
    assert [line.partition("  ")[0] for line in runs.values()] == ["done", "done", *["to do"] * 2]
    trained = path / "runs" / list(runs)[2]
    assert (trained / "states").is_dir()
    assert not (trained / "measured").exists()
    metrics = (trained / "metrics.jsonl").stat().st_mtime_ns
    before = touched(path)
    result = sweep(sweep_file, path)
    assert (result.status, result.err) == (0, "")
    assert outputs(path) == outputs(swept.path)
    assert (trained / "metrics.jsonl").stat().st_mtime_ns == metrics, "it is not trained again"
    for name in list(runs)[:2]:
        files = {k: v for k, v in touched(path).items() if f"/{name}/" in k}
        assert files == {k: v for k, v in before.items() if f"/{name}/" in k}


def test_a_run_without_scores_is_measured_again(
    swept: Finished, sweep_file: Path, copied: Path
) -> None:
    first, *others = sorted((copied / "runs").iterdir())
    (first / "scores.parquet").unlink()
    shutil.rmtree(first / "measured" / "step-00000001")
    before = touched(copied)
    assert sweep(sweep_file, copied).status == 0
    assert outputs(copied) == outputs(swept.path)
    assert all(
        state == before[name] for name, state in touched(copied).items() if str(first) not in name
    )
    assert len(others) == 3


def test_the_files_that_a_sweep_keeps_are_those_that_verify_reads(
    swept: Finished, copied: Path
) -> None:
    for run in (copied / "runs").iterdir():
        left = {path.name for path in run.iterdir()} - {"manifest.json", "log.txt", ".lock"}
        assert left == {"config.toml", "data", "measured", "metrics.jsonl", *SCORES}
        assert "will take about" in (run / "log.txt").read_text(), "its messages are kept"
    runs = sorted(
        {row["run"] for row in scores_of(copied / "points.parquet", **{"model.n_embd": 8})}
    )
    result = call("verify", *(copied / "runs" / name for name in runs), "--out", copied / "v")
    # So short a run has too few checkpoints for a verdict.
    assert (result.status, result.err) == (1, "")
    verdict = json.loads((copied / "v").read_text())
    assert sorted((r["run"], r["seed"]) for r in verdict["runs"]) == sorted(
        (row["run"], row["seed"])
        for row in scores_of(
            copied / "points.parquet", **{"model.n_embd": 8, "split": "val_subset"}, layer="embed"
        )
    )
    followed = call("follow", copied / "runs" / runs[0], "--layer", "block1")
    assert followed.status == 0, followed.err


SCORES = ("scores.parquet", "scores.csv")


def test_states_and_weights_are_kept_on_request(swept: Finished, tmp_path: Path) -> None:
    file, path = write_sweep(tmp_path, AXES.replace("[8, 16]", "[8]"), "[0]"), tmp_path / "out"
    assert sweep(file, path, "--keep").status == 0
    (run,) = (path / "runs").iterdir()
    assert len(list((run / "states").iterdir())) == 3
    assert (run / "checkpoints" / "step-00000002" / "model.safetensors").exists()
    assert (run / "resume").exists()
    theirs = swept.path / "runs" / run.name
    for name in SCORES:
        assert (run / name).read_bytes() == (theirs / name).read_bytes()
    # Such a run is as good as any other: it can be measured again.
    succeed("measure", run, "--set", "clusters.n_init=2")


# --- Runs that fail ---


def test_a_run_that_fails_is_named_and_tried_again_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    axes = f'[around]\n"train.learning_rate" = [{DIVERGES}]\n'
    file = write_sweep(tmp_path, axes, "[0]")
    path = Path("runs", "mine")  # the default
    good, bad = listed(file, path)
    result = call("sweep", file, "--workers", "1")
    assert result.status == 1
    (line,) = result.err.splitlines()
    assert line.startswith(f"tasklens: run {bad} failed: training diverged at step ")
    assert "lower train.learning_rate" in line
    written = [Path(line).name for line in result.out.splitlines()]
    assert written == [
        *("scores.parquet", "points.parquet", "points.csv", "separation.png", "around.png")
    ]
    assert {row["run"] for row in scores_of(path / "scores.parquet")} == {good}
    assert not (path / "runs" / bad / "scores.parquet").exists()
    runs = listed(file)
    assert (runs[good].split()[0], runs[bad].split()[:2]) == ("done", ["to", "do"])
    before = {name: state for name, state in touched(path).items() if good in name}
    again = call("sweep", file, "--workers", "1")
    assert (again.status, again.out, again.err) == (1, result.out, result.err), "tried again"
    assert {name: state for name, state in touched(path).items() if good in name} == before


def test_the_base_may_fail_and_so_may_all(tmp_path: Path) -> None:
    axes = '[around]\n"train.learning_rate" = [3e-3]\n'
    file = write_sweep(tmp_path, axes, "[0]", train__learning_rate=DIVERGES)
    bad, good = listed(file)
    assert sweep(file, tmp_path / "out").status == 1
    assert {row["run"] for row in scores_of(tmp_path / "out" / "points.parquet")} == {good}
    assert (tmp_path / "out" / "around.png").exists()
    file = write_sweep(tmp_path, "", "[0]", train__learning_rate=DIVERGES)
    alone = sweep(file, tmp_path / "alone")
    assert (alone.status, alone.out) == (1, "")
    (line,) = alone.err.splitlines()
    assert line.startswith(f"tasklens: run {bad} failed: training diverged")


# --- Following tasks ---


def test_follow_prints_when_tasks_formed_and_counts_clusters(run: Path) -> None:
    result = call("follow", run, "--layer", "block1")
    assert (result.status, result.err) == (0, "")
    title, _, head, *lines = result.out.splitlines()
    assert title == "block1 on val_subset (raw):"
    assert head.split() == ["task", "formed", "at", "overlap", "at", "the", "end"]
    split = lines.index("")
    tasks = {line.split()[0]: line.split()[1:] for line in lines[:split]}
    rows = pq.read_table(run / "data" / "val_subset.parquet").to_pylist()
    assert set(tasks) == {row["task"] for row in rows}
    assert len(tasks) == TINY["data.measured_tasks"]
    steps = ["0", "1", "2"]
    counts = [line.split() for line in lines[split + 2 :]]
    assert [line[0] for line in counts] == steps
    assert len(counts[0]) == 2
    assert all(len(line) == 4 for line in counts[1:])
    formed = sum(when != "never" for when, _ in tasks.values())
    assert int(counts[-1][1]) == formed == sum(float(o) >= 0.5 for _, o in tasks.values())
    assert {when for when, _ in tasks.values()} <= {"never", *steps}


def test_follow_takes_the_best_layer_and_another_split_on_request(run: Path) -> None:
    rows = scores_of(run, metric="ari", step=2, split="train_subset", space="raw")
    final = {row["layer"]: row["value"] for row in rows if row["layer"] in ("embed", "block1")}
    best = max(sorted(final, reverse=True), key=lambda layer: final[layer])
    result = call("follow", run, "--split", "val_instruction_subset")
    assert result.out.startswith(f"{best} on val_instruction_subset (raw):\n")
    other = call("follow", run, "--split", "train_subset")
    assert other.out.splitlines()[2:] != result.out.splitlines()[2:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layer", "block7"), "no hidden state 'block7'; there are wte, embed, block1, ln_f"),
        (("--split", "mine"), f"no split 'mine'; there are {', '.join(MEASURED)}"),
        (("--layer", "1", "--space", "tsne"), "no clusters of val_subset/block1/tsne; there are"),
    ],
)
def test_follow_lists_what_the_run_has(run: Path, options: tuple[str, ...], message: str) -> None:
    assert_refused(call("follow", run, *options), message)


def test_follow_takes_the_ways_to_write_a_name(run: Path) -> None:
    plain = succeed("follow", run, "--layer", "block1", "--split", "train_subset").out
    assert succeed("follow", run, "--layer", "layer 1", "--split", "training").out == plain


def test_follow_needs_a_measured_run(tmp_path: Path) -> None:
    assert_refused(call("follow", tmp_path), f"{tmp_path} is not a run directory")
    path = tmp_path / "run"
    succeed("data", "smoke", *changes(), "--out", path)
    assert_refused(call("follow", path), "stage train is not finished; run it first: ")

"""Each stage alone picks up what the one before left; a plan writes nothing."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from e2e.conftest import Command, Finished, assert_refused, assert_same, changes, contents, times


def test_the_stages_one_by_one_give_what_run_gives(
    tiny: Finished, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / tiny.path.name
    ends = {
        "data": path / "data",
        "train": path / "checkpoints",
        "measure": path / "scores.csv",
        "plot": path / "figures" / "figure1.png",
    }
    for stage, end in ends.items():
        arguments = ("smoke", *changes(), "--out", path) if stage == "data" else (path,)
        result = command(stage, *arguments)
        assert result.status == 0, result.err
        assert result.out == f"{end}\n"
    verdict = command("verify", path)
    assert verdict.status == 1  # nothing holds in so small a world
    report = command("report", path)
    assert report.out == f"{path / 'report.html'}\n"
    assert_same(path, tiny.path)
    shown, said = command("show", path).out, tiny.result.out
    assert said.startswith(f"{shown}\nundecided  emergence: ")
    assert said.endswith(
        f"\n\n{tiny.path / 'report.html'}\n{tiny.path / 'figures' / 'figure1.png'}\n"
    )
    for line in said.removeprefix(shown).splitlines()[1:-2]:  # a finding, or how many hold
        assert line in verdict.out.splitlines()


def test_a_stage_before_its_turn_names_the_one_to_run(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "run"
    line = assert_refused(command("train", path), f"{path} is not a run directory")
    assert "tasklens run PRESET --out DIR" in line
    assert not path.exists()
    assert command("data", "smoke", *changes(), "--out", path).status == 0
    before = contents(path)
    for stage, needed in (("measure", "train"), ("plot", "measure")):
        line = assert_refused(command(stage, path), f"stage {needed} is not finished")
        assert line.endswith(f"run it first: tasklens {needed} {path}")
    assert_refused(command("show", path), "scores.parquet", "run the stage that makes it first")
    assert contents(path) == before
    assert command("train", path).status == 0
    assert_refused(command("plot", path), f"run it first: tasklens measure {path}")


def test_a_finished_stage_does_nothing(copy: Path, command: Command) -> None:
    before = times(copy)
    for stage in ("train", "measure", "plot"):
        assert command(stage, copy).status == 0
    assert {name for name, time in times(copy).items() if before[name] != time} <= {"config.toml"}


def test_measuring_again_does_not_train_again(copy: Path, command: Command) -> None:
    before, old = times(copy), contents(copy)
    result = command("measure", copy, "--set", "clusters.n_init=5", "--set", "clusters.tsne=none")
    assert result.status == 0, result.err
    after = times(copy)
    assert after.keys() == before.keys()
    parts = {name.partition("/")[0] for name in after if after[name] != before[name]}
    assert parts == {"config.toml", "measured", "scores.parquet", "scores.csv"}
    assert re.search(r"^n_init = 5$", (copy / "config.toml").read_text(), re.MULTILINE)
    # nothing lost: the settings of before give the table of before
    assert command("measure", copy, "--set", "clusters.n_init=1").status == 0
    assert contents(copy) == old


def test_more_cluster_seeds_are_more_rows(copy: Path, command: Command) -> None:
    def seeds() -> list[object]:
        return pq.read_table(copy / "scores.parquet")["cluster_seed"].unique().to_pylist()  # type: ignore[no-any-return]

    assert seeds() == [0, None]
    assert command("measure", copy, "--set", "clusters.cluster_seeds=2").status == 0
    assert seeds() == [0, 1, None]


def test_drawing_again_does_not_measure_again(copy: Path, command: Command) -> None:
    before = times(copy)
    old = (copy / "figures" / "figure1.png").read_bytes()
    result = command("plot", copy, "--set", "figure.metric=ami")
    assert result.status == 0, result.err
    after = times(copy)
    parts = {name.partition("/")[0] for name in after if after[name] != before[name]}
    assert parts == {"config.toml", "figures"}
    assert (copy / "figures" / "figure1.png").read_bytes() != old


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("measure", "train.steps=24"),
        ("measure", "seed=1"),
        ("measure", "figure.space=raw"),
        ("plot", "clusters.n_init=2"),
        ("plot", "model.n_embd=16"),
    ],
)
def test_a_stage_changes_its_own_settings_only(
    copy: Path, command: Command, stage: str, change: str
) -> None:
    before = contents(copy)
    tables = {"measure": "clusters.* and measure.*", "plot": "figure.*"}[stage]
    result = command(stage, copy, "--set", change)
    assert_refused(result, f"--set {change}: only {tables} can change here")
    assert contents(copy) == before


def test_a_plan_says_time_and_disk_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "run"
    here = set(Path.cwd().iterdir())
    result = command("run", "smoke", *changes(), "--out", path, "--dry-run")
    assert result.status == 0, result.err
    assert not path.exists()
    assert set(Path.cwd().iterdir()) == here
    assert "checkpoints: 6, at steps 0, 1, 2, 4, 8, 12\n" in result.out
    assert "weights kept of 6 of them\n" in result.out
    time, disk = result.out.split("time on this machine")[1].split("\ndisk\n")
    for stage in ("data", "train", "harvest", "measure", "together"):
        assert re.search(rf"^  {stage} +\d+ (s|min)$", time, re.MULTILINE), result.out
    for kind in ("data", "states", "weights", "to go on from", "together"):
        assert re.search(rf"^  {kind} +[\d,]+ MB$", disk, re.MULTILINE), result.out


def test_a_plan_counts_the_weights_that_fit(command: Command) -> None:
    sparse = ("--set", "checkpoints.weights_gib=0", "--set", "checkpoints.sparse_weights=2")
    result = command("run", "smoke", *changes(), *sparse, "--dry-run")
    assert "weights kept of 2 of them\n" in result.out


def test_sparse_weights_are_kept_with_the_last_and_all_states(
    command: Command, tmp_path: Path, tiny: Finished
) -> None:
    path = tmp_path / tiny.path.name
    sparse = ("--set", "checkpoints.weights_gib=0", "--set", "checkpoints.sparse_weights=2")
    assert command("data", "smoke", *changes(), *sparse, "--out", path).status == 0
    result = command("train", path)
    assert result.status == 0
    assert "weights of 2 of them" in result.err
    assert {p.name for p in (path / "checkpoints").iterdir()} == {"step-00000000", "step-00000012"}
    assert_same(path, tiny.path, "states", "metrics.jsonl")


def test_show_has_layers_by_splits_and_accuracy(tiny: Finished, command: Command) -> None:
    lines = command("show", tiny.path).out.splitlines()
    table = pq.read_table(tiny.path / "scores.parquet").to_pylist()
    ari = {
        (row["layer"], row["split"]): row["value"]
        for row in table
        if row["metric"] == "ari" and row["step"] == 12
    }
    splits = ["train_subset", "val_subset", "val_instruction_subset"]
    assert lines[1].split() == ["layer", "space", *splits]
    shown = {line.split()[0]: line.split() for line in lines[2:-1]}
    assert list(shown)[:4] == ["wte", "embed", "block1", "ln_f"]
    for layer in list(shown)[:4]:
        assert shown[layer][1] == "raw"
        assert shown[layer][2::2] == [f"{ari[layer, split]:.2f}" for split in splits]
    assert list(shown)[4:] == ["control:length", "control:symbols", "control:input"]
    accuracy = {
        row["split"]: row["value"]
        for row in table
        if row["metric"] == "accuracy" and row["step"] == 12
    }
    assert len(accuracy) == 5
    assert lines[-1] == "accuracy at step 12: " + ", ".join(
        f"{split} {value:.3f}" for split, value in accuracy.items()
    )


def test_a_run_of_a_users_own_task_file(tiny: Finished, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    tasks = json.loads((tiny.path / "data" / "tasks.json").read_text())
    expressions = ["(ab|ba){2,4}", "c(d|e){3,7}", "d[ab]{3,6}"]
    tasks["tasks"] = [
        {
            "name": f"mine{i}",
            "regexes": [expressions[i]],
            "n_variants": 12,
            "function": {f"x{x}": f"y{(x + i) % 5}" for x in range(5)},
        }
        for i in range(3)
    ]
    file.write_text(json.dumps(tasks))
    path = tmp_path / "run"
    settings = {
        "tasks.file": file,
        "data.measured_tasks": 3,
        "data.measured_instances": 15,
        "train.steps": 4,
        "train.warmup_steps": 2,
        "clusters.tsne": "none",
        "workers": 1,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    result = command("run", "smoke", *words, "--out", path)
    assert result.status == 0, result.err
    assert Path(result.out.splitlines()[-1]).exists()
    written = json.loads((path / "data" / "tasks.json").read_text())
    assert written["tasks"] == tasks["tasks"]
    assert all(written[key] == tasks[key] for key in ("inputs", "outputs", "symbols"))
    rows = pq.read_table(path / "data" / "train.parquet").to_pylist()
    assert {row["task"] for row in rows} == {"mine0", "mine1", "mine2"}
    for row in rows:
        task = int(row["task"][-1])
        assert re.fullmatch(expressions[task], row["instruction"])
        assert tasks["tasks"][task]["function"][row["input"]] == row["output"]


def test_a_run_goes_on_without_the_task_file_that_it_was_made_from(
    command: Command, tmp_path: Path
) -> None:
    file, path = tmp_path / "mine.json", tmp_path / "run"
    tasks = [
        {"regexes": [f"{'abc'[i]}[de]{{3,6}}"], "function": {"x": f"y{i}", "z": f"y{2 - i}"}}
        for i in range(3)
    ]
    file.write_text(json.dumps({"min_length": 4, "max_length": 7, "tasks": tasks}))
    words = changes(tasks__file=file, tasks__variants_per_task=20)
    assert command("data", "smoke", *words, "--out", path).status == 0
    before = contents(path)
    file.unlink()
    result = command("data", "smoke", *words, "--out", path, "--resume")
    assert result.status == 0, result.err
    assert contents(path) == before
    assert command("train", path).status == 0

"""Each stage alone continues from the files of the stage before; a plan writes nothing."""

import json
import re
import shutil
from pathlib import Path

import matplotlib as mpl
import pyarrow.parquet as pq
import pytest

from e2e.conftest import Command, Finished, assert_refused, assert_same, changes, contents, times
from tasklens.interventions.settings import FIGURE, NEEDED
from tasklens.runs import pipeline, stage_measure
from tasklens.runs.directory import RunDir
from tasklens.runs.load_run import load_run


def edit_as_run_does(command: Command, path: Path) -> None:
    """Do the edits of `tasklens run` by other commands: a state, an edit or a step at a time."""
    *before, last = load_run(path).steps
    steps = [word for step in before for word in ("--step", str(step))]
    states = ("--state", "embed", "--state", "block1", "--state", "ln_f")
    for edit in FIGURE:
        assert command("intervene", path, *steps, *states, "--edit", edit).status == 0
    edits = [word for edit in reversed(NEEDED) for word in ("--edit", edit)]
    for state in ("ln_f", "embed", "block1"):
        assert command("intervene", path, "--step", str(last), "--state", state, *edits).status == 0


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
        if stage == "measure":
            edit_as_run_does(command, path)
    verdict = command("verify", path)
    assert verdict.status == 1  # nothing holds in so small a world
    report = command("report", path)
    assert report.out == f"{path / 'report.html'}\n"
    assert_same(path, tiny.path)
    shown, whole = command("show", path).out, tiny.result.out
    assert whole.startswith(
        f"{shown}\nfindings: not tested. After 12 steps the model of tiny answers "
    )
    assert whole.endswith(
        f"\n\n{tiny.path / 'report.html'}\n{tiny.path / 'figures' / 'figure1.png'}\n"
    )
    (line,) = whole.removeprefix(shown).splitlines()[1:-3]
    assert verdict.out.splitlines()[-3] == line.removeprefix("findings: not tested. ")


def test_a_stage_that_comes_too_early_names_the_stage_to_run(
    command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    line = assert_refused(command("train", path), f"{path} is not a run directory")
    assert "tasklens run PRESET --out DIR" in line
    assert not path.exists()
    assert command("data", "smoke", *changes(), "--out", path).status == 0
    before = contents(path)
    for stage in ("measure", "plot"):
        line = assert_refused(command(stage, path), "stage train is not finished")
        assert line.endswith(f"run it first: tasklens train {path}")
    assert_refused(command("show", path), f"run it first: tasklens train {path}")
    assert contents(path) == before
    assert command("train", path).status == 0
    assert_refused(command("plot", path), f"run it first: tasklens measure {path}")


def parts_changed_by(command: Command, path: Path, *arguments: str) -> set[str]:
    """Return the first parts of the paths of the files that a command has written."""
    before = times(path)
    result = command(arguments[0], path, *arguments[1:])
    assert result.status == 0, result.err
    after = times(path)
    assert after.keys() == before.keys()
    return {name.partition("/")[0] for name in after if after[name] != before[name]}


def test_a_finished_stage_does_nothing(copy: Path, command: Command) -> None:
    for stage in ("train", "measure", "plot"):
        assert parts_changed_by(command, copy, stage) <= {"config.toml"}


#: What is made from the scores.
RESULTS = {"scores.parquet", "scores.csv", "figures", "verdict.json"}


def test_measuring_again_does_not_train_again_and_renews_all_results(
    copy: Path, command: Command, tmp_path: Path
) -> None:
    old = contents(copy)
    change = ("--set", "clusters.n_init=5", "--set", "clusters.tsne=none")
    parts = parts_changed_by(command, copy, "measure", *change)
    # the best layer is another one, for whose p value random directions are drawn
    drawn = {"interventions", "interventions.parquet"}
    assert parts == {"config.toml", "measured", *RESULTS, *drawn}
    assert re.search(r"^n_init = 5$", (copy / "config.toml").read_text(), re.MULTILINE)
    assert "n_init = 5" in (copy / "report.html").read_text()
    # all is as if the run had had these settings from the beginning
    fresh = command("run", "smoke", *changes(clusters__n_init=5), "--out", tmp_path / "tiny")
    assert fresh.status == 0, fresh.err
    assert contents(copy) == contents(tmp_path / "tiny")
    # nothing lost: the settings of before give the table of before
    assert command("measure", copy, "--set", "clusters.n_init=1").status == 0
    assert contents(copy) == old


def test_a_perplexity_that_does_not_fit_is_lowered_in_a_line_per_split(
    copy: Path, command: Command
) -> None:
    change = ("--set", "clusters.tsne=last", "--set", "clusters.perplexity=30")
    result = command("measure", copy, *change, "--set", "workers=2")
    assert result.status == 0, result.err
    lines = [line for line in result.err.splitlines() if "perplexity" in line]
    assert lines == [
        f"tasklens: warning: split {split} has 10 instances, too few for t-SNE with "
        "clusters.perplexity = 30, which is lowered to 3"
        for split in ("train_subset", "val_subset", "val_instruction_subset")
    ]
    rows = pq.read_table(copy / "scores.parquet").to_pylist()
    used = [row for row in rows if row["metric"] == "perplexity"]
    assert {row["value"] for row in used} == {3}
    assert {row["space"] for row in used} == {"tsne"}
    mark = json.loads((copy / "manifest.json").read_text())["stages"]["measure"]
    assert [f"tasklens: warning: {note}" for note in mark["warnings"]] == lines


def test_no_result_of_other_scores_is_left_if_it_cannot_be_renewed(
    copy: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "plot", killed)
    assert command("measure", copy, "--set", "clusters.n_init=5").status == 130
    assert not {path.name for path in copy.iterdir()} & {"verdict.json", "report.html"}
    assert not [*(copy / "figures").iterdir()]


def test_scores_that_are_half_replaced_are_not_read(
    copy: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clusters of some checkpoints are new then, and all the scores are old."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage_measure, "score_controls", killed)
    assert command("measure", copy, "--set", "clusters.n_init=5").status == 130
    for reads in ("show", "verify", "report", "follow", "plot"):
        assert_refused(command(reads, copy), f"run it first: tasklens measure {copy}")


@pytest.mark.parametrize("name", ["clusters.safetensors", "scores.parquet", "inputs"])
def test_measuring_resumes_with_intact_checkpoints_only(
    copy: Path, command: Command, tiny: Finished, name: str
) -> None:
    RunDir(copy).unfinish("measure")
    damaged = copy / "measured" / "step-00000004" / name
    shutil.copyfile(copy / "measured" / "step-00000002" / name, damaged)
    assert command("measure", copy).status == 0
    assert_same(copy, tiny.path)


def test_more_cluster_seeds_are_more_rows(copy: Path, command: Command) -> None:
    def seeds() -> list[object]:
        return pq.read_table(copy / "scores.parquet")["cluster_seed"].unique().to_pylist()  # type: ignore[no-any-return]

    assert seeds() == [0, None]
    assert command("measure", copy, "--set", "clusters.cluster_seeds=2").status == 0
    assert seeds() == [0, 1, None]


def test_drawing_again_does_not_measure_again(copy: Path, command: Command) -> None:
    old = (copy / "figures" / "figure1.png").read_bytes()
    changed = ("--style", "paper", "--set", "figure.metric=ami")
    assert parts_changed_by(command, copy, "plot", *changed) == {"config.toml", "figures"}
    page = (copy / "report.html").read_text()
    assert 'metric = \\"ami\\"' in page, "it shows the settings"
    assert 'style = \\"paper\\"' in page
    assert (copy / "figures" / "figure1.png").read_bytes() != old
    with mpl.rc_context({"font.size": 20}):
        again = ("--style", "default", "--set", "figure.metric=ari")
        assert command("plot", copy, *again).status == 0
    assert (copy / "figures" / "figure1.png").read_bytes() == old, "whatever the user's own style"


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
    measured = "clusters.*, measure.* and states.positions"
    tables = {"measure": measured, "plot": "figure.*"}[stage]
    result = command(stage, copy, "--set", change)
    assert_refused(result, f"--set {change}: only {tables} can change in a finished run")
    assert contents(copy) == before


def test_a_plan_prints_time_and_disk_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "run"
    before = set(Path.cwd().iterdir())
    result = command("run", "smoke", *changes(), "--out", path, "--dry-run")
    assert result.status == 0, result.err
    assert not path.exists()
    assert set(Path.cwd().iterdir()) == before
    assert "checkpoints: 6, at steps 0, 1, 2, 4, 8, 12; weights kept of 6\n" in result.out
    time, disk = result.out.split("time on this machine")[1].split("\ndisk\n")
    for stage in ("data", "train", "harvest", "measure", "report", "total"):
        assert re.search(rf"^  {stage} +(\d+ to )?\d+ (s|min)$", time, re.MULTILINE), result.out
    for kind in ("data", "states", "weights", "to resume from", "total"):
        assert re.search(rf"^  {kind} +[\d,]+ MB$", disk, re.MULTILINE), result.out


def test_sparse_weights_are_kept_with_the_last_and_all_states(
    command: Command, tmp_path: Path, tiny: Finished
) -> None:
    path = tmp_path / tiny.path.name
    arguments = changes(checkpoints__weights_gib=0, checkpoints__sparse_weights=2)
    plan = command("run", "smoke", *arguments, "--dry-run")
    assert "; weights kept of 2\n" in plan.out
    assert command("data", "smoke", *arguments, "--out", path).status == 0
    result = command("train", path)
    assert result.status == 0
    assert "weights of 2 of them" in result.err
    assert {p.name for p in (path / "checkpoints").iterdir()} == {"step-00000000", "step-00000012"}
    assert_same(path, tiny.path, "states", "metrics.jsonl")


def test_a_run_of_a_task_file_resumes_without_the_file(
    tiny: Finished, command: Command, tmp_path: Path
) -> None:
    file, path = tmp_path / "mine.json", tmp_path / "run"
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
    short = {"train__steps": 4, "train__warmup_steps": 2, "data__measured_instances": 15}
    arguments = ("run", "smoke", *changes(tasks__file=file, **short), "--out", path)
    result = command(*arguments)
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
    before = contents(path)
    file.unlink()
    (path / "metrics.jsonl").unlink()  # so that it is trained again
    result = command(*arguments, "--resume")
    assert result.status == 0, result.err
    assert contents(path) == before

"""Verdicts on runs and tables of scores, through the command line."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from e2e.conftest import Command, assert_refused, changes, contents
from planted import Effect, planted_runs, planted_table, sound, used
from tasklens.core.parquet import parquet_bytes
from tasklens.findings.curves import curves_of_table
from tasklens.findings.rules import FINDINGS
from tasklens.findings.statistics import judged_layer
from tasklens.findings.verdict import judge
from tasklens.runs.directory import RunDir
from tasklens.runs.load_run import load_run
from tasklens.runs.verify import curves_of, verify
from tasklens.scoring.score_table import read_score_table

#: A small network with eight evenly spaced checkpoints, which learns nothing in so few steps.
COURSE = {
    "train__steps": 7,
    "checkpoints__every": 1,
    "model__n_layer": 2,
    "tasks__variants_per_task": 30,
    "data__val_instruction_fraction": 0.25,
    "data__measured_instances": 60,
    "clusters__tsne": "last",
    "clusters__perplexity": 10,
    "clusters__tsne_max_iter": 250,
}
CLUSTERS = Path("measured", "step-00000004", "clusters.safetensors")


@pytest.fixture(scope="module")
def runs(command: Command, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Measured runs of two seeds. Not to be changed."""
    paths = [tmp_path_factory.mktemp("runs") / f"seed{seed}" for seed in range(2)]
    for seed, path in enumerate(paths):
        result = command("data", "smoke", *changes(seed=seed, **COURSE), "--out", path)
        for stage in ("train", "measure"):
            assert result.status == 0, result.err
            result = command(stage, path)
        assert result.status == 0, result.err
    return paths


@pytest.fixture
def run(runs: list[Path], tmp_path: Path) -> Path:
    """A copy of the first run, of the same name, for the test to write into."""
    return Path(shutil.copytree(runs[0], tmp_path / "copied" / runs[0].name))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which becomes the working directory."""
    path = tmp_path / "empty"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def planted_files(directory: Path, **what: Any) -> list[Path]:
    """Write the planted scores of three seeds, a file each."""
    directory.mkdir()
    paths = [directory / f"seed{seed}.parquet" for seed in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(parquet_bytes(planted_table(seeds=(seed,), **what)))
    return paths


def outcomes(path: Path) -> dict[str, str]:
    """Return the verdict on each finding in a file."""
    verdict = json.loads(path.read_bytes())
    assert verdict["holds"] == all(f["verdict"] == "holds" for f in verdict["findings"])
    return {finding["finding"]: finding["verdict"] for finding in verdict["findings"]}


def values(path: Path) -> list[list[float | None]]:
    findings = json.loads(path.read_bytes())["findings"]
    return [check["each"] for finding in findings for check in finding["checks"]]


# --- Planted scores ---


def last_turned_down(split: str, layer: int, step: int) -> float:
    return sound(split, 0 if layer == 6 else layer, step) * 1.2


@pytest.mark.parametrize(
    ("planted", "broken"),
    [
        ({}, {}),
        ({"ari": last_turned_down}, {"depth": "fails"}),
        ({"splits": ("train_subset", "val_subset")}, {"generalisation": "undecided"}),
    ],
)
def test_the_status_is_0_if_every_finding_holds(
    command: Command, tmp_path: Path, empty: Path, planted: dict[str, Any], broken: dict[str, str]
) -> None:
    result = command("verify", *planted_files(tmp_path / "planted", **planted))
    assert (result.status, result.err) == (1 if broken else 0, "")
    *_, counts, headline, last = result.out.splitlines()
    n = [list(broken.values()).count(word) for word in ("fails", "undecided")]
    assert counts == f"8 findings: {8 - sum(n)} holds, {n[0]} fails, {n[1]} undecided"
    assert last == "verdict.json", "several runs have no directory in common"
    fails = re.search(r"^fails      depth  +0\.\d\d < 0\.7  +(train|val)_subset ", result.out, re.M)
    assert bool(fails) == ("depth" in broken)
    assert outcomes(empty / "verdict.json") == dict.fromkeys(FINDINGS, "holds") | broken
    verdict = json.loads((empty / "verdict.json").read_text())
    assert headline == verdict["headline"]
    assert verdict["runs"] == [{"run": "planted", "seed": seed} for seed in range(3)]


def test_one_table_of_several_seeds_is_as_good_as_a_file_each(
    command: Command, tmp_path: Path, empty: Path
) -> None:
    assert command("verify", *planted_files(tmp_path / "planted")).status == 0
    file = tmp_path / "all.parquet"
    file.write_bytes(parquet_bytes(planted_table()))
    assert command("verify", file, "--out", empty / "all.json").status == 0
    assert (empty / "all.json").read_bytes() == (empty / "verdict.json").read_bytes()


def test_one_table_of_one_run_decides_nothing(
    command: Command, tmp_path: Path, empty: Path
) -> None:
    result = command("verify", planted_files(tmp_path / "planted")[0])
    assert result.status == 1
    assert "8 findings: 0 holds, 0 fails, 8 undecided" in result.out
    assert "give the run's directory or more seeds" in result.out


def test_shuffled_scores_of_tables_are_those_that_measuring_took(
    command: Command, tmp_path: Path, empty: Path
) -> None:
    assert command("verify", "--shuffled", *planted_files(tmp_path / "planted")).status == 1
    written = outcomes(empty / "verdict.json")
    expected = judge(curves_of_table(planted_table(), "ari_shuffled"))
    assert written == {finding: expected.outcome(finding) for finding in FINDINGS}
    assert written["emergence"] == written["saturation"] == written["depth"] == "fails"


# --- Runs ---


def test_a_network_that_learnt_nothing_fails(command: Command, run: Path, empty: Path) -> None:
    before = contents(run)
    result = command("verify", run)
    assert (result.status, result.err) == (1, "")
    sentence, path = result.out.splitlines()[-2:]
    assert path == str(run / "verdict.json")
    assert sentence == verify(run).headline == "Not tested: the model has not learned its tasks."
    after = contents(run)
    assert after == before | {"verdict.json": after.get("verdict.json")}, "no other is touched"
    assert list(empty.iterdir()) == []
    written = outcomes(run / "verdict.json")
    assert written["saturation"] == written["baseline"] == "fails"
    assert "holds" not in written.values()
    assert command("verify", run).out == result.out
    assert contents(run) == after, "the bytes repeat"


def test_several_runs_are_judged_together(command: Command, runs: list[Path], empty: Path) -> None:
    before = [contents(path) for path in runs]
    result = command("verify", *runs)
    assert (result.status, result.err) == (1, "")
    assert result.out.splitlines()[-1] == "verdict.json"
    assert [contents(path) for path in runs] == before
    verdict = json.loads((empty / "verdict.json").read_text())
    assert verdict["runs"] == [{"run": f"seed{seed}", "seed": seed} for seed in range(2)]
    assert "fails" in outcomes(empty / "verdict.json").values()
    each = values(empty / "verdict.json")
    # A run beside a table of scores.
    mixed = command("verify", runs[0], runs[1] / "scores.parquet")
    assert (mixed.status, mixed.err) == (1, "")
    assert values(empty / "verdict.json") == [pytest.approx(numbers, abs=1e-9) for numbers in each]


def test_out_is_the_path_of_the_verdict(command: Command, run: Path, empty: Path) -> None:
    file = empty / "some" / "where.json"
    result = command("verify", run, "--out", file)
    assert result.out.splitlines()[-1] == str(file)
    assert outcomes(file).keys() == FINDINGS.keys()
    assert not (run / "verdict.json").exists()
    content = file.read_bytes()
    assert_refused(command("verify", run, "--out", file / "verdict.json"), "cannot write")
    assert file.read_bytes() == content


@pytest.mark.parametrize("n", [1, 2])
def test_shuffled_tasks_fail(command: Command, runs: list[Path], empty: Path, n: int) -> None:
    before = contents(runs[0])
    result = command("verify", "--shuffled", *runs[:n])
    assert (result.status, result.err) == (1, "")
    written = outcomes(empty / "verdict.json")
    for finding in ("emergence", "saturation", "depth", "baseline", "generalisation", "gradual"):
        # Student's t of two runs is so wide that a number far off may be undecided.
        assert written[finding] == "fails" or (n > 1 and written[finding] == "undecided"), finding
    assert contents(runs[0]) == before, "the control does not take the verdict's place"


def test_shuffling_gives_what_chance_gives(runs: list[Path]) -> None:
    every = [curves_of(load_run(path), shuffled=True) for path in runs]
    final = np.array([y[:, -1] for curves in every for y in curves.ari.values()])
    assert np.abs(final[:, 0]).max() < 0.35
    # two runs of three splits whose tasks are shuffled once each; of 60 instances each
    assert final.mean() == pytest.approx(0, abs=0.05)


def test_labels_and_the_table_of_scores_give_the_same_numbers(runs: list[Path]) -> None:
    of_labels = verify(runs)
    of_tables = verify([path / "scores.parquet" for path in runs])
    assert of_labels.runs == of_tables.runs
    assert len(of_labels.checks) == len(of_tables.checks) > 30
    for mine, theirs in zip(of_labels.checks, of_tables.checks, strict=True):
        assert (mine.rule, mine.split, mine.note) == (theirs.rule, theirs.split, theirs.note)
        assert (mine.note, len(mine.each)) == ("", 2)
        assert mine.each == pytest.approx(theirs.each, abs=1e-9), mine.rule.statistic
    for path in runs:
        curves = curves_of(load_run(path))
        (table,) = curves_of_table(read_score_table(path / "scores.parquet"))
        assert (curves.run, curves.seed, curves.steps) == (table.run, table.seed, table.steps)
        assert (curves.steps, curves.layers) == (tuple(range(8)), ["embed", "block1", "block2"])
        assert len(curves.ari) == 3 * 5 * 2, "splits, states and spaces"
        assert {values.shape for values in curves.ari.values()} == {(401, 8)}
        of_run: dict[Any, NDArray[np.float64]] = {**curves.ari, **curves.controls}
        of_table: dict[Any, NDArray[np.float64]] = {**table.ari, **table.controls}
        assert of_run.keys() == of_table.keys()
        for key, copies in of_run.items():
            np.testing.assert_allclose(copies[:1], of_table[key], rtol=0, atol=1e-9)
        assert len(curves.accuracy) == 3, "answers are kept where states are"
        for split, accuracy in curves.accuracy.items():
            assert accuracy[0] == pytest.approx(table.accuracy[split][0])


@pytest.mark.parametrize("n", [1, 2])
def test_intervals_contain_the_band_of_near_best_starts(runs: list[Path], n: int) -> None:
    """The bands of the tables of scores, averaged over runs, of the best layer and of embed."""
    verdict = verify(runs[:n])
    assert verdict.over == ("runs, " * (n - 1)) + "instructions and near-best starts"
    opened = [load_run(path) for path in runs[:n]]
    best = [judged_layer(curves_of(run), complete=False) for run in opened]
    for finding, cells in (("saturation", best), ("baseline", [("embed", "raw")] * n)):
        for check in verdict.checks_of(finding)[:2]:
            ends = []
            for run, cell in zip(opened, cells, strict=True):
                key = {"step": 7, "split": check.split, "layer": cell[0], "space": cell[1]}
                rows = run.scores()
                rows = rows[(rows[[*key]] == pd.Series(key)).all(axis=1)].set_index("metric")
                ends.append(rows["value"][["ari_low", "ari_high"]].to_numpy())
            low, high = np.mean(ends, axis=0)
            assert check.low <= low <= high <= check.high


def test_copies_scatter_about_what_was_measured(runs: list[Path]) -> None:
    """Instructions that come twice make fewer different ones, but no other mean."""
    for path in runs:
        curves = curves_of(load_run(path))
        for (split, layer, _), values in curves.ari.items():
            measured, copies = values[0, -1], values[1:, -1]
            # a processor's own: t-SNE's map of so few points differs (0.0095 and more were seen)
            assert 0.003 < copies.std() < 0.3
            assert copies.mean() == pytest.approx(measured, abs=0.1), (split, layer)


def test_runs_that_differ_in_seed_figure_and_workers_go_together(
    command: Command, runs: list[Path], run: Path, empty: Path
) -> None:
    text = (run / "config.toml").read_text()
    changed = text.replace("workers = 1", "workers = 2").replace('metric = "ari"', 'metric = "ami"')
    assert len([a for a, b in zip(text.split(), changed.split(), strict=True) if a != b]) == 2
    RunDir(run).write(run / "config.toml", changed.encode())
    assert command("verify", run, runs[1]).status == 1
    assert (empty / "verdict.json").exists()


# --- The group use ---


def ignored(edit: str, layer: int, step: int) -> float:
    return 0.0


@pytest.mark.parametrize(("effect", "outcome"), [(used, "holds"), (ignored, "fails")])
def test_use_counts_for_the_status_only_if_it_is_required(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch, effect: Effect, outcome: str
) -> None:
    verdict = judge(planted_runs(effect))
    monkeypatch.setattr("tasklens.runs.verify.verify", lambda runs, *, shuffled: verdict)
    result = command("verify", run)
    assert (result.status, result.err) == (0, "")
    assert re.search(f"^{outcome:<9}  used  ", result.out, re.M)
    required = command("verify", run, "--require", "use")
    assert required.status == (0 if outcome == "holds" else 1)
    assert required.out == result.out
    (finding,) = json.loads((run / "verdict.json").read_text())["use"]["findings"]
    assert (finding["finding"], finding["verdict"]) == ("used", outcome)
    shown = json.loads(command("verify", run, "--json").out)
    assert shown["holds"] is True
    assert shown["use"]["findings"] == [finding]


def test_use_needs_interventions_only_if_it_is_required(
    command: Command, runs: list[Path], run: Path, empty: Path
) -> None:
    result = command("verify", run)
    line = "use: not tested: run 'seed0' has no interventions; `tasklens intervene RUN` makes them"
    assert line in result.out.splitlines()
    (run / "verdict.json").unlink()
    message = "--require use: run 'seed0' has no interventions: tasklens intervene RUN makes them"
    assert_refused(command("verify", run, "--require", "use"), message)
    assert_refused(
        command("verify", run, "--require", "x"), "no such group of checks; there is use"
    )
    assert not (run / "verdict.json").exists()

    edits = [f"--edit={edit}" for edit in ("shift", "patch", "random", "within", "shuffled")]
    result = command("intervene", run, "--step", 7, *edits)
    assert result.status == 0, result.err
    result = command("verify", run, "--require", "use")
    assert (result.status, result.err) == (1, "")
    use = json.loads((run / "verdict.json").read_text())["use"]
    assert use["findings"][0]["verdict"] in ("fails", "undecided"), "it has learnt nothing"
    splits = {check["split"] for check in use["findings"][0]["checks"]}
    assert splits == {"val_subset", "val_instruction_subset"}
    (layer,) = use["layers"]
    assert judged_layer(curves_of(load_run(run)), complete=False, space="raw") == (layer, "raw")
    shuffled = command("verify", run, "--shuffled", "--out", empty / "shuffled.json")
    assert shuffled.status == 1
    assert "\nControl with shuffled tasks: " in shuffled.out
    (finding,) = json.loads((empty / "shuffled.json").read_text())["use"]["findings"]
    assert finding["verdict"] in ("fails", "undecided")
    # A run beside one without.
    result = command("verify", run, runs[1])
    assert "use: not tested: run 'seed1' has no interventions" in result.out


def test_a_curve_of_hits_of_the_probe_begins_with_the_score(runs: list[Path]) -> None:
    run = load_run(runs[0])
    rows, curves = run.scores(), curves_of(run)
    assert {split for split, _ in curves.decoded} == {"val_subset", "val_instruction_subset"}
    for (split, layer), copies in curves.decoded.items():
        of_cell = rows[(rows["metric"] == "probe_task") & (rows["split"] == split)]
        expected = of_cell[of_cell["layer"] == layer].sort_values("step")["value"]
        assert copies.shape == (401, 8)
        assert copies[0] == pytest.approx(expected.to_numpy())


# --- What cannot be verified ---


def test_what_is_no_run_is_refused(command: Command, runs: list[Path], empty: Path) -> None:
    assert_refused(command("verify", "gone"), "gone is not a run directory", "tasklens run")
    assert_refused(command("verify", "gone.parquet"), "gone.parquet: there is no such file of sc")
    (empty / "wrong.parquet").write_bytes(b"PAR1")
    assert_refused(command("verify", "wrong.parquet"), "wrong.parquet: not a readable Parquet file")
    other = runs[0] / "data" / "train.parquet"
    assert_refused(command("verify", other), f"{other}: no column 'run'")
    controls = planted_table(seeds=(0,)).slice(0, 3)
    (empty / "wrong.parquet").write_bytes(parquet_bytes(controls))
    message = "the table has no ari of a hidden state; its metrics are ari"
    assert_refused(command("verify", "wrong.parquet"), message)
    assert_refused(command("verify"), "RUN")
    assert {path.name for path in empty.iterdir()} == {"wrong.parquet"}


def test_a_run_that_is_not_measured_or_under_other_settings_is_refused(
    command: Command, tmp_path: Path, run: Path, empty: Path
) -> None:
    path = tmp_path / "run"
    assert command("data", "smoke", *changes(), "--out", path).status == 0
    line = assert_refused(command("verify", path), f"{path}: stage train is not finished")
    assert line.endswith(f"run it first: tasklens train {path}")
    assert not (path / "verdict.json").exists()
    assert list(empty.iterdir()) == []
    config = run / "config.toml"
    other = config.read_text().replace("n_init = 1", "n_init = 2").encode()
    config.write_bytes(other)
    assert_refused(command("verify", run), f"{config} has changed since tasklens wrote it")
    RunDir(run).write(config, other)
    assert_refused(command("verify", run), "stage measure was finished under other settings")


@pytest.mark.parametrize(
    ("setting", "key"),
    [("model__n_embd", "model.n_embd"), ("clusters__n_init", "clusters.n_init")],
)
def test_runs_of_different_settings_are_refused(
    command: Command, runs: list[Path], tmp_path: Path, empty: Path, setting: str, key: str
) -> None:
    path = tmp_path / "other"
    other = {**COURSE, setting: 16}
    assert command("data", "smoke", *changes(seed=5, **other), "--out", path).status == 0
    line = assert_refused(command("verify", runs[0], path), f"{path} has other settings than")
    assert f"than {runs[0]} ({key} differs)" in line
    assert list(empty.iterdir()) == []


def test_the_same_run_twice_is_refused(
    command: Command, runs: list[Path], run: Path, empty: Path
) -> None:
    message = "run 'seed0' with seed 0 is given twice"
    table = runs[0] / "scores.parquet"
    for other in (runs[0], run):  # the run itself, and a copy of it under another path
        assert_refused(command("verify", runs[0], other), f"{other} has the seed 0, as {runs[0]}")
    assert_refused(command("verify", runs[0], table), message)
    assert_refused(command("verify", table, runs[1] / "scores.parquet", table), message)
    assert list(empty.iterdir()) == []


def test_damaged_clusters_are_named_and_can_be_made_again(command: Command, run: Path) -> None:
    path = run / CLUSTERS
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_refused(command("verify", run), f"{path} is damaged: its SHA-256", "remove it and run")
    path.unlink()
    assert_refused(command("verify", run), f"{path} is gone", "--resume, which makes it again")
    assert not (run / "verdict.json").exists()
    # the advice of the lines is right
    result = command("measure", run)
    assert result.status == 0, result.err
    assert path.read_bytes() == content
    assert command("verify", run).status == 1


def test_clusters_without_a_hash_are_not_read(command: Command, run: Path) -> None:
    path = run / CLUSTERS
    with RunDir(run).batch() as manifest:
        del manifest["files"][CLUSTERS.as_posix()]
    assert_refused(command("verify", run), f"{path} is damaged: manifest.json has no hash of it")
    assert not (run / "verdict.json").exists()

"""Test `tasklens probe`: any models on any prompts, through the command line."""

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch

import tasklens as tl
from e2e.conftest import (
    Finished,
    Probed,
    Result,
    assert_refused,
    assert_same,
    call,
    changes,
    contents,
    files,
    scores_of,
    succeed,
)
from e2e.stock import (
    CONTEXT,
    INPUTS,
    SPECIAL,
    STATES,
    STEPS,
    VOCABULARY,
    Read,
    Record,
    Stock,
    another_tokenizer,
    once,
    prompts_of,
    reading,
    records,
    save_model,
    step_of,
    tokens_of,
    word_level_tokenizer,
    write_prompts,
)
from tasklens.data.token_prompts import Prompts
from tasklens.models.harvest import harvest
from tasklens.models.hf_loading import load_subject
from tasklens.runs.load_run import load_run

pytestmark = pytest.mark.usefixtures("undrawn")


def without(text: str, *beginnings: str) -> str:
    lines = text.splitlines()
    return "\n".join(line for line in lines if not line.startswith(beginnings))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make and measure a training run with several prompts per task; do not change it."""
    path = tmp_path_factory.mktemp("home") / "run"
    settings = changes(
        train__steps=4,
        train__warmup_steps=1,
        checkpoints__every=2,
        data__measured_instances=30,
        data__val_instruction_fraction=0.25,
        tasks__variants_per_task=30,
    )
    result = call("data", "smoke", *settings, "--out", path)
    for stage in ("train", "measure"):
        assert result.status == 0, result.err
        result = succeed(stage, path)
    return path


# --- One probe ---


def test_a_probe_ends_with_the_table_the_findings_and_the_figure(
    probed: Probed, stock: Stock
) -> None:
    lines = probed.result.out.splitlines()
    assert lines[0] == (
        "ARI against the task at step 200: mean (min to max over seeds and near-best starts), "
        "then the mean at step 100"
    )
    assert lines[1].split() == ["layer", "space", "all"]
    controls = [f"control:{what}" for what in ("length", "symbols", "input", "input_class")]
    assert [line.split()[0] for line in lines[2:10]] == [*STATES, *controls]
    for line in lines[2:10]:
        layer, _, *numbers = line.split()
        steps = (200, 100) if layer in STATES else (None,)
        scores = [scores_of(probed.path, layer=layer, step=s, metric="ari") for s in steps]
        assert numbers == [f"{row['value']:.2f}" for (row,) in scores]
    right = knows(stock, 200)
    assert 1 / 4 < sum(right) / len(right) < 1
    assert lines[10] == f"accuracy at step 200: all {sum(right) / len(right):.3f}"
    assert lines[11] == lines[-3] == ""
    findings = lines[12:-3]
    assert len(findings) == 11
    assert all(re.match(r"(holds|fails|undecided)  +\S.*  +\S", line) for line in findings[:-3])
    assert "tasklens intervene" in findings[-3]
    assert findings[-2].startswith("8 findings: ")
    assert findings[-1] == tl.load_run(probed.path).verdict().headline
    assert lines[-2:] == [
        str(probed.path / "report.html"),
        str(probed.path / "figures" / "figure1.png"),
    ]


@torch.inference_mode()
def knows(stock: Stock, step: int) -> list[bool]:
    """Return whether a checkpoint, run on each prompt alone, predicts its output."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(stock.checkpoints[step])
    answers = [int(model(torch.tensor([tokens_of(r)])).logits[0, -1].argmax()) for r in stock.rows]
    return [VOCABULARY[i] == row["output"] for i, row in zip(answers, stock.rows, strict=True)]


def test_a_probe_shows_on_its_way_what_is_measured_and_no_more(
    probed: Probed, stock: Stock
) -> None:
    first, *shown = probed.result.err.splitlines()
    assert first == "tasklens: measured is what stands in [[ ]]:"
    n = len(stock.rows)
    for line, row in zip(shown, (stock.rows[i] for i in (0, (n - 1) // 2, n - 1)), strict=True):
        assert line == (
            f"  {row['label']}: <s> {row['instruction']} [[{row['input']}]]  -> {row['output']}"
        )


OF_STATES = ("about.json", "tokens.safetensors", "words.json", "inputs")


def test_a_probe_leaves_these_files(probed: Probed) -> None:
    of_states = (*STATES, "answer", "asked")
    expected = {
        *("config.toml", "scores.csv", "scores.parquet", "verdict.json", "data/prompts.parquet"),
        "frames.safetensors",
        *(f"figures/figure{n}.{suffix}" for n in (1, 2) for suffix in ("png", "pdf")),
    }
    for step in STEPS:
        within = step_of(Path(), step).as_posix()
        expected |= {f"{within}/{name}.npy" for name in of_states}
        expected |= {f"{within}/{name}" for name in OF_STATES}
        within = step_of(Path(), step, "measured").as_posix()
        measured = ("clusters.safetensors", "scores.parquet", "inputs")
        expected |= {f"{within}/{name}" for name in measured}
    assert set(files(probed.path)) == expected
    assert (probed.path / "figures/figure1.png").read_bytes().startswith(b"\x89PNG")
    noted = json.loads((probed.path / "manifest.json").read_text())
    assert set(noted["files"]) == {*expected, "report.html"}
    assert set(noted["stages"]) == {"data", "states", "measure", "plot", "report"}
    assert noted["stages"]["states"]["warnings"] == []


def test_nothing_was_asked_of_the_network(probed: Probed) -> None:
    assert probed.asked == []


def test_states_on_the_disk_are_those_in_memory(probed: Probed, stock: Stock) -> None:
    prompts = prompts_of(stock.rows)
    for step, checkpoint in stock.checkpoints.items():
        expected = harvest(load_subject(checkpoint), prompts)
        assert tuple(expected.states) == STATES
        directory = step_of(probed.path, step)
        for name, states in expected.states.items():
            kept = np.load(directory / f"{name}.npy", mmap_mode="r")
            assert kept.dtype == np.float32
            assert np.array_equal(kept, states), (step, name)
        assert np.array_equal(np.load(directory / "answer.npy"), expected.answer)


def test_prompts_are_a_table_that_others_read(probed: Probed, stock: Stock) -> None:
    prompts = pq.read_table(probed.path / "data/prompts.parquet").to_pylist()
    for i, (kept, row) in enumerate(zip(prompts, stock.rows, strict=True)):
        assert {key: kept[key] for key in ("text", "label", "input", "output")} == {
            key: row[key] for key in ("text", "label", "input", "output")
        }
        assert json.loads(kept["columns"]) == row
        assert (kept["split"], kept["source"]) == ("all", f"{stock.prompts} line {i + 1}")


def test_other_commands_take_it_up_without_its_models(probed: Probed, probe_copy: Path) -> None:
    path = probe_copy
    table, _, _ = probed.result.out.partition("\n\n")
    assert call("show", path).out == f"{table}\n"
    verified = call("verify", path)
    assert (verified.status, verified.err) == (1, "")
    assert_same(path, probed.path)  # the verdict among them
    with reading() as read:
        measured = call("measure", path, "--set", "measure.center=true")
        drawn = call("plot", path, "--set", "figure.metric=ami")
    renewed = "the figures, the verdict and the report that were out of date are made again"
    assert measured == Result(0, f"{path / 'scores.csv'}\n", f"tasklens: {renewed}\n")
    assert drawn == Result(0, f"{path / 'figures/figure1.png'}\n", f"tasklens: {renewed}\n")
    assert read.n_batches == 0
    assert_same(path, probed.path, "data", "states")
    assert contents(path, "measured") != contents(probed.path, "measured")
    for row in scores_of(probed.path, metric="ari"):  # KMeans does not mind where zero is
        close = {**row, "value": pytest.approx(row["value"], abs=1e-9)}
        assert len(scores_of(path, **close)) == 1, row


@pytest.fixture(scope="module")
def again(probed: Probed, stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Run the same command with another directory, and with figures."""
    path = tmp_path_factory.mktemp("elsewhere") / probed.path.name
    return Finished(path, call(*stock.command("--out", path)))


def test_the_same_command_elsewhere_makes_the_same_bytes(probed: Probed, again: Finished) -> None:
    assert (again.result.status, again.result.err) == (0, probed.result.err)
    mine, theirs = (without(each.result.out, str(each.path)) for each in (again, probed))
    assert mine == theirs
    assert_same(again.path, probed.path)


def test_a_finished_probe_is_left_alone(probed: Probed, probe_copy: Path, stock: Stock) -> None:
    written = [f for f in probe_copy.rglob("*") if f.is_file() and f.parent != probe_copy]
    before = {file: file.stat().st_mtime_ns for file in written}
    assert len(before) > 20
    with reading() as read:
        result = call(*stock.command("--out", probe_copy, "--resume"))
    assert (result.status, result.err) == (0, "")
    assert read.n_batches == 0
    assert without(result.out, str(probe_copy)) == without(probed.result.out, str(probed.path))
    assert {file: file.stat().st_mtime_ns for file in written} == before
    assert_same(probe_copy, probed.path)


# --- Interrupted ---

SMALL = ("--set", "subject.max_tokens=40")
#: Settings under which prompts are read one by one, though they begin alike.
PLAINLY = (*SMALL, "--position", "input_mean")


def long_rows() -> list[Record]:
    """Return prompts with long common prefixes, which are too many tokens for one batch."""
    rows = records()
    for i, row in enumerate(rows):
        more = " ".join(VOCABULARY[len(SPECIAL) + (i // len(INPUTS) + j) % 20] for j in range(20))
        row["instruction"] = f"{more} {row['instruction']}"
        row["text"] = f"{row['instruction']} {row['input']} {row['output']}"
    return rows


@pytest.mark.parametrize("alike", [False, True])
def test_interrupted_while_reading_it_ends_in_the_same_bytes(
    stock: Stock, tmp_path: Path, alike: bool
) -> None:
    rows = long_rows() if alike else stock.rows
    file = write_prompts(tmp_path / "mine.jsonl", rows)
    asked = ("--prompts", file, "--states", "embed,block2", *(SMALL if alike else PLAINLY))
    complete, path = tmp_path / "whole" / "probe", tmp_path / "broken" / "probe"
    with reading() as uninterrupted:
        succeed(*stock.command(*asked, "--out", complete))
    assert uninterrupted.prompts == once(rows, *STEPS)
    of_each = uninterrupted.n_batches // 2
    assert of_each > 2
    command = stock.command(*asked, "--out", path)
    together: Counter[Read] = Counter()
    # before the first checkpoint's last batch, before anything more is read, and in the second
    for more, n_batches in (((), of_each - 1), (("--resume",), 0), (("--resume",), 2)):
        with reading(stop_after=n_batches) as read:
            result = call(*command, *more)
        assert result.status == 130
        assert result.out == ""
        assert result.err.endswith("tasklens: interrupted; resume with --resume\n")
        assert "Traceback" not in result.err
        assert read.n_batches == n_batches
        together += read.prompts
        assert not (path / "scores.parquet").exists()
    assert read.models == {"checkpoint-100", "checkpoint-200"}
    with reading() as read:
        result = succeed(*command, "--resume")
    assert read.models == {"checkpoint-200"}
    assert together + read.prompts == once(rows, *STEPS), "nothing is read twice"
    assert_same(path, complete)


def damage(path: Path, how: str) -> None:
    """Cut a file, flip a bit of it, or exchange the two halves of it."""
    content = path.read_bytes()
    half = len(content) // 2
    flipped = content[:-5] + bytes([content[-5] ^ 4]) + content[-4:]
    others = {"cut": content[:half], "flipped": flipped, "longer": content + b"\0" * 64}
    path.write_bytes(others[how])


@pytest.mark.parametrize("how", ["cut", "flipped", "longer"])
@pytest.mark.parametrize("name", ["block2.npy", "answer.npy", "progress.safetensors"])
def test_what_an_interrupted_probe_has_left_damaged_is_read_again(
    stock: Stock, tmp_path: Path, name: str, how: str
) -> None:
    asked = ("--states", "embed,block2", *PLAINLY)
    complete, path = tmp_path / "whole" / "probe", tmp_path / "broken" / "probe"
    succeed(*stock.command(*asked, "--out", complete))
    with reading(stop_after=3):
        assert call(*stock.command(*asked, "--out", path)).status == 130
    damage(step_of(path, 100).with_name("partial-step-00000100") / name, how)
    succeed(*stock.command(*asked, "--out", path, "--resume"))
    assert_same(path, complete)


@pytest.mark.parametrize("how", ["cut", "flipped", "longer"])
@pytest.mark.parametrize("name", ["block2.npy", "answer.npy", "tokens.safetensors"])
def test_a_finished_probe_with_a_damaged_file_is_refused_until_it_is_made_again(
    probed: Probed, probe_copy: Path, stock: Stock, name: str, how: str
) -> None:
    file = step_of(probe_copy, 100) / name
    damage(file, how)
    resume = stock.command("--out", probe_copy, "--resume")
    for command in (("report", probe_copy), ("verify", probe_copy), resume):
        assert_refused(call(*command), f"{file} is damaged", "remove it and run again with --res")
    file.unlink()
    succeed(*resume)
    assert_same(probe_copy, probed.path)


def test_what_was_read_of_a_model_that_changed_since_is_read_again(
    stock: Stock, tmp_path: Path
) -> None:
    models, path = tmp_path / "models", tmp_path / "probe"
    save_model(models / "checkpoint-100", seed=100)
    command = stock.command(*PLAINLY, "--out", path, models=models)
    with reading(stop_after=3):
        assert call(*command).status == 130
    save_model(models / "checkpoint-100", seed=7)
    with reading() as read:
        succeed(*command, "--resume")
    assert read.prompts == once(stock.rows, 100)
    expected = harvest(load_subject(models / "checkpoint-100"), prompts_of(stock.rows)).states
    for name in STATES:
        kept = np.load(step_of(path, 100) / f"{name}.npy")
        np.testing.assert_allclose(kept, expected[name], rtol=1e-5, atol=1e-5)


def test_of_a_series_that_grew_only_new_checkpoints_are_read(stock: Stock, tmp_path: Path) -> None:
    models = Path(shutil.copytree(stock.models, tmp_path / "models"))
    path = tmp_path / "grows"
    command = stock.command("--states", "embed,block1", "--out", path, models=models)
    succeed(*command)
    save_model(models / "checkpoint-300", seed=300)
    save_model(models / "checkpoint-200", seed=201)
    with reading() as read:
        result = succeed(*command, "--resume")
    assert read.models == {"checkpoint-200", "checkpoint-300"}
    assert "at step 300" in result.out
    assert {row["step"] for row in scores_of(path)} == {None, 100, 200, 300}
    for step in (100, 200, 300):
        subject = load_subject(models / f"checkpoint-{step}")
        expected = harvest(subject, prompts_of(stock.rows), ["block1"]).states["block1"]
        assert np.array_equal(np.load(step_of(path, step) / "block1.npy"), expected)


def test_a_file_of_prompts_that_went_or_changed(stock: Stock, tmp_path: Path) -> None:
    mine, path = tmp_path / "mine.jsonl", tmp_path / "probe"
    shutil.copy(stock.prompts, mine)
    command = stock.command("--prompts", mine, "--states", "embed,block1", "--out", path)
    succeed(*command)
    before = contents(path)
    write_prompts(mine, stock.rows[::-1])
    changed = call(*command, "--resume")
    assert_refused(changed, f"{path} holds another run: {mine} has changed", "--out")
    assert contents(path) == before
    mine.unlink()
    assert_refused(call(*command, "--resume"), f"{mine} cannot be read: No such file")
    assert contents(path) == before
    assert call("measure", path).status == 0, "which needs no more than the directory"


# --- A training run as a model ---


def test_a_damaged_checkpoint_of_a_training_run_is_not_measured(home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(home, tmp_path / "home"))
    weights = copy / "checkpoints" / "step-00000004" / "model.safetensors"
    damage(weights, "flipped")
    prompts = ("--prompts", home / "data" / "val_subset.parquet")
    options = ("--set", "workers=1", "--set", "clusters.tsne=none", "--out", tmp_path / "probe")
    result = call("probe", copy, *prompts, *options)
    assert_refused(result, f"{weights} is damaged: its SHA-256 is not the one in manifest.json")


def test_a_training_run_has_the_same_scores_as_a_model_run(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "model-run"
    settings = load_run(home).settings
    options = ["--set", f"measure.silhouette={settings.measure.silhouette}"]
    for key, value in settings.clusters.flat().items():
        options += ["--set", f"clusters.{key}={value}"]
    splits = ("train_subset", "val_subset", "val_instruction_subset")
    result = succeed("probe", home, *options, "--set", "workers=1", "--out", path)
    assert f"measured are the prompts of {home} itself ({', '.join(splits)})" in result.err
    prompts = [w for s in splits for w in ("--prompts", home / "data" / f"{s}.parquet")]
    named = call("probe", home, *prompts, *options, "--set", "workers=1", "--out", path)
    assert_refused(named, "already holds this run; resume it")

    def by_cell(run: Path) -> dict[tuple[object, ...], float]:
        of_one_kind = (
            "accuracy_among_first_tokens",  # of a model run
            "answer_of_nearest",  # of a training run, which knows the functions of its tasks
            "answer_of_nearest_random",
        )
        rows = [row for row in scores_of(run) if row["split"] in splits]
        rows = [row for row in rows if row["metric"] not in of_one_kind]
        keys = ["step", "layer", *(rows[0].keys() - {"run", "value", "step", "layer"})]
        values = {tuple(row[key] for key in keys): float(row["value"]) for row in rows}
        assert len(values) == len(rows)
        return values

    mine, theirs = by_cell(home), by_cell(path)
    assert mine.keys() == theirs.keys()
    assert {cell[0] for cell in mine} == {None, 0, 1, 2, 4}
    assert {cell[1] for cell in mine} >= {"wte", "embed", "block1", "ln_f", "model"}
    exactly = {cell for cell in mine if cell[0] is None or cell[1] == "model"}
    assert len(exactly) > 3 * 4
    for cell, value in mine.items():
        if cell in exactly:
            assert theirs[cell] == value, cell
        else:
            assert theirs[cell] == pytest.approx(value, abs=1e-4, rel=1e-4), cell


# --- Series ---


def test_oddities_of_a_series_are_printed_and_recorded(stock: Stock, tmp_path: Path) -> None:
    models, path = tmp_path / "models", tmp_path / "probe"
    other = another_tokenizer()
    for step, seed in ((1, 1), (2, 2), (3, 1), (5, 5)):
        save_model(models / f"checkpoint-{step}", seed, tokenizer=other if step == 5 else None)
    result = succeed(*stock.command("--states", "embed", "--out", path, models=models))
    name = f"{models}/checkpoint-"
    expected = [
        f"{name}3 has the same weights as {name}1",
        f"{name}5 has another tokenizer than {name}3",
        "steps are missing in the series: 4",
    ]
    warnings = [line for line in result.err.splitlines() if "warning" in line]
    assert warnings == [f"tasklens: warning: {line}" for line in expected]
    noted = json.loads((path / "manifest.json").read_text())["stages"]["states"]
    assert noted["warnings"] == expected
    # the other tokenizer is the one that was used
    subject = load_subject(models / "checkpoint-5")
    ids = [subject.tokenizer(row["text"])["input_ids"] for row in stock.rows]
    kept = safetensors.numpy.load_file(step_of(path, 5) / "tokens.safetensors")
    for row, mine, position in zip(ids, kept["ids"], kept["position"], strict=True):
        assert row[: position + 1] == mine[: position + 1].tolist()


def test_an_untrained_network_is_measured_as_step_0(
    probed: Probed, stock: Stock, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(stock.checkpoints[200], models / "checkpoint-200")
    states = {}
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        path = tmp_path / name
        asked = ("--untrained", "--states", "embed,block1", "--set", f"seed={seed}")
        result = succeed(*stock.command(*asked, "--out", path, models=models))
        assert "then the mean of the untrained model\n" in result.out
        assert not re.search(r"\bsteps?\b|training|checkpoint", result.out)
        assert {row["step"] for row in scores_of(path)} == {None, 0, 200}
        states[name] = np.load(step_of(path, 0) / "block1.npy")
        kept = (step_of(path, 200) / "block1.npy").read_bytes()
        assert kept == (step_of(probed.path, 200) / "block1.npy").read_bytes()
    assert np.array_equal(states["one"], states["again"])
    trained = np.load(step_of(probed.path, 200) / "block1.npy")
    for name, other in (("one", states["other"]), ("one", trained), ("other", trained)):
        assert float(np.abs(states[name] - other).max()) > 0.01
    shown = call(*stock.command("--untrained", "--dry-run", models=models)).out.splitlines()
    directory = models / "checkpoint-200"
    assert shown[1:3] == [f"  step 0: {directory}, untrained", f"  step 200: {directory}"]


# --- What is asked for ---


def test_what_is_held_out_is_a_split_of_its_own(stock: Stock, tmp_path: Path) -> None:
    path = tmp_path / "probe"
    asked = ("--hold-out", "phrasing", "--states", "embed,block1,block2")
    result = succeed(*stock.command(*asked, "--out", path))
    lines = result.out.splitlines()
    assert lines[1].split() == ["layer", "space", "kept", "held_out_phrasing"]
    assert all(len(line.split()) == 2 + 2 * 2 for line in lines[2:5])
    assert "accuracy at step 200: kept 0." in result.out
    assert ", held_out_phrasing 0." in result.out
    verdict = json.loads((path / "verdict.json").read_text())
    splits = {check["split"] for finding in verdict["findings"] for check in finding["checks"]}
    assert splits == {"kept", "held_out_phrasing"}
    assert {row["split"] for row in scores_of(path)} == {"kept", "held_out_phrasing"}
    for split in splits:
        learnt = scores_of(path, split=split, layer="block2", step=200, metric="probe_task")
        assert len(learnt) == (split != "kept"), "learnt on those that are kept"


def test_several_numbers_of_clusters_make_a_table_of_their_own(
    stock: Stock, tmp_path: Path
) -> None:
    from sklearn import metrics

    path = tmp_path / "probe"
    model = stock.checkpoints[200]
    result = succeed(*stock.command("--k", "6,4,8", "--out", path, models=model))
    _, _, below = result.out.partition("\nall, by the number of clusters:")
    title, *lines = below.partition("\n\n")[0].splitlines()
    assert title.split() == ["ARI", "AMI", "silhouette"]
    clusters = safetensors.numpy.load_file(step_of(path, 200, "measured") / "clusters.safetensors")
    labels = [row["label"] for row in stock.rows]
    places = [(name, k) for name in STATES for k in (6, 4, 8)]
    for line, (name, k) in zip(lines, places, strict=True):
        match = re.fullmatch(r"(\S+) +k = (\d+) +(\S+) +(\S+) +(\S+)", line)
        assert match is not None
        assert match.group(1, 2) == (name, str(k))
        kind = "labels" if k == 6 else f"k={k}/labels"
        (clustered,) = clusters[f"all/{name}/raw/{kind}"]
        # `embed` of a Llama depends on the word alone, so that there are only as many states
        assert len(np.unique(clustered)) == (len(INPUTS) if name == "embed" else k)
        numbers = [
            metrics.adjusted_rand_score(labels, clustered),
            metrics.adjusted_mutual_info_score(labels, clustered),
            metrics.silhouette_score(np.load(step_of(path, 200) / f"{name}.npy"), clustered),
        ]
        assert [float(number) for number in match.group(3, 4, 5)] == pytest.approx(
            numbers, abs=0.00501
        )
    table = result.out.partition("\n\nbest layer: ")[0]
    assert call("show", path).out == f"{table}\n"
    verdict = json.loads((path / "verdict.json").read_text())
    assert verdict["half way"] == [], "which a single model cannot show"


def test_columns_are_taken_out_and_compared_with_the_clusters(stock: Stock, tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    path = tmp_path / "probe"
    asked = ("--residualize", "length,input", "--cross", "phrasing", "--hold-out", "input")
    model = stock.checkpoints[200]
    result = succeed(*stock.command(*asked, "--states", "block1", "--out", path, models=model))
    for split in ("kept", "held_out_input"):
        assert f"\n{split}, against phrasing\nlayer   ARI of it  ARI within" in result.out
    metrics = {(row["split"], row["metric"]) for row in scores_of(path, layer="block1")}
    for name in ("kept/ari_within", "held_out_input/probe_within", "kept/probe_across"):
        split, metric = name.split("/")
        each = {(split, f"{metric}_phrasing{value}") for value in ("", "=p0", "=p1", "=p2")}
        assert each <= metrics
    assert {("kept", "ari_of_phrasing"), ("held_out_input", "probe_of_phrasing")} <= metrics
    run = load_run(path)
    ((_, clustered),) = run.clustered(200)
    inputs = np.array(run.columns["input"])
    length = np.concatenate([known.length for known in run.instances_by_split.values()])
    design = np.column_stack([length, *(inputs == word for word in INPUTS)])
    x, kept = np.array(run.states("block1")), run.splits["kept"]
    left = x - LinearRegression().fit(design[kept], x[kept]).predict(design)
    for split, rows in run.splits.items():
        np.testing.assert_allclose(clustered[split], left[rows], atol=1e-4)
    refused = call("measure", path, "--set", "measure.residualize=instruction")
    assert_refused(refused, "measure.residualize = ['instruction']: the label follows from it")
    succeed("measure", path, "--set", "measure.residualize=[]", "--set", "measure.cross=[]")
    assert "against" not in call("show", path).out.partition("\n")[2]


def test_some_states_are_as_those_of_all(probed: Probed, stock: Stock, tmp_path: Path) -> None:
    path = tmp_path / "probe"
    wrong = call(*stock.command("--states", "embed,block3", "--out", path))
    assert_refused(
        wrong, f"checkpoint-100: no hidden state 'block3'; there are {', '.join(STATES)}"
    )
    result = succeed(*stock.command("--states", "block1,embed", "--out", path))
    for step in stock.checkpoints:
        kept = {file.name for file in step_of(path, step).glob("*.npy")}
        assert kept == {"embed.npy", "block1.npy", "answer.npy", "asked.npy"}
        for name in kept:
            expected = (step_of(probed.path, step) / name).read_bytes()
            assert (step_of(path, step) / name).read_bytes() == expected
    assert [line.split()[0] for line in result.out.splitlines()[2:4]] == ["embed", "block1"]
    scores = scores_of(probed.path, layer="block1")
    assert scores_of(path, layer="block1") == scores
    alone = call(*stock.command("--states", "ln_f,attn", "--out", tmp_path / "one"))
    assert alone.status == 0, alone.err
    assert "no findings: they need the states embed and at least one block\n" in alone.out
    assert not (tmp_path / "one" / "verdict.json").exists()
    files = {file.name for file in step_of(tmp_path / "one", 100).glob("*.npy")}
    assert files == {"attn1.npy", "attn2.npy", "ln_f.npy", "answer.npy", "asked.npy"}


def test_a_mean_over_the_instruction_is_that_of_its_tokens(stock: Stock, tmp_path: Path) -> None:
    path = tmp_path / "probe"
    model = stock.checkpoints[200]
    asked = ("--position", "instruction_mean")
    result = succeed(*stock.command(*asked, "--out", path, models=model))
    assert "  plural: <s> [[many]] [[of]] sea  -> " in result.err
    subject = load_subject(model)
    for i, row in enumerate(stock.rows):
        n = len(row["instruction"].split())
        ids = np.array([tokens_of(row)] * n)
        each = harvest(subject, Prompts(ids, np.arange(1, n + 1))).states
        for name in STATES:
            kept = np.load(step_of(path, 200) / f"{name}.npy", mmap_mode="r")
            np.testing.assert_allclose(kept[i], each[name].mean(axis=0), rtol=1e-4, atol=1e-5)


# --- What would be measured ---

#: Each --position with the measured part of the first prompt, and what should follow it.
POSITIONS = {
    "nothing": ((), "<s> many of [[sea]]  -> {output}"),
    "a column of pairs": (("verb",), "<s> many [[of]] sea  -> {output}"),
    "characters": (("1:4",), "<s> [[many]] of sea  -> {output}"),
    "a mean": (("0:7_mean",), "<s> [[many]] [[of]] sea  -> {output}"),
}


@pytest.mark.parametrize(("asked", "expected"), POSITIONS.values(), ids=POSITIONS)
def test_a_dry_run_shows_what_is_measured_and_makes_nothing(
    stock: Stock, tmp_path: Path, asked: tuple[str, ...], expected: str
) -> None:
    path = tmp_path / "probe"
    position = ("--position", *asked) if asked else ()
    result = call(*stock.command(*position, "--dry-run", "--out", path))
    assert (result.status, result.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    lines = result.out.splitlines()
    assert lines[:3] == [
        "models:",
        *(f"  step {step}: {path}" for step, path in stock.checkpoints.items()),
    ]
    assert lines[3:5] == [f"prompts: {len(stock.rows)}, with 4 labels", f"  all: {len(stock.rows)}"]
    first = stock.rows[0]
    assert f"  plural: {expected.format(output=first['output'])}" in lines
    if not asked:
        lengths = [len(tokens_of(row)) for row in stock.rows]
        assert lines[5].startswith("special tokens: ")
        assert lines[6] == "position input"
        assert lines[7] == (
            f"tokens up to the measured one: {min(lengths)} to {max(lengths)}, "
            f"{sum(lengths) / len(lengths):.1f} on average"
        )
        assert "the first token of the output is known in 48 prompts" in lines


# --- What is refused ---


@dataclass(frozen=True)
class Case:
    """A command that is refused, and parts of the line that it prints."""

    parts: tuple[str, ...]
    """Parts of the line, with {path} for the test's directory."""
    options: tuple[str, ...] = ()
    rows: Callable[[list[Record]], object] | None = None
    """Changes the prompts of the stock for {path}/mine.jsonl."""
    models: Callable[[Stock, Path], Path] | None = None
    """Makes the models, instead of those of the stock."""


def damaged(stock: Stock, path: Path) -> Path:
    shutil.copytree(stock.models, path / "models")
    weights = path / "models/checkpoint-100/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    return path / "models"


CASES = {
    "a label of one prompt": Case(
        ("{path}/mine.jsonl line 14: 'label' = 'alone' has a single prompt in split all",),
        rows=lambda rows: rows[13].update(label="alone"),
    ),
    "a label that is missing": Case(
        ("{path}/mine.jsonl line 6: has no 'label': 1 of 48 rows lack it",),
        rows=lambda rows: rows[5].update(label=float("nan")),
    ),
    "an output of some prompts": Case(
        ("{path}/mine.jsonl line 1: has no 'output': 1 of 48 rows lack it",),
        rows=lambda rows: rows[0].pop("output"),
    ),
    "a column with the name of a token": Case(
        ("position 'last' is a column, but also means tokens",),
        ("--position", "last"),
        rows=lambda rows: rows[9].update(last="of"),
    ),
    "a text that is not there": Case(
        ("prompts.jsonl line 1: 'zzz' is not in the text 'many of sea ",), ("--position", "zzz")
    ),
    "longer than the model reads": Case(
        (f"{{path}}/mine.jsonl line 7: {CONTEXT + 6} tokens", f"but the model reads {CONTEXT}"),
        ("--set", "states.max_length=99"),
        rows=lambda rows: rows[6].update(text=f"{'of ' * CONTEXT}{rows[6]['text']}"),
    ),
    "no tokenizer": Case(
        ("{path}/bare: it has no tokenizer", "--set subject.tokenizer=DIR"),
        models=lambda _, path: save_model(path / "bare", 1, tokenizer=False),
    ),
    "the tokenizer of another model": Case(
        ("is not in the model's vocabulary of 9 tokens; is this the model's tokenizer?",),
        models=lambda _, path: save_model(path / "small", 1, vocabulary=9),
    ),
    "damaged weights": Case(
        ("checkpoint-100/model.safetensors is damaged or cut",), models=damaged
    ),
    "a figure of no position": Case(
        ("figure.position = 'nosuch': should be one of states.positions = ['input']",),
        ("--set", "figure.position=nosuch"),
    ),
    "revisions of a directory": Case(
        ("is on the disk; only the hub has revisions",), ("--revision", "main")
    ),
    "more clusters than prompts": Case(
        ("split all has 48 prompts, too few for measure.k = [49]",), ("--k", "49")
    ),
    "a column that is not there": Case(
        ("measure.residualize: no column 'nosuch'; there are length, text, label, input",),
        ("--residualize", "nosuch"),
    ),
    "a column that gives the label away": Case(
        ("measure.cross: 'instruction' = 'a few of' has prompts of a single label",),
        ("--cross", "instruction"),
    ),
    "no number of clusters": Case(("measure.k", "many"), ("--k", "4,many")),
    "no GPU": Case(("subject.device = 'cuda:99': PyTorch", "CUDA GPUs"), ("--device", "cuda:99")),
}
#: Cases that a dry run reports, too, although it loads no weights.
SEEN_DRY = (
    "a label of one prompt",
    "a label that is missing",
    "a text that is not there",
    "no tokenizer",
    "a column that is not there",
)


@pytest.mark.parametrize("name", [*CASES, *(f"{name}, dry" for name in SEEN_DRY)])
def test_what_cannot_be_is_one_line_and_leaves_nothing_behind(
    stock: Stock, tmp_path: Path, name: str
) -> None:
    case = CASES[name.removesuffix(", dry")]
    options = [*case.options, *(["--dry-run"] if name.endswith(", dry") else [])]
    if case.rows:
        rows = records()
        case.rows(rows)
        options += ["--prompts", str(write_prompts(tmp_path / "mine.jsonl", rows))]
    models = case.models(stock, tmp_path) if case.models else ""
    result = call(*stock.command(*options, "--out", tmp_path / "probe", models=models))
    assert_refused(result, *(part.replace("{path}", str(tmp_path)) for part in case.parts))
    assert files(tmp_path / "probe") == []


def test_a_tokenizer_from_elsewhere(stock: Stock, tmp_path: Path) -> None:
    """It is named, or in the parent of the model's directory; another one gives other states."""
    bare = save_model(tmp_path / "models" / "bare", 100, tokenizer=False)
    expected = harvest(load_subject(bare), prompts_of(stock.rows), ["block1"]).states["block1"]
    for directory, named in ((tmp_path / "named", True), (tmp_path / "models", False)):
        word_level_tokenizer().save_pretrained(directory)
        path = tmp_path / f"probe-{directory.name}"
        asked = ("--set", f"subject.tokenizer={directory}") if named else ()
        command = stock.command("--states", "embed,block1", *asked, "--out", path, models=bare)
        succeed(*command)
        (kept,) = path.rglob("block1.npy")
        assert np.array_equal(np.load(kept), expected)
        another_tokenizer().save_pretrained(directory)
        with reading() as read:
            succeed(*command, "--resume")
        assert len(read.prompts) == len(stock.rows), f"{directory} changed"


def test_a_tokenizer_without_offsets(stock: Stock, tmp_path: Path) -> None:
    """ByT5's tokenizer is not fast; its tokens are the bytes, then the end of the text."""
    import transformers

    slow = transformers.ByT5Tokenizer()
    model = save_model(tmp_path / "model", 1, tokenizer=slow, vocabulary=len(slow))
    short = [{"text": row["text"][-9:], "label": row["label"]} for row in stock.rows]
    file, path = write_prompts(tmp_path / "mine.jsonl", short), tmp_path / "probe"
    command = stock.command("--prompts", file, "--states", "embed", "--out", path, models=model)
    for position in ("0:2", " "):
        refused = call(*command, "--position", position, "--dry-run")
        assert_refused(refused, "ByT5Tokenizer is not a fast tokenizer", "give --position last")
    result = succeed(*command, "--position", "last")
    kept = safetensors.numpy.load_file(next(path.rglob("tokens.safetensors")))
    for ids, position, row in zip(kept["ids"], kept["position"], short, strict=True):
        assert bytes(int(i) - 3 for i in ids[: position + 1]).decode() == row["text"]
    assert (kept["target"] == -1).all()
    assert "accuracy" not in result.out


def test_a_disk_that_is_too_small_is_seen_before_anything_is_read(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    path = tmp_path / "probe"
    with reading() as read:
        result = call(*stock.command("--out", path))
    assert_refused(result, f"{path}: the run takes about ", "ask for fewer --states")
    assert read.n_batches == 0


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_without_transformers_the_error_names_what_to_install(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Any
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = call(*stock.command("--out", tmp_path / "probe", *more))
    line = assert_refused(result, "this needs transformers, which is not installed")
    assert line.endswith("pip install -e '.[hf]' in the checkout of tasklens")
    assert files(tmp_path / "probe") == []

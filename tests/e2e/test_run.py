"""Test `tasklens run smoke`: its files, its numbers, and that a second run gives the same."""

import hashlib
import json
import os
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    homogeneity_completeness_v_measure,
    roc_auc_score,
)
from sklearn.neighbors import NearestCentroid

from e2e.conftest import Command, Finished, assert_same, changes, contents
from tasklens.runs.load_run import load_run
from tasklens.runs.manifest_file import FORMAT
from tasklens.runs.settings import TrainingRunSettings, load_settings

SPLITS = ("train", "val", "val_instruction")
SUBSETS = ("train_subset", "val_subset", "val_instruction_subset")
#: Checkpoints of the preset smoke: 0, the powers of two below 20, multiples of 20.
STEPS = (0, 1, 2, 4, 8, 16, 20, 40, 60)
STATES = ("wte", "embed", "block1", "block2", "ln_f")
AGREEMENT = ("ari", "ami", "homogeneity", "completeness", "v_measure")
OF_CLUSTERS = (*AGREEMENT, "ari_input", "ari_output", "ari_shuffled", "inertia")
NEAR_BEST = ("ari_low", "ari_high", "near_best_starts")
RECOMPUTED = ("ari", "ami", "v_measure", "ari_input", "ari_output")
SPREAD = ("variance_task", "variance_input", "variance_output", "separation")
CHECKPOINT = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
PROBES = ("probe_task", "centroid_task", "neighbours_task")
PLACES = (
    *("errors", "span_share", "span_share_random", "nearest_task_share"),
    *("answer_of_nearest", "answer_of_nearest_random"),
)
STRUCTURE = ("nc1", "nc4", "rankme", "task_decodability")
#: Absent without errors, if all tasks have the same ARI or accuracy, or with a short spectrum.
SOMETIMES = ("error_auroc", "task_ari_accuracy", "alpha")
OF_INPUT = ("control:input", "control:input_class")
N_TASKS, N_SEEDS = 4, 2

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(smoke: Finished) -> Rows:
    table: Rows = pq.read_table(smoke.path / "scores.parquet").to_pylist()
    return table


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def names(path: Path) -> set[str]:
    return {child.name for child in path.iterdir()}


def read_split(path: Path, name: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(path / "data" / f"{name}.parquet").to_pydict()
    return columns


# --- What it leaves ---


def test_it_ends_in_the_figure_and_is_quiet_off_terminals(smoke: Finished) -> None:
    result = smoke.result
    assert result.status == 0, result.err
    figure = Path(result.out.splitlines()[-1])
    assert figure == smoke.path / "figures" / "figure1.png"
    assert figure.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert figure.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")
    line, *notes = result.err.splitlines()
    assert line.startswith(f"tasklens: {smoke.path} will take about ")
    assert all(note.startswith("tasklens: interventions: ") for note in notes), notes
    assert "\r" not in result.err


def test_the_run_directory_holds_what_it_should(smoke: Finished) -> None:
    path = smoke.path
    assert names(path) - {".lock"} == {
        *("config.toml", "manifest.json", "data", "checkpoints", "states", "measured", "resume"),
        *("metrics.jsonl", "scores.parquet", "scores.csv", "figures", "verdict.json"),
        *("frames.safetensors", "report.html", "interventions", "interventions.parquet"),
    }
    parquet = {f"{name}.parquet" for name in (*SPLITS, *SUBSETS)}
    assert names(path / "data") == parquet | {"README.md", "tasks.json", "tokenizer.json"}
    kept = {f"{name}.npy" for name in (*STATES, "answer")}
    at_the_end = kept | {"answer-val.npy", "answer-val_instruction.npy"}
    for part in ("checkpoints", "states", "measured"):
        assert names(path / part) == {step_name(step) for step in STEPS}
    for step in STEPS:
        assert names(path / "checkpoints" / step_name(step)) == CHECKPOINT
        wanted = at_the_end if step == STEPS[-1] else kept
        assert names(path / "states" / step_name(step)) == wanted
    assert names(path / "resume") == {"step-00000060.safetensors"}  # beside the newest only
    assert names(path / "figures") == {
        f"figure{number}.{suffix}" for number in (1, 2, 3) for suffix in ("png", "pdf")
    }


def test_nothing_is_half_written_or_pickled(smoke: Finished) -> None:
    assert list(smoke.path.rglob(".tasklens-*")) == []
    known = {
        *(".json", ".jsonl", ".toml", ".parquet", ".csv", ".md", ".png", ".pdf"),
        *(".safetensors", ".npy"),
    }
    pickles = tuple(bytes([0x80, protocol]) for protocol in range(6))
    for name, content in contents(smoke.path).items():
        assert Path(name).suffix in known or Path(name).name == "inputs", name
        assert not content.startswith((b"PK", *pickles)), name  # PK: zip archives


def test_the_metrics_have_a_line_a_step(smoke: Finished) -> None:
    lines = [json.loads(line) for line in (smoke.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert all(np.isfinite([line["loss"], line["grad_norm"]]).all() for line in lines)
    first, last = (np.mean([line["loss"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert last < first - 0.5
    assert lines[4]["learning_rate"] == 3e-3 == max(line["learning_rate"] for line in lines)


def test_the_config_holds_every_setting_and_makes_the_same_run(smoke: Finished) -> None:
    config = tomllib.loads((smoke.path / "config.toml").read_text())
    assert {
        f"{key}.{inner}" if inner else key
        for key, value in config.items()
        for inner in (value if isinstance(value, dict) else ("",))
    } == set(TrainingRunSettings.declared())
    assert load_settings(str(smoke.path / "config.toml")) == load_settings("smoke")


def test_the_manifest_has_the_origin_of_the_run(smoke: Finished) -> None:
    manifest = json.loads((smoke.path / "manifest.json").read_text())
    assert (manifest["format"], manifest["seed"]) == (FORMAT, 0)
    assert manifest["command"] == f"tasklens run smoke --out {smoke.path}"
    assert manifest["versions"]["torch"] == torch.__version__
    assert {"python", "tasklens", "numpy", "scikit-learn"} <= set(manifest["versions"])
    assert manifest["machine"]["cpus"] == os.cpu_count()
    assert list(manifest["stages"]) == [
        *("data", "train", "measure", "interventions", "plot", "report")
    ]
    assert all(mark["seconds"] >= 0 and mark["inputs"] for mark in manifest["stages"].values())
    written = {n: c for n, c in contents(smoke.path).items() if n.partition("/")[0] != "resume"}
    assert written.keys() <= manifest["files"].keys()
    for name, content in written.items():
        assert manifest["files"][name] == hashlib.sha256(content).hexdigest(), name


# --- The table ---


def test_the_table_has_every_cell_and_no_other(rows: Rows) -> None:
    keys = ("step", "split", "layer", "space", "cluster_seed", "metric")
    row_keys = [tuple(row[key] for key in keys) for row in rows]
    assert len(row_keys) == len(set(row_keys))
    seeds, last, once = range(N_SEEDS), STEPS[-1:], (None,)
    controls = ("control:length", "control:symbols")
    expected = {
        *product(STEPS, SUBSETS, STATES, ["raw"], seeds, OF_CLUSTERS),
        *product(last, SUBSETS, STATES, ["tsne"], seeds, OF_CLUSTERS),
        *product(STEPS, SUBSETS, STATES, ["raw"], once, SPREAD),
        *product(STEPS, SUBSETS[1:], STATES, ["raw"], once, PROBES),
        *product(STEPS, SUBSETS, STATES, ["raw"], once, [*PLACES, *STRUCTURE]),
        *product(STEPS, SUBSETS, STATES, ["raw"], once, NEAR_BEST),
        *product(last, SUBSETS, STATES, ["tsne"], once, [*NEAR_BEST, "perplexity"]),
        *product(once, SUBSETS, controls, ["raw"], once, NEAR_BEST),
        *product(last, SUBSETS, STATES, ["raw"], seeds, ["silhouette"]),
        *product(once, SUBSETS, controls, ["raw"], seeds, AGREEMENT),
        *product(once, SUBSETS, OF_INPUT, ["raw"], once, AGREEMENT),
        *product(STEPS, SUBSETS, ["model"], [""], once, ["accuracy"]),
        *product(last, SPLITS[1:], ["model"], [""], once, ["accuracy"]),
    }
    may_be = {*product(STEPS, SUBSETS, STATES, ["raw"], once, SOMETIMES)}
    assert set(row_keys) - may_be == expected
    assert may_be & {*row_keys}


def test_its_columns_and_what_is_the_same_in_all_rows(smoke: Finished, rows: Rows) -> None:
    columns = (
        "run, seed, step, split, family, position, layer, space, k, cluster_seed, metric, value"
    )
    assert ", ".join(pq.read_schema(smoke.path / "scores.parquet").names) == columns
    assert {(row["run"], row["seed"]) for row in rows} == {("smoke", 0)}
    assert all(np.isfinite(row["value"]) for row in rows)
    unclustered = (*PROBES, *PLACES, *STRUCTURE, *SOMETIMES, "accuracy")
    k = {r["k"] for r in rows if r["layer"] not in OF_INPUT and r["metric"] not in unclustered}
    assert k == {N_TASKS}
    for split in SUBSETS:
        known = read_split(smoke.path, split)
        assert len(set(known["task"])) == N_TASKS
        k = {r["k"] for r in rows if (r["layer"], r["split"]) == ("control:input", split)}
        assert k == {len(set(known["input"]))}


def test_csv_and_parquet_hold_the_same(smoke: Finished) -> None:
    table = pq.read_table(smoke.path / "scores.parquet")
    options = pyarrow.csv.ConvertOptions(column_types=table.schema)
    assert pyarrow.csv.read_csv(smoke.path / "scores.csv", convert_options=options).equals(table)


def agreement(truth: dict[str, list[Any]], labels: NDArray[np.int16]) -> dict[str, float]:
    return {
        "ari": adjusted_rand_score(truth["task"], labels),
        "ami": adjusted_mutual_info_score(truth["task"], labels),
        "v_measure": homogeneity_completeness_v_measure(truth["task"], labels)[2],
        "ari_input": adjusted_rand_score(truth["input"], labels),
        "ari_output": adjusted_rand_score(truth["output"], labels),
    }


def test_the_scores_are_those_of_the_saved_clusters(smoke: Finished, rows: Rows) -> None:
    known = {split: read_split(smoke.path, split) for split in SUBSETS}
    for step in (0, STEPS[-1]):
        file = smoke.path / "measured" / step_name(step) / "clusters.safetensors"
        clusters = safetensors.numpy.load_file(file)
        expected: dict[tuple[Any, ...], dict[str, float]] = {}
        checked = 0
        for row in rows:
            if row["step"] != step or row["metric"] not in RECOMPUTED or row["k"] is None:
                continue
            cell = (row["split"], row["layer"], row["space"], row["cluster_seed"])
            if cell not in expected:
                labels = clusters["/".join(cell[:3]) + "/labels"][row["cluster_seed"]]
                expected[cell] = agreement(known[row["split"]], labels)
            assert row["value"] == pytest.approx(expected[cell][row["metric"]], abs=1e-12), row
            checked += 1
        spaces = 1 + (step == STEPS[-1])
        assert checked == len(RECOMPUTED) * spaces * len(SUBSETS) * len(STATES) * N_SEEDS


def test_places_and_errors_are_those_of_the_states_and_answers(smoke: Finished, rows: Rows) -> None:
    """The centroids are those of all instances of a task on the first split."""
    directory = smoke.path / "states" / step_name(60)
    x, answers = np.load(directory / "block1.npy"), np.load(directory / "answer.npy")
    tokenizer = json.loads((smoke.path / "data" / "tokenizer.json").read_text())
    ids = tokenizer["model"]["vocab"]
    seen, held = (read_split(smoke.path, split) for split in SUBSETS[:2])
    n = len(seen["task"])
    by_sklearn = NearestCentroid().fit(x[:n], seen["task"])
    wrong = answers[n : 2 * n] != [ids[token] for token in held["output"]]
    own = by_sklearn.centroids_[np.searchsorted(by_sklearn.classes_, held["task"])]
    distance = np.linalg.norm(x[n : 2 * n] - own, axis=1)
    value = {
        row["metric"]: row["value"]
        for row in rows
        if (row["step"], row["split"], row["layer"], row["space"])
        == (60, SUBSETS[1], "block1", "raw")
    }
    assert value["errors"] == wrong.sum()
    assert value["error_auroc"] == pytest.approx(roc_auc_score(wrong, distance))
    near = by_sklearn.predict(x[n : 2 * n])
    assert value["centroid_task"] == np.mean(near == held["task"])
    tasks = json.loads((smoke.path / "data" / "tasks.json").read_text())["tasks"]
    functions = {task["name"]: task["function"] for task in tasks}
    outputs = [ids.get(functions[t].get(i)) for t, i in zip(near, held["input"], strict=True)]
    has = np.array([y is not None for y in outputs])
    hits = [y == mine for y, mine in zip(outputs, answers[n : 2 * n], strict=True)]
    assert value["answer_of_nearest"] == np.mean(np.array(hits)[has])
    table = load_run(smoke.path).per_task(split=SUBSETS[1], state="block1")
    assert table["errors"].sum() == wrong.sum()
    for row in table.to_dict("records"):
        of_task = near[np.array(held["task"]) == row["task"]]
        assert row["nearest_task_share"] == np.mean(of_task == row["nearest_task"])


def test_the_control_by_input_is_that_of_the_data(smoke: Finished, rows: Rows) -> None:
    control = [row for row in rows if (row["layer"], row["metric"]) == ("control:input", "ari")]
    ari = {row["split"]: row["value"] for row in control}
    for split in SUBSETS:
        known = read_split(smoke.path, split)
        expected = adjusted_rand_score(known["task"], known["input"])
        assert ari[split] == pytest.approx(expected, abs=1e-12)


def test_shuffled_labels_score_nothing(rows: Rows) -> None:
    values = [row["value"] for row in rows if row["metric"] == "ari_shuffled"]
    assert abs(np.mean(values)) < 0.02
    assert np.std(values) > 0


# --- The checkpoints ---


@torch.inference_mode()
def ask(
    directory: Path, texts: list[str]
) -> tuple[dict[str, NDArray[np.float32]], list[str], list[str]]:
    """Return the states at the last but one token of each text, the answers and the outputs.

    The texts are padded on the right, which a causal model cannot see.
    """
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    longest = max(map(len, ids))
    batch = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    position = torch.tensor([len(row) - 2 for row in ids])
    last: list[torch.Tensor] = []
    model.transformer.h[-1].register_forward_hook(
        lambda _, __, output: last.append(output[0] if isinstance(output, tuple) else output)
    )
    out = model(batch, output_hidden_states=True)
    hidden = {"wte": model.transformer.wte(batch), "embed": out.hidden_states[0]}
    hidden |= {f"block{i}": state for i, state in enumerate(out.hidden_states[1:-1], start=1)}
    hidden |= {f"block{len(model.transformer.h)}": last[0], "ln_f": out.hidden_states[-1]}
    row = torch.arange(len(ids))
    states = {name: state[row, position].numpy() for name, state in hidden.items()}
    answers = tokenizer.convert_ids_to_tokens(out.logits[row, position].argmax(-1).tolist())
    return states, answers, tokenizer.convert_ids_to_tokens([i[-1] for i in ids])


@pytest.mark.parametrize("step", [0, 60])
def test_hugging_face_answers_as_the_run(smoke: Finished, rows: Rows, step: int) -> None:
    kept = {
        name: np.load(smoke.path / "states" / step_name(step) / f"{name}.npy") for name in STATES
    }
    directory = smoke.path / "checkpoints" / step_name(step)
    for split in (*SUBSETS, *(SPLITS[1:] if step == 60 else ())):
        known = read_split(smoke.path, split)
        states, answers, outputs = ask(directory, known["text"])
        assert outputs == known["output"]
        accuracy = np.mean([mine == y for mine, y in zip(answers, outputs, strict=True)])
        key = (step, split, "accuracy")
        values = [r["value"] for r in rows if (r["step"], r["split"], r["metric"]) == key]
        assert values == pytest.approx([accuracy], abs=1e-12)
        if split in SUBSETS:
            assert set(states) == set(STATES)
            for name, state in states.items():
                begin = SUBSETS.index(split) * len(state)
                mine = kept[name][begin : begin + len(state)]
                np.testing.assert_allclose(mine, state, atol=1e-5, rtol=0)


def test_each_checkpoint_holds_weights_of_its_own_and_its_step(smoke: Finished) -> None:
    weights = set()
    for step in STEPS:
        directory = smoke.path / "checkpoints" / step_name(step)
        config = json.loads((directory / "config.json").read_text())
        assert config["tasklens"] == {"step": step, "seed": 0}
        tokenizer = (directory / "tokenizer.json").read_bytes()
        assert tokenizer == (smoke.path / "data" / "tokenizer.json").read_bytes()
        weights.add((directory / "model.safetensors").read_bytes())
    assert len(weights) == len(STEPS)


# --- The same again ---


def test_the_same_seed_gives_the_same_but_the_name(
    tiny: Finished, command: Command, tmp_path: Path
) -> None:
    """`test_resume` has processes, of several workers, give the same."""
    path = tmp_path / "other"
    assert command("run", "smoke", *changes(), "--out", path).status == 0
    parts = ("data", "checkpoints", "states", "metrics.jsonl", "figures", "frames.safetensors")
    assert_same(path, tiny.path, *parts)
    mine, theirs = (pq.read_table(p / "scores.parquet") for p in (path, tiny.path))
    assert set(mine["run"].to_pylist()) == {"other"}
    assert mine.drop_columns("run").equals(theirs.drop_columns("run"))


def test_another_seed_gives_others(tiny: Finished, command: Command, tmp_path: Path) -> None:
    path = tmp_path / tiny.path.name
    assert command("run", "smoke", *changes(seed=1), "--out", path).status == 0
    mine, theirs = contents(path), contents(tiny.path)
    same = {name for name, content in mine.items() if theirs.get(name) == content}
    written = {name for name in mine if Path(name).suffix in (".parquet", ".safetensors", ".csv")}
    assert len(written) > 20
    assert written & same == set()
    assert mine["data/tasks.json"] != theirs["data/tasks.json"]

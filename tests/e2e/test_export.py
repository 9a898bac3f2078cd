"""Exports have the points, vectors and facts that the run has, for both kinds of run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import tasklens as tl
from e2e.conftest import Finished, Probed, assert_refused, call, succeed
from tasklens.core.text import visible
from tasklens.runs.export import CONFIG, METADATA, VECTORS, _tsv, _tsv_of_vectors
from tasklens.runs.load_run import load_run


def models_in(path: Path) -> list[dict[str, object]]:
    """Return what the metadata of a Parquet file state of the models."""
    metadata = pq.read_schema(path).metadata
    assert metadata[b"tasklens.version"].decode() == tl.__version__
    models: list[dict[str, object]] = json.loads(metadata[b"tasklens.models"])
    return models


def test_the_atlas_has_the_points_of_the_reports_map(tiny: Finished, tmp_path: Path) -> None:
    run, out = load_run(tiny.path), tmp_path / "points.parquet"
    view, steps = run.view(), run.steps[-2:]
    asked = [f"--step={step}" for step in steps]
    succeed("export", tiny.path, "--layer", "1", "--layer", "ln_f", *asked, "--out", out)
    frame = pd.read_parquet(out)
    assert [*frame.columns[:4]] == ["x", "y", "label", "prompt"]
    n = sum(map(len, view.splits.values()))
    assert len(frame) == 2 * 2 * n
    assert set(frame["position"]) == {"input"}
    for step, layer, name in (
        (steps[0], "block1", "val_subset"),
        (steps[1], "ln_f", "train_subset"),
    ):
        at, split = view.at(step), view.splits[name]
        rows = frame.groupby(["step", "layer", "split"]).get_group((step, layer, name))
        assert np.array_equal(rows[["x", "y"]].to_numpy(), split.maps["tsne", layer][at])
        for column, part in (("label", "task"), ("input", "input"), ("output", "output")):
            assert [*rows[column]] == [view.names[part][i] for i in split.parts[part]]
        assert tuple(rows["prompt"]) == split.instruction
        assert [*rows["answer"]] == [view.answers[i] for i in split.answer[at]]
        assert split.right is not None
        assert [*rows["correct"]] == split.right[at].tolist()
        # the same partition as the report's, which calls clusters by their tasks
        pairs = set(zip(rows["cluster"], split.assigned[layer][at], strict=True))
        assert len(pairs) == rows["cluster"].nunique() == len({name for _, name in pairs})
    weights = run.directory.noted(run.directory.checkpoint(run.steps[-1]) / "model.safetensors")
    own = {"step": run.steps[-1], "name": run.name, "licence": "", "weights": weights or ""}
    assert models_in(out) == models_in(run.directory.scores_parquet) == [own]


def test_the_projector_gets_the_states_and_a_line_for_each(tiny: Finished, tmp_path: Path) -> None:
    run, out = load_run(tiny.path), tmp_path / "projector"
    result = succeed("export", tiny.path, "--to", "projector", "--layer", "block1", "--out", out)
    assert result.out == f"{out}\n"
    x = np.loadtxt(out / VECTORS, delimiter="\t", dtype=np.float32)
    assert np.array_equal(x, run.states("block1"))
    header, *lines = [line.split("\t") for line in (out / METADATA).read_text().splitlines()]
    known = ["label", "prompt", "input", "output", "answer", "correct", "cluster", "split"]
    assert header == [*known, "distribution"]
    assert {len(line) for line in lines} == {len(header)}
    labels = [run.names["task"][i] for each in run.instances_by_split.values() for i in each.task]
    assert [line[0] for line in lines] == labels
    assert [line[-1] for line in lines] == [f"{label}/0" for label in labels]
    assert [line[-2] for line in lines] == [
        split for split, rows in run.splits.items() for _ in range(rows.stop - rows.start)
    ]
    config = (out / CONFIG).read_text()
    assert f'  tensor_path: "{VECTORS}"\n  metadata_path: "{METADATA}"\n' in config


def test_a_model_run_exports_its_own_columns_and_the_origin_of_its_models(
    probed: Probed, tmp_path: Path
) -> None:
    run, out = load_run(probed.path), tmp_path / "points.parquet"
    assert tl.export_atlas(run, out, layers="all", map="pca", splits=next(iter(run.splits))) == out
    frame = pd.read_parquet(out)
    assert [*frame["layer"].unique()] == [*run.state_names]
    assert {*run.columns} - {*frame.columns} == {"text", "verb"}  # the prompt, and a span in it
    stated = [json.loads((run.states_at(step) / "about.json").read_text()) for step in run.steps]
    kept = [{key: each[key] for key in ("step", "licence", "weights")} for each in stated]
    # Of an absolute path the last part is named.
    assert all(Path(each["name"]).is_absolute() for each in stated)
    names = [Path(each["name"]).name for each in stated]
    assert models_in(out) == [each | {"name": name} for each, name in zip(kept, names, strict=True)]
    assert {each["licence"] for each in stated} == {"not stated"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--to", "umap"], "--to umap: should be atlas or projector"),
        (["--layer", "block9"], "no hidden state 'block9'; there are "),
        (["--step", "77"], "no step '77'; there are "),
        (["--split", "test"], "no split 'test'; there are "),
        (["--position", "last"], "the position 'last' is not measured"),
        (["--map", "umap"], "--map umap: should be tsne, pca or centroids"),
        (["--to", "projector", "--layer", "all"], "--layer: the projector shows one; give one"),
        (["--to", "projector", "--map", "pca"], "the projector makes its own; leave it out"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_writes_nothing(
    asked: list[str], message: str, tiny: Finished, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert_refused(call("export", tiny.path, *asked, "--out", out), message)
    assert not out.exists()


def test_files_of_others_are_replaced_only_if_they_are_named(
    tiny: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, folder = Path("atlas.parquet"), Path("projector")
    mine.write_text("mine")
    folder.mkdir()
    (folder / METADATA).write_text("mine")
    projector = ("export", tiny.path, "--to", "projector")
    assert_refused(call("export", tiny.path), "atlas.parquet is not of tasklens")
    assert_refused(call(*projector), "projector is not of tasklens")
    assert_refused(call(*projector, "--out", mine), "it is a file; should be a directory")
    scores = tiny.path / "scores.parquet"
    assert_refused(call("export", tiny.path, "--out", scores), "it is a file of the run")
    assert [mine.read_text(), (folder / METADATA).read_text()] == ["mine", "mine"]
    for command in (("export", tiny.path), projector):
        out = folder if command is projector else mine
        succeed(*command, "--out", out)
        succeed(*command)  # it is of tasklens now
    assert len(pd.read_parquet(mine)) > 0
    assert {path.name for path in folder.iterdir()} == {VECTORS, METADATA, CONFIG}


def test_lines_and_numbers_are_read_as_they_were() -> None:
    import pyarrow as pa

    text = 'a\tb\nc\r"d" \\'
    lines = _tsv(pa.table({"prompt": [text, None], "n": [1, 2]}), with_header=True).decode()
    assert lines.split("\n") == ["prompt\tn", f"{visible(text)}\t1", "\t2", ""]
    assert visible(text) == 'a\\tb\\nc\\r"d" \\'
    x = np.array([[0.1, -1e-30, 3.4e38], [1 / 3, 0, 1]], dtype=np.float32)
    rows = [line.split("\t") for line in _tsv_of_vectors(x).decode().splitlines()]
    assert np.array_equal(np.array(rows, dtype=np.float32), x)


def test_an_animation_is_written_as_a_gif(
    tiny: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("animate", tiny.path, "--layer", "block1", "--size", "100", "--pace", "0.1")
    assert succeed(*asked, "--map", "pca").out == "animation.gif\n"
    file = Path("animation.gif")
    expected = tl.animation(load_run(tiny.path).view(), "block1", map="pca", size=100, pace=0.1)
    assert file.read_bytes() == expected
    assert_refused(call(*asked, "--color", "form"), "no colour by 'form'; there are cluster, task")
    file.write_text("mine")
    assert_refused(call(*asked), "animation.gif is not of tasklens")
    assert file.read_text() == "mine"

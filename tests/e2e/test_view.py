"""The view of a run: what its files say, seen through `load_view`."""

import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from e2e.conftest import Command, Finished, assert_same, changes, contents
from tasklens import InputError, View, load_view
from tasklens.core.workers import Processes
from tasklens.runs import stage_report
from tasklens.runs.directory import RunDir
from tasklens.scoring.cluster_tracking import follow

SPLITS = ("train_subset", "val_subset", "val_instruction_subset")
STEPS = (0, 1, 2, 4, 8, 12)
STATES = ("wte", "embed", "block1", "ln_f")
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def view(tiny: Finished) -> View:
    return load_view(tiny.path)


def columns(path: Path, split: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(path / "data" / f"{split}.parquet").to_pydict()
    return found


def clusters(path: Path, step: int) -> Arrays:
    file = path / "measured" / f"step-{step:08d}" / "clusters.safetensors"
    found: Arrays = safetensors.numpy.load_file(file)
    return found


def states(path: Path, step: int) -> Arrays:
    found: Arrays = safetensors.numpy.load_file(path / "states" / f"step-{step:08d}.safetensors")
    return found


def named(view: View, split: str, part: str) -> list[str]:
    return [view.names[part][number] for number in view.splits[split].parts[part]]


def forget_frames(path: Path) -> None:
    """Make a run one that was finished before there were frames."""
    (path / "frames.safetensors").unlink()
    RunDir(path).unfinish("frames")


# --- What it says ---


def test_it_is_of_the_run(tiny: Finished, view: View) -> None:
    assert (view.run, view.seed, view.kind) == ("tiny", 0, "run")
    assert view.steps == STEPS
    assert view.states == STATES
    assert tuple(view.splits) == SPLITS
    assert view.table.equals(pq.read_table(tiny.path / "scores.parquet"))
    assert view.manifest == json.loads((tiny.path / "manifest.json").read_text())


@pytest.mark.parametrize("split", SPLITS)
def test_every_point_is_what_the_table_of_its_split_says(
    tiny: Finished, view: View, split: str
) -> None:
    said = columns(tiny.path, split)
    assert len(view.splits[split]) == len(said["task"]) == 10
    assert list(view.splits[split].instruction) == said["instruction"]
    for part in ("task", "input", "output"):
        assert named(view, split, part) == said[part]


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_those_that_were_measured(tiny: Finished, view: View, split: str) -> None:
    vocabulary = json.loads((tiny.path / "data" / "tokenizer.json").read_text())["model"]["vocab"]
    word = {number: text for text, number in vocabulary.items()}
    output = columns(tiny.path, split)["output"]
    right = view.splits[split].right
    assert right is not None
    for at, step in enumerate(STEPS):
        measured = [word[token] for token in clusters(tiny.path, step)[f"{split}/answer"].tolist()]
        assert [view.answers[n] for n in view.splits[split].answer[at]] == measured
        assert right[at].tolist() == [a == b for a, b in zip(measured, output, strict=True)]
    assert len(set(view.answers)) == len(view.answers)


@pytest.mark.parametrize("split", SPLITS)
def test_clusters_are_those_of_the_first_seed_under_the_names_of_tasks(
    tiny: Finished, view: View, split: str
) -> None:
    task = columns(tiny.path, split)["task"]
    numbers = np.array([view.names["task"].index(name) for name in task])
    for state in STATES:
        labels = [clusters(tiny.path, step)[f"{split}/{state}/raw/labels"][0] for step in STEPS]
        for mine, theirs in zip(view.splits[split].assigned[state], labels, strict=True):
            assert adjusted_rand_score(mine, theirs) == 1.0
        expected = follow(STEPS, np.stack(labels).astype(np.int64), numbers)
        got = view.splits[split].followed[state]
        assert got.formed == expected.formed
        assert got.overlap == pytest.approx(expected.overlap)
        for at in range(len(STEPS)):
            for number in np.unique(numbers):
                its, theirs = numbers == number, view.splits[split].assigned[state][at] == number
                shared = np.count_nonzero(its & theirs) / np.count_nonzero(its | theirs)
                assert got.overlap[at, got.tasks.tolist().index(number)] == pytest.approx(shared)


def test_the_view_of_components_is_one_basis_for_all_checkpoints(
    tiny: Finished, view: View
) -> None:
    for split in SPLITS:
        for state in STATES:
            place = f"{split}/{state}"
            basis = PCA(n_components=2, svd_solver="full").fit(states(tiny.path, 12)[place])
            mine = view.splits[split].maps["pca", state]
            assert mine.shape == (len(STEPS), len(view.splits[split]), 2)
            sign = np.sign((mine[-1] * basis.transform(states(tiny.path, 12)[place])).sum(axis=0))
            for at, step in enumerate(STEPS):
                x = states(tiny.path, step)[place]
                shown = (x - x.mean(axis=0)) @ basis.components_.T * sign
                scale = float(np.abs(x).max())
                assert mine[at] == pytest.approx(shown, abs=1e-4 * scale)
                share = shown.var(axis=0).sum() / x.var(axis=0).sum()
                assert view.splits[split].shown_variance[state][at] == pytest.approx(
                    share, abs=1e-4
                )


def test_every_state_has_a_map_at_every_checkpoint(view: View) -> None:
    for split in view.splits.values():
        assert set(split.maps) == {(which, state) for which in ("tsne", "pca") for state in STATES}
        for maps in split.maps.values():
            assert maps.shape == (len(STEPS), 10, 2)
            assert np.isfinite(maps).all()
            assert (maps != maps[:, :1]).any(axis=(1, 2)).all(), "points lie apart"


def test_the_world_is_that_of_the_tasks(tiny: Finished, view: View) -> None:
    whole = {split: columns(tiny.path, split) for split in ("train", "val", "val_instruction")}
    rows = [row for said in whole.values() for row in zip(*said.values(), strict=True)]
    at = {column: i for i, column in enumerate(whole["train"])}
    function: dict[str, dict[str, str]] = {}
    for row in rows:
        function.setdefault(row[at["task"]], {})[row[at["input"]]] = row[at["output"]]
    assert tuple(task.name for task in view.world.tasks) == view.names["task"]
    for task in view.world.tasks:
        its = {row[at["instruction"]] for row in rows if row[at["task"]] == task.name}
        assert task.function == function[task.name]
        assert task.n_examples == len(its)
        assert set(task.examples) <= its
        assert task.n_strings is not None
        assert task.n_strings >= len(its)
    assert view.world.same_output is not None
    for i, first in enumerate(view.world.tasks):
        for j, second in enumerate(view.world.tasks):
            f, g = function[first.name], function[second.name]
            same = [f[x] == g[x] for x in f.keys() & g.keys()]
            assert view.world.same_output[i, j] == pytest.approx(np.mean(same))
    symbols = sorted(set("".join(columns(tiny.path, "train_subset")["instruction"])))
    said = columns(tiny.path, "train_subset")
    means = []
    for name in view.names["task"]:
        texts = [s for s, its in zip(said["instruction"], said["task"], strict=True) if its == name]
        means.append(np.mean([[s.count(symbol) for symbol in symbols] for s in texts], axis=0))
    unit = np.array([m / np.linalg.norm(m) for m in means])
    assert view.world.same_symbols == pytest.approx(unit @ unit.T)
    assert view.world.sizes["tasks"] == 4
    assert view.world.sizes["tasks measured"] == 3
    assert view.world.sizes["instances, training"] == len(whole["train"]["task"])
    assert view.world.sizes["instructions"] == len({row[at["instruction_id"]] for row in rows})


# --- When frames are made ---


def test_what_is_made_is_not_made_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(stage_report, "frame", refuse)
    before = contents(copy), (copy / "manifest.json").read_bytes()
    with RunDir(copy).locked():  # by somebody else: it is only read
        load_view(copy)
    assert (contents(copy), (copy / "manifest.json").read_bytes()) == before
    forget_frames(copy)
    with pytest.raises(AssertionError, match="made again"):
        load_view(copy)
    assert not (copy / "frames.safetensors").exists()


class Others(Processes):
    """Stands for other processes: each item travels, and the last one is done first."""

    def map(  # type: ignore[override]
        self, function: Callable[[Any], Any], items: Iterable[Any]
    ) -> Iterator[Any]:
        travelled = [pickle.loads(pickle.dumps((function, item))) for item in items]
        yield from reversed([do(item) for do, item in reversed(travelled)])


@pytest.mark.parametrize("workers", [Processes, Others])
def test_frames_are_the_same_bytes_whoever_makes_them(
    tiny: Finished, copy: Path, workers: type[Processes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_report, "Processes", workers)
    forget_frames(copy)
    load_view(copy)
    assert "frames.safetensors" in contents(copy)
    assert_same(copy, tiny.path)


def test_where_frames_are_to_be_made_the_directory_is_to_be_free(copy: Path) -> None:
    forget_frames(copy)
    with RunDir(copy).locked(), pytest.raises(InputError, match="in use by another tasklens"):
        load_view(copy)


def test_of_more_instances_than_points_some_are_shown(
    command: Command, copy: Path, view: View
) -> None:
    result = command("report", copy, "--set", "report.points=9")
    assert result.status == 0, result.err
    few = load_view(copy)
    shown: Arrays = safetensors.numpy.load_file(copy / "frames.safetensors")
    chosen = []
    for split in SPLITS:
        which, its = shown[f"{split}/points"], few.splits[split]
        assert len(which) == len(set(which.tolist())) == len(its) == 9
        said = columns(copy, split)
        assert list(its.instruction) == [said["instruction"][i] for i in which]
        for part in ("task", "input", "output"):
            assert named(few, split, part) == [said[part][i] for i in which]
        before = [view.answers[n] for n in view.splits[split].answer[:, which].ravel()]
        assert [few.answers[n] for n in its.answer.ravel()] == before
        for state in STATES:
            assert its.maps["tsne", state].shape == (len(STEPS), 9, 2)
            whole = view.splits[split]
            assert (its.assigned[state] == whole.assigned[state][:, which]).all()
            assert its.followed[state].formed == whole.followed[state].formed, "of all of them"
        chosen.append(which.tolist())
    assert len({str(which) for which in chosen}) > 1, "each split's own"


# --- What cannot be ---


def test_a_run_that_is_not_measured_has_no_view(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "unmeasured"
    assert command("data", "smoke", *changes(), "--out", path).status == 0
    with pytest.raises(InputError, match=f"^{path}: stage .* is not finished; run it first: "):
        load_view(path)
    with pytest.raises(InputError, match="is not a run directory"):
        load_view(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_frames_that_are_damaged_are_told(copy: Path) -> None:
    file = copy / "frames.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"frames\.safetensors is damaged"):
        load_view(copy)


def test_frames_that_are_gone_are_made_again(tiny: Finished, copy: Path) -> None:
    (copy / "frames.safetensors").unlink()
    load_view(copy)
    assert_same(copy, tiny.path, "frames.safetensors")

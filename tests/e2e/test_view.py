"""Test the view of a run: `load_view` gives the contents of the files."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from e2e.conftest import Command, Finished, assert_same, changes, contents
from tasklens import InputError, View
from tasklens.core.workers import Processes
from tasklens.report.edits_view import NOT_RUN
from tasklens.report.view import MAPS, PLANES, UNKNOWN
from tasklens.runs.directory import RunDir
from tasklens.runs.frame_maker import make_frames
from tasklens.runs.load_run import load_run
from tasklens.runs.stage_report import load_view
from tasklens.scoring.cluster_tracking import follow

SPLITS = ("train_subset", "val_subset", "val_instruction_subset")
STEPS = (0, 1, 2, 4, 8, 12)
STATES = ("wte", "embed", "block1", "ln_f")
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def view(tiny: Finished) -> View:
    return load_view(tiny.path)


def columns(path: Path, split: str) -> dict[str, list[Any]]:
    return pq.read_table(path / "data" / f"{split}.parquet").to_pydict()  # type: ignore[no-any-return]


def clusters(path: Path, step: int) -> Arrays:
    file = path / f"measured/step-{step:08d}/clusters.safetensors"
    return safetensors.numpy.load_file(file)  # type: ignore[no-any-return]


def states(path: Path, step: int, split: str, state: str) -> Any:
    """Return a hidden state of a split, (10, D): the splits are one after the other."""
    every = np.load(path / f"states/step-{step:08d}/{state}.npy")
    assert len(every) == 10 * len(SPLITS)
    return every[10 * SPLITS.index(split) :][:10]


def named(view: View, split: str, part: str) -> list[str]:
    return [view.names[part][number] for number in view.splits[split].parts[part]]


def forget_frames(path: Path) -> None:
    """Make a run like one that was finished before there were frames."""
    (path / "frames.safetensors").unlink()
    RunDir(path).unfinish("report")


# --- Contents ---


def test_it_is_of_the_run(tiny: Finished, view: View) -> None:
    assert (view.run, view.seed, view.kind) == ("tiny", 0, "run")
    assert view.steps == STEPS
    assert view.states == STATES
    assert tuple(view.splits) == SPLITS
    assert view.table.equals(pq.read_table(tiny.path / "scores.parquet"))
    manifest = json.loads((tiny.path / "manifest.json").read_text())
    assert view.manifest == {key: part for key, part in manifest.items() if key != "sha256"}


@pytest.mark.parametrize("split", SPLITS)
def test_points_and_answers_are_those_that_were_measured(
    tiny: Finished, view: View, split: str
) -> None:
    table, points = columns(tiny.path, split), view.splits[split]
    assert len(points) == len(table["task"]) == 10
    assert list(points.instruction) == table["instruction"]
    for part in ("task", "input", "output"):
        assert named(view, split, part) == table[part]
    vocabulary = json.loads((tiny.path / "data/tokenizer.json").read_text())["model"]["vocab"]
    word = {number: text for text, number in vocabulary.items()}
    assert points.right is not None
    for at, step in enumerate(STEPS):
        measured = [word[token] for token in clusters(tiny.path, step)[f"{split}/answer"].tolist()]
        assert [view.answers[n] for n in points.answer[at]] == measured
        right = [a == b for a, b in zip(measured, table["output"], strict=True)]
        assert points.right[at].tolist() == right
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
        for at, number in itertools.product(range(len(STEPS)), np.unique(numbers)):
            points, cluster = numbers == number, view.splits[split].assigned[state][at] == number
            shared = np.count_nonzero(points & cluster) / np.count_nonzero(points | cluster)
            assert got.overlap[at, got.tasks.tolist().index(number)] == pytest.approx(shared)


def test_the_view_of_components_is_one_basis_for_all_checkpoints(
    tiny: Finished, view: View
) -> None:
    for split, state in itertools.product(SPLITS, STATES):
        at_the_end = states(tiny.path, 12, split, state)
        basis = PCA(n_components=2, svd_solver="full").fit(at_the_end)
        points = view.splits[split]
        mine = points.maps["pca", state]
        sign = np.sign((mine[-1] * basis.transform(at_the_end)).sum(axis=0))
        for at, step in enumerate(STEPS):
            x = states(tiny.path, step, split, state)
            shown = (x - x.mean(axis=0)) @ basis.components_.T * sign
            assert mine[at] == pytest.approx(shown, abs=1e-4 * float(np.abs(x).max()))
            share = shown.var(axis=0).sum() / x.var(axis=0).sum()
            assert points.shown_variance["pca", state][at] == pytest.approx(share, abs=1e-4)


def test_the_plane_of_centroids_is_that_of_the_first_split_for_all_splits(
    tiny: Finished, view: View
) -> None:
    task = {split: np.array(columns(tiny.path, split)["task"]) for split in SPLITS}

    def means(x: NDArray[Any], of_split: str) -> NDArray[Any]:
        return np.stack([x[task[of_split] == t].mean(axis=0) for t in np.unique(task[of_split])])

    for split, state in itertools.product(SPLITS, STATES):
        points = view.splits[split]
        mine = points.maps["centroids", state]
        at_the_end = means(states(tiny.path, 12, SPLITS[0], state), SPLITS[0])
        plane = PCA(n_components=2, svd_solver="full").fit(at_the_end)
        x = states(tiny.path, 12, split, state) - at_the_end.mean(axis=0)
        sign = np.sign((mine[-1] * (x @ plane.components_.T)).sum(axis=0))
        for at, step in enumerate(STEPS):
            fit = means(states(tiny.path, step, SPLITS[0], state), SPLITS[0])
            x = states(tiny.path, step, split, state)
            shown = (x - fit.mean(axis=0)) @ plane.components_.T * sign
            assert mine[at] == pytest.approx(shown, abs=1e-4 * float(np.abs(x).max()))
            share = shown.var(axis=0).sum() / x.var(axis=0).sum()
            assert points.shown_variance["centroids", state][at] == pytest.approx(share, abs=1e-4)


def test_every_state_has_a_map_at_every_checkpoint(view: View) -> None:
    for split in view.splits.values():
        assert set(split.maps) == set(itertools.product(MAPS, STATES))
        for maps in split.maps.values():
            assert maps.shape == (len(STEPS), 10, 2)
            assert np.isfinite(maps).all()
            assert (maps != maps[:, :1]).any(axis=(1, 2)).all(), "points lie apart"


def test_the_world_is_that_of_the_tasks(tiny: Finished, view: View) -> None:
    instances = pd.concat(
        [pd.DataFrame(columns(tiny.path, split)) for split in ("train", "val", "val_instruction")]
    )
    world, function = view.world, {}
    assert tuple(task.name for task in world.tasks) == view.names["task"]
    for task in world.tasks:
        rows = instances[instances["task"] == task.name]
        function[task.name] = dict(zip(rows["input"], rows["output"], strict=True))
        assert task.function == function[task.name]
        assert task.n_examples == rows["instruction"].nunique()
        assert set(task.examples) <= set(rows["instruction"])
        assert task.n_strings is not None
        assert task.n_strings >= task.n_examples
    assert world.same_output is not None
    for i, j in np.ndindex(world.same_output.shape):
        f, g = function[world.tasks[i].name], function[world.tasks[j].name]
        same = [f[x] == g[x] for x in f.keys() & g.keys()]
        assert world.same_output[i, j] == pytest.approx(np.mean(same))
    shown = pd.DataFrame(columns(tiny.path, "train_subset"))
    counts = shown["instruction"].map(Counter).apply(pd.Series).fillna(0)
    means = counts.groupby(shown["task"]).mean().loc[list(view.names["task"])].to_numpy()
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    assert world.same_symbols == pytest.approx(unit @ unit.T)
    sizes = {"tasks": 4, "tasks measured": 3, "instructions": instances["instruction_id"].nunique()}
    sizes["instances of train"] = len(columns(tiny.path, "train")["task"])
    assert sizes.items() <= dict(world.sizes).items()


# --- When frames are made ---


def test_frames_are_made_once_and_need_the_directory(copy: Path) -> None:
    before = contents(copy), (copy / "manifest.json").read_bytes()
    with RunDir(copy).locked():  # by another user: the test only reads it
        load_view(copy)
        assert (contents(copy), (copy / "manifest.json").read_bytes()) == before
    forget_frames(copy)
    with RunDir(copy).locked(), pytest.raises(InputError, match="in use by another tasklens"):
        load_view(copy)
    assert not (copy / "frames.safetensors").exists()


def test_frames_are_the_same_bytes_in_any_process(tiny: Finished, copy: Path) -> None:
    forget_frames(copy)
    load_view(copy)
    assert_same(copy, tiny.path)
    forget_frames(copy)
    make_frames(load_run(copy), Processes(2))
    assert_same(copy, tiny.path)


def test_of_more_instances_than_points_some_are_shown(
    command: Command, copy: Path, view: View
) -> None:
    result = command("report", copy, "--set", "report.points=9")
    assert result.status == 0, result.err
    few = load_view(copy)
    shown: Arrays = safetensors.numpy.load_file(copy / "frames.safetensors")
    chosen = set()
    for split in SPLITS:
        index, points, all_points = shown[f"{split}/points"], few.splits[split], view.splits[split]
        assert len(set(index.tolist())) == len(points) == 9
        table = pd.DataFrame(columns(copy, split)).iloc[index]
        assert list(points.instruction) == list(table["instruction"])
        for part in ("task", "input", "output"):
            assert named(few, split, part) == list(table[part])
        before = [view.answers[n] for n in all_points.answer[:, index].ravel()]
        assert [few.answers[n] for n in points.answer.ravel()] == before
        for state in STATES:
            assert points.maps["tsne", state].shape == (len(STEPS), 9, 2)
            assert (points.assigned[state] == all_points.assigned[state][:, index]).all()
            assert points.followed[state].formed == all_points.followed[state].formed, (
                "of all of them"
            )
        chosen.add(str(index))
    assert len(chosen) > 1, "each split's own"


# --- What cannot be ---


def test_a_run_that_is_not_measured_has_no_view(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "unmeasured"
    assert command("data", "smoke", *changes(), "--out", path).status == 0
    with pytest.raises(InputError, match=f"^{path}: stage .* is not finished; run it first: "):
        load_view(path)
    with pytest.raises(InputError, match="is not a run directory"):
        load_view(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_damaged_frames_are_named(copy: Path) -> None:
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


# --- Edits ---


def test_effects_and_answers_are_those_of_the_stage(tiny: Finished, view: View) -> None:
    edits = view.edits
    assert edits is not None
    assert edits.effects.equals(load_run(tiny.path).effects())
    assert set(edits.steps) <= set(STEPS)
    for split, moves in edits.moves.items():
        for e, step in enumerate(edits.steps):
            file = tiny.path / f"interventions/step-{step:08d}.safetensors"
            arrays: Arrays = safetensors.numpy.load_file(file)
            kept = {name.removeprefix(f"{split}/input/"): array for name, array in arrays.items()}
            assert moves.point.tolist() == kept["index"].tolist(), "all points are shown"
            own = [view.names["task"][t] for t in view.splits[split].parts["task"][moves.point]]
            names = [view.names["task"][t] for t in moves.tasks]
            assert [names[column] for column in kept["own"]] == own
            functions = {task.name: task.function for task in view.world.tasks}
            inputs = [named(view, split, "input")[i] for i in moves.point]
            for (m, t), n in np.ndenumerate(moves.expected):
                right = moves.answers[n] if n != UNKNOWN else None
                assert right == functions[names[t]].get(inputs[m])
            for state, answer in moves.answer.items():
                given = kept[f"{state}/shift/answer"].T
                ran = kept["pairs"] > 0
                assert (answer[e][ran] == given[ran]).all()
                assert (answer[e][~ran] == NOT_RUN).all()


def test_a_move_on_the_map_is_that_of_the_edited_state(tiny: Finished, view: View) -> None:
    """The map of an edited state, by scikit-learn, is where the arrow ends."""
    assert view.edits is not None
    task = np.array(columns(tiny.path, SPLITS[0])["task"])
    for split, moves in view.edits.moves.items():
        names = [view.names["task"][t] for t in moves.tasks]
        assert {plane for plane, _ in moves.centroids} == {*PLANES}
        for (plane, state), centroids in moves.centroids.items():
            at_the_end = states(tiny.path, 12, split, state)
            fitted = at_the_end
            if plane == "centroids":
                last = states(tiny.path, 12, SPLITS[0], state)
                fitted = np.stack([last[task == each].mean(axis=0) for each in np.unique(task)])
            basis = PCA(n_components=2, svd_solver="full").fit(fitted)
            located = view.splits[split].maps[plane, state]
            sign = np.sign((located[-1] * basis.transform(at_the_end)).sum(axis=0))
            for e, step in enumerate(view.edits.steps):
                x, fit = (states(tiny.path, step, each, state) for each in (split, SPLITS[0]))
                means = {name: fit[task == name].mean(axis=0) for name in names}
                a, b = names[0], names[-1]
                edited = x + means[b] - means[a]
                middle = x if plane == "pca" else np.stack([*means.values()])
                ends = (edited - middle.mean(axis=0)) @ basis.components_.T * sign
                arrow = centroids[e, -1] - centroids[e, 0]
                begin = located[STEPS.index(step)]
                assert begin + arrow == pytest.approx(ends, abs=1e-4 * float(np.abs(x).max()))


def test_a_run_without_edits_or_with_standardised_states_has_no_moves(
    command: Command, tmp_path: Path
) -> None:
    settings = changes(measure__standardize="true")
    result = command("run", "smoke", *settings, "--out", tmp_path / "standard")
    assert result.status == 0, result.err
    edits = load_view(tmp_path / "standard").edits
    assert edits is not None
    assert all(not moves.centroids and moves.answer for moves in edits.moves.values())
    RunDir(tmp_path / "standard").unfinish("interventions")
    assert load_view(tmp_path / "standard").edits is None

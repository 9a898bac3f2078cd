"""Runs to verdicts: reads clusters and answers from run directories, and judges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from tasklens.findings.verdict import Verdict, judge
from tasklens.runs.settings import TrainingRunSettings, read_settings
from tasklens.findings.curves import Curves, curves_of_labels, curves_of_table
from tasklens.data.synthetic import MEASURED, Dataset
from tasklens.core.errors import InputError
from tasklens.runs.experiment import kind_of, load_dataset, load_scores, need
from tasklens.scoring.cluster_tracking import Followed, follow
from tasklens.runs.measuring import load_clusters
from tasklens.runs.probe_dir import Probe
from tasklens.runs.settings import ModelRunSettings, TrainingRunSettings
from tasklens.data.labelled_prompts import codes
from tasklens.core.seeds import stream
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.bootstrap import Resampling, resampling_weights
from tasklens.runs.directory import RunDir
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.scoring.score_cells import control_labels
from tasklens.scoring.score_table import main_scores, read_scores
from tasklens.data.instances import instances_of

#: How many times the instructions of a run are drawn anew.
COPIES = 400


def read_curves(path: Path, *, shuffled: bool = False) -> list[Curves]:
    """Read what the findings are judged by.

    Parameters
    ----------
    path : Path
        A run directory, or a table of scores alone, of which there is nothing to resample.
    shuffled : bool
        Give the instances of each split the tasks of one another, at random: what chance gives.

    Raises
    ------
    InputError
        Where it is neither, or the run is not measured.
    """
    if path.suffix == ".parquet":
        return curves_of_table(read_scores(path), "ari_shuffled" if shuffled else "ari")
    run = RunDir(path)
    if run.is_probe:
        return [_curves_of_probe(run, shuffled)]
    settings: TrainingRunSettings = read_settings(run.config, TrainingRunSettings)
    need(run, settings, "measure")
    return [_curves_of_run(run, settings, load_dataset(run), shuffled)]


def _curves_of_run(run: RunDir, settings: TrainingRunSettings, dataset: Dataset, shuffled: bool) -> Curves:
    seed = settings.seed
    weights = _weights(dataset, seed)
    resampling: dict[str, Resampling] = {}
    controls: dict[tuple[str, str], NDArray[np.int64]] = {}
    for split in MEASURED:
        known = instances_of(dataset, split)
        task = known.task
        if shuffled:
            task = stream(seed, "shuffled tasks", split).permutation(task)
        resampling[split] = Resampling(task, dataset.splits[split].instruction, weights)
        made = control_labels(known, known.n_tasks, seed, settings.clusters)
        controls |= {(split, name): clusters for name, clusters in made.items()}
    labels: dict[tuple[int, str, str, str], NDArray[np.integer]] = {}
    hits: dict[tuple[int, str], NDArray[np.bool_]] = {}
    for step in checkpoint_steps(settings.train.steps, settings.checkpoints.every):
        for name, tensor in load_clusters(run, step).items():
            split, *place, kind = name.split("/")
            if kind == "labels":
                state, space = place
                labels[step, split, state, space] = tensor
            elif kind == "answer":
                hits[step, split] = tensor == dataset.splits[split].output
    with tqdm(desc=f"verify {run.name}", unit="cell", total=len(labels), disable=None) as bar:
        return curves_of_labels(run.name, seed, labels, hits, controls, resampling, bar.update)


def _measured_probe(run: RunDir) -> Probe:
    probe = Probe(run, read_settings(run.config, ModelRunSettings))
    probe.need_measured()
    return probe


def _curves_of_probe(run: RunDir, shuffled: bool) -> Curves:
    """Return a probe's curves; its splits stand for those of a run, in their order."""
    probe = _measured_probe(run)
    seed, table = probe.settings.seed, probe.table
    label, unit = np.array(codes(table.label)), np.array(codes(table.units))
    task_of_unit = np.zeros(unit.max() + 1, dtype=np.int64)
    task_of_unit[unit] = label
    weights = resampling_weights(task_of_unit, COPIES, stream(seed, "bootstrap"))
    stands_for = dict(zip(table.splits, MEASURED, strict=False))
    resampling: dict[str, Resampling] = {}
    controls: dict[tuple[str, str], NDArray[np.int64]] = {}
    for split, role in stands_for.items():
        known, task = probe.instances[split], probe.instances[split].task
        if shuffled:
            task = stream(seed, "shuffled tasks", split).permutation(task)
        resampling[role] = Resampling(task, unit[table.splits[split]], weights)
        k = probe.settings.measure.numbers(known.n_tasks)[0]
        made = control_labels(known, k, seed, probe.settings.clusters)
        controls |= {(role, name): clusters for name, clusters in made.items()}
    labels: dict[tuple[int, str, str, str], NDArray[np.integer]] = {}
    hits: dict[tuple[int, str], NDArray[np.bool_]] = {}
    for step in probe.steps:
        for name, tensor in load_clusters(run, step).items():
            split, *place, kind = name.split("/")
            if kind == "labels" and len(place) == 2:
                labels[step, stands_for[split], place[0], place[1]] = tensor
            elif kind == "hits":
                hits[step, stands_for[split]] = tensor
    called = {role: split for split, role in stands_for.items()}
    with tqdm(desc=f"verify {run.name}", unit="cell", total=len(labels), disable=None) as bar:
        return curves_of_labels(
            run.name, seed, labels, hits, controls, resampling, bar.update, called
        )


def _weights(dataset: Dataset, seed: int) -> NDArray[np.float64]:
    """Draw the instructions that are measured, in every split the same, anew within each task.

    Returns (1 + COPIES, number of instructions of the dataset).
    """
    used = np.unique(np.concatenate([dataset.splits[split].instruction for split in MEASURED]))
    weights = np.zeros((1 + COPIES, len(dataset.instructions)))
    rng = stream(seed, "bootstrap")
    weights[:, used] = resampling_weights(dataset.instruction_task[used], COPIES, rng)
    return weights


def verify_runs(paths: Sequence[Path], *, shuffled: bool = False) -> Verdict:
    """Judge runs that differ in their seed alone.

    Parameters
    ----------
    paths : sequence of Path
        Run directories, probes' among them, or tables of scores.
    shuffled : bool
        See `read_curves`.

    Raises
    ------
    InputError
        Where a run is not measured, two of them differ in more than their seed, or in nothing.
    """
    wrong = difference([path for path in paths if path.suffix != ".parquet"])
    if wrong:
        raise InputError(wrong)
    return judge([curves for path in paths for curves in read_curves(path, shuffled=shuffled)])


def difference(paths: Sequence[Path]) -> str | None:
    """Return, in a line, why runs cannot be judged together; None where only seeds differ."""
    runs: dict[Path, Any] = {
        path: read_settings(RunDir(path).config, kind_of(RunDir(path))) for path in paths
    }
    known: dict[str, Path] = {}
    for path in paths:
        first, settings = paths[0], runs[path]
        key: str | None = "kind"
        if type(settings) is type(runs[first]):
            key = runs[first].first_difference(settings, of_replicates=True)
        if key:
            return (
                f"{path} is another setting than {first} (its {key} differs); give runs that "
                "differ in their seed alone"
            )
        replicate = settings.replicate
        if replicate in known:
            return (
                f"{path} has the seed {settings.seed}, as {known[replicate]} has: one run says "
                "nothing of the spread of another; give each once"
            )
        known[replicate] = path
    return None


def follow_run(
    path: Path, layer: str | None = None, split: str | None = None, space: str = "raw"
) -> tuple[str, str, Followed, list[str]]:
    """Follow the tasks and clusters of one layer of a run, as its first cluster seed has them.

    Parameters
    ----------
    path : Path
        A run directory, or a probe's.
    layer : str, optional
        By default the layer with the highest final ARI on the first split.
    split : str, optional
        By default the second split, which is unseen, where there is one.
    space : str

    Returns
    -------
    layer, split, Followed, names of the tasks

    Raises
    ------
    InputError
        Where the run is not measured, or has no such layer, split or space.
    """
    run = RunDir(path)
    if run.is_probe:
        probe = _measured_probe(run)
        every, scores = tuple(probe.steps), main_scores(load_scores(run))
        tasks = {name: known.task for name, known in probe.instances.items()}
        names = sorted(set(probe.table.label))
    else:
        settings: TrainingRunSettings = read_settings(run.config, TrainingRunSettings)
        need(run, settings, "measure")
        dataset, scores = load_dataset(run), load_scores(run)
        every = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
        tasks = {name: dataset.task(name) for name in MEASURED}
        names = [task.name for task in dataset.tasks.tasks]
    splits = list(tasks)
    split = split or splits[min(1, len(splits) - 1)]
    layer = layer or _best_layer(scores, splits[0], space, path)
    steps, labels = [], []
    known: set[str] = set()
    for step in every:
        clusters = load_clusters(run, step)
        known |= {name for name in clusters if name.endswith("/labels")}
        if f"{split}/{layer}/{space}/labels" in clusters:
            steps.append(step)
            labels.append(clusters[f"{split}/{layer}/{space}/labels"][0].astype(np.int64))
    if not steps:
        has = ", ".join(sorted({name.removesuffix("/labels") for name in known}))
        raise InputError(f"{path}: no clusters of {split}/{layer}/{space}; there are {has}")
    return layer, split, follow(steps, np.stack(labels), tasks[split]), names


def _best_layer(scores: pa.Table, split: str, space: str, path: Path) -> str:
    ari = curves_of_table(scores)[0].ari
    best = best_layer({p[1:]: y[0, -1] for p, y in ari.items() if p[::2] == (split, space)})
    if best is None:
        raise InputError(f"{path}: nothing was clustered in the space {space!r}")
    return best[0]

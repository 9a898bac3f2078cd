"""Test the findings on runs: read clusters and answers, and judge them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.core.progress import progress, warn
from tasklens.core.seeds import stream
from tasklens.data.instances import JUDGED, UNSEEN_KINDS, Family, join_families
from tasklens.data.names import find_split, find_state
from tasklens.findings.curves import Curves, Places, curves_of_labels, curves_of_table
from tasklens.findings.use import of_shuffled_labels
from tasklens.findings.verdict import Verdict, judge
from tasklens.interventions.effect_curves import EffectCurves, effect_curves
from tasklens.runs.chosen_layer import need_layer
from tasklens.runs.kept_edits import edited_steps, read_edits
from tasklens.runs.load_run import first_difference, load_run
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import Ints
from tasklens.runs.training_run import TrainingRun
from tasklens.scoring.bootstrap import (
    FamilyResampling,
    Resampling,
    linked_units,
    resampling_weights,
)
from tasklens.scoring.cell_key import CellKey
from tasklens.scoring.cluster_tracking import Followed, follow
from tasklens.scoring.partition_agreement import extremes
from tasklens.scoring.score_cells import control_clusters, input_controls
from tasklens.scoring.score_table import at_position, read_score_table

#: How the result with permuted tasks begins.
SHUFFLED = "Control with shuffled tasks"
#: Arrays of the families of a split.
FamilyArrays = list[tuple[Family, NDArray[Any]]]
#: How many times the instructions, or the groups of prompts, of a run are resampled.
COPIES = 400


def verify(
    runs: Run | Path | str | Sequence[Run | Path | str], *, shuffled: bool = False
) -> Verdict:
    """Test the paper's findings on runs that are replicates of each other.

    Parameters
    ----------
    runs : Run, path, or sequence of them
        Runs or their directories, which differ in their seed only; or ``.parquet`` tables of
        scores, of which nothing is resampled.
    shuffled : bool
        Permute the tasks among the instances of each split first: this shows what chance gives.

    Returns
    -------
    Verdict

    Raises
    ------
    InputError
        If one of them is no run or is not measured, or if two are not comparable.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.verify("runs/smoke").outcome("saturation")
    'fails'
    """
    each = [runs] if isinstance(runs, Run | Path | str) else list(runs)
    for run in each:
        if not isinstance(run, Run) and Path(run).is_file() and _is_directory(run):
            raise InputError(
                f"{run} is a file: should be a run directory, or a table of scores that ends in "
                ".parquet, as scores.parquet of a run"
            )
    loaded = [load_run(run) if _is_directory(run) else run for run in each]
    check_comparable([run for run in loaded if isinstance(run, Run)])
    curves: list[Curves] = []
    for run in loaded:
        if isinstance(run, Run):
            curves.append(curves_of(run, shuffled=True) if shuffled else run.curves())
        else:
            metric = "ari_shuffled" if shuffled else "ari"
            curves += curves_of_table(read_score_table(Path(run)), metric)
    return _as_control(judge(curves)) if shuffled else judge(curves)


def _as_control(verdict: Verdict) -> Verdict:
    """Return the verdict with a result that cannot be taken for that of the tasks themselves."""
    stages = {name: _as_control(stage) for name, stage in verdict.stages.items()}
    headline = f"{SHUFFLED}: {verdict.headline}"
    return replace(verdict, headline=headline, title=SHUFFLED, stages=stages)


def _is_directory(run: Run | Path | str) -> TypeGuard[Path | str]:
    return not isinstance(run, Run) and Path(run).suffix != ".parquet"


def curves_of(run: Run, position: str | None = None, *, shuffled: bool = False) -> Curves:
    """Return the scores and effects of edits of a run by step, as measured and resampled.

    By default at the first position. If ``shuffled``, a shift is between centroids of shuffled
    labels. The splits of a model run stand for those of a training run: see `roles_of`.
    """
    run.need("measure")
    run.check_files("measure")
    seed, role_of = run.settings.seed, roles_of(run.splits)
    position = run.position(position)
    instances = run.instances_at(position)
    at = position if position != run.positions[0] else ""
    units, weights = _resampled_units(run)
    resampling: dict[str, FamilyResampling] = {}
    majority: dict[str, float] = {}
    controls: dict[tuple[str, str], NDArray[np.integer]] = {}
    control_extremes: dict[tuple[str, str], NDArray[np.integer]] = {}
    for split, every in instances.items():
        rng = stream(seed, "shuffled tasks", split)
        families, commonest = [], []
        labels_of, ends_of = (
            defaultdict[str, FamilyArrays](list),
            defaultdict[str, FamilyArrays](list),
        )
        for family in every.families:
            known = family.instances
            task = rng.permutation(known.task) if shuffled else known.task
            column = np.searchsorted(units, known.unit).astype(np.int64)
            commonest.append(np.unique(task, return_counts=True)[1].max() / len(task))
            families.append((family.rows, Resampling(task, column, weights)))
            k = run.settings.measure.numbers(known.n_tasks)[0]
            for name, clustering in control_clusters(known, k, seed, run.settings.clusters).items():
                labels_of[name].append((family, clustering.labels))
                ends, _, _ = extremes(known.task, clustering.near_best)
                ends_of[name].append((family, ends))
        role = role_of[split]
        resampling[role] = FamilyResampling(families)
        majority[role] = float(np.mean(commonest))
        controls |= {(role, name): part[None] for name, part in input_controls(every).items()}
        # Families are scored one by one, so that two of them may share the number of a cluster.
        controls |= {(role, name): join_families(x, axis=1) for name, x in labels_of.items()}
        control_extremes |= {(role, name): join_families(x, axis=1) for name, x in ends_of.items()}
    decoded: dict[tuple[int, str, str], NDArray[np.bool_]] = {}
    placed: dict[tuple[int, str, str], Places] = {}
    labels: dict[tuple[int, str, str, str], NDArray[np.integer]] = {}
    cell_extremes: dict[tuple[int, str, str, str], NDArray[np.integer]] = {}
    hits: dict[tuple[int, str], NDArray[np.bool_]] = {}
    resampled = () if shuffled else run.steps[-1:] if run.is_series else run.steps
    for step in run.steps:
        clusters = run.clusters(step)
        for name, array in clusters.items():
            key, kind = CellKey.parse(name) or (None, "")
            arrays = {"labels": labels, "extremes": cell_extremes}.get(kind)
            if key and key.k is None and key.position == at and arrays is not None:
                arrays[step, role_of[key.split], key.state, key.space] = array
            if key and kind == "decoded" and key.position == at:
                decoded[step, role_of[key.split], key.state] = array
            # Of a training, places are resampled at the end only: they take a while.
            if key and kind == "distance" and key.position == at and step in resampled:
                span = clusters[key.name("span")]
                placed[step, role_of[key.split], key.state] = array, span
        for split in run.splits:
            correct = clusters.get(f"{split}/correct")
            if correct is not None and (correct >= 0).all():
                hits[step, role_of[split]] = correct > 0
    with progress(f"verify {run.name}", len(labels), "cell") as bar:
        curves = curves_of_labels(
            run.name,
            seed,
            labels,
            hits,
            controls,
            resampling,
            bar.update,
            {role: split for split, role in role_of.items()},
            _chance(run),
            (cell_extremes, control_extremes),
            decoded,
            placed,
            _effects(run, position, shuffled=shuffled),
            step_names=run.step_names,
            majority=majority,
        )
    scores = at_position(run.score_table(all_k=True), position)
    within = tuple(curves_of_table(scores, family=name)[0] for name in run.families)
    return replace(curves, units=run.unit_names, families=within)


def roles_of(splits: Iterable[str]) -> dict[str, str]:
    """Return by split which split of the findings it stands for, in the order of the splits.

    Those of `UNSEEN_KINDS` stand for themselves, the others for `JUDGED`, by their order. The first
    split is seen, whatever its name is.
    """
    first, *others = splits
    named = [first, *(split for split in others if split not in UNSEEN_KINDS)]
    role_of = dict(zip(named, JUDGED, strict=False))
    return {split: role_of.get(split, split) for split in (first, *others)}


def _resampled_units(run: Run) -> tuple[Ints, NDArray[np.float64]]:
    """Return the units of a run, (U,), and their weights in each resampled copy, (B, U)."""
    instances = run.instances_by_split.values()
    unit = np.concatenate([known.unit for known in instances])
    task = np.concatenate([known.task for known in instances])
    sizes = [len(known.task) for known in instances]
    split = None if unit.ndim == 1 else np.repeat(np.arange(len(sizes)), sizes)
    units, group = linked_units(unit, task, split)
    return units, resampling_weights(group, COPIES, stream(run.settings.seed, "bootstrap"))


def effect_curves_of(run: Run, position: str | None = None) -> EffectCurves:
    """Return the effects of edits in a run by step, as measured and resampled as in `curves_of`.

    By default at the first position. The splits have the run's own names. InputError if nothing was
    edited, or a file is damaged, or one with effects is gone.
    """
    run.need("interventions")
    run.check_files("interventions")
    steps = edited_steps(run)
    for step in steps:  # hidden states may be gone, but not what was measured of them
        run.directory.check(run.directory.interventions_at(step))
    return effect_curves(
        run.name,
        run.settings.seed,
        run.position(position),
        ((step, read_edits(run, step)) for step in steps),
        dict.fromkeys(run.splits, _resampled_units(run)),
    )


def _effects(run: Run, position: str, *, shuffled: bool) -> EffectCurves | None:
    """Return the effects of edits of a run at a position, or None if there were none."""
    if run.directory.mark("interventions") is None:
        return None
    effects = effect_curves_of(run, position)
    return of_shuffled_labels(effects) if shuffled else effects


def _chance(run: Run) -> float:
    """Return the share of the commonest output of the first split, if the run trains its model."""
    output = next(iter(run.instances_by_split.values())).output
    if run.states_stage != "train" or output is None:
        return float("nan")
    return float(np.unique(output, return_counts=True)[1].max() / len(output))


def difference(runs: Sequence[Run]) -> str | None:
    """Return, in a line, why runs cannot be judged together; None if they are replicates.

    Only their first position is judged, so that they may differ in the others.
    """
    known: dict[str, Run] = {}
    for run in runs:
        first = runs[0]
        key: str | None = "kind"
        if type(run) is type(first):
            key = first_difference(first, run, of_replicates=True)
        if key:
            return (
                f"{run.directory.path} has other settings than {first.directory.path} ({key} "
                "differs); give runs that differ in their seed only"
            )
        replicate = run.settings.replicate
        if replicate in known:
            return (
                f"{run.directory.path} has the seed {run.settings.seed}, as "
                f"{known[replicate].directory.path} has: a repeated run adds nothing to the "
                "spread; give each once"
            )
        known[replicate] = run
    return None


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise InputError if runs cannot be judged together."""
    if problem := difference(runs):
        raise InputError(problem)
    compare_precisions(runs)


def compare_precisions(runs: Iterable[Run]) -> None:
    """Print a warning if train.precision = "auto" chose differently, as on different machines."""
    chosen: dict[str, Path] = {}
    for run in runs:
        mark = run.directory.mark("train")
        if isinstance(run, TrainingRun) and run.settings.train.precision == "auto" and mark:
            chosen.setdefault(mark["precision"], run.directory.path)
    if len(chosen) > 1:
        each = ", ".join(f"{path} trained in {name}" for name, path in chosen.items())
        warn(f"{each}, as auto chose: fix train.precision in runs that are compared")


def follow_run(
    run: Run,
    layer: str | None = None,
    split: str | None = None,
    space: str = "raw",
    position: str | None = None,
) -> tuple[str, str, Followed, list[str]]:
    """Follow the tasks and clusters of one layer of a run, as its first cluster seed has them.

    By default the layer is the best one on the first split, the split the first unseen one, the
    position the first. Returns layer, split, what was followed, and the names of the tasks;
    InputError if the run is not measured, or has no such layer, split, space or position.
    """
    run.need("measure")
    path = run.directory.path
    position = run.position(position)
    split = find_split(split, run.splits) if split else run.unseen
    if layer is not None:
        layer = find_state(layer, run.state_names)
    else:
        layer = need_layer(run, position, space)
    name = run.cell(split, layer, space, position).name("labels")
    steps, labels = [], []
    known: set[str] = set()
    for step in run.steps:
        clusters = run.clusters(step)
        known |= {each.removesuffix("/labels") for each in clusters if each.endswith("/labels")}
        if name in clusters:
            steps.append(step)
            labels.append(clusters[name][0].astype(np.int64))
    if not steps:
        names = ", ".join(sorted(known))
        raise InputError(f"{path}: no clusters of {split}/{layer}/{space}; there are {names}")
    tasks = [run.names["task"][i] for i in sorted(run.names["task"])]
    return layer, split, follow(steps, np.stack(labels), run.instances_by_split[split].task), tasks

"""A probe's stages, each doing only what is missing: data -> states -> measure -> plot."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import safetensors.numpy


from tasklens.report.figure2 import figure2
from tasklens.core.engines import LOCAL, start_workers
from tasklens.core.errors import CellsFailedError, InputError
from tasklens.runs.experiment import FORMATS, load_scores
from tasklens.report.figure1 import figure1
from tasklens.report.style import render
from tasklens.runs.harvesting import harvest_here, harvest_models, open_model
from tasklens.runs.measuring import MEASURED_FILES
from tasklens.core.workers import reason
from tasklens.runs.probe_cells import Job, Measured, main_scores, measure_state
from tasklens.runs.probe_dir import ABOUT, TOKENS, Probe, checkpoints_of
from tasklens.runs.settings import ModelRunSettings
from tasklens.data.labelled_prompts import LabelledPrompts, content_of, read_prompts, table_of
from tasklens.runs.directory import RunDir
from tasklens.core.files import digest, sha256
from tasklens.scoring.score_table import Row, accuracy_row, score_controls, table_to_csv_bytes, to_table
from tasklens.runs.sharding import harvest_on_cluster
from tasklens.runs.states_on_disk import ANSWER, read_states, state_paths
from tasklens.core.parquet import parquet_bytes, read_parquet


def run_probe(
    run: RunDir, settings: ModelRunSettings, command: str, engine: str = LOCAL, gpus: float = 1.0
) -> None:
    """Run every stage that is not finished, in order.

    Parameters
    ----------
    run : RunDir
    settings : ModelRunSettings
    command : str
        What is noted in the manifest.
    engine : str
        See `tasklens.core.engines.opened`.
    gpus : float
        On Ray, the GPUs of a replica of a model that runs on GPUs.
    """
    table = read_prompts(settings.prompts, settings.seed)
    check_sizes(table, settings)
    checkpoints, first = checkpoints_of(settings), None
    # what is wrong shows before anything is written; on a cluster no model is opened here
    if engine == LOCAL and run.mark("data") is None:
        first = open_model(settings, checkpoints[0], table)
    run.begin(settings.seed, command)
    run.write(run.config, settings.toml().encode())
    probe = Probe(run, settings)
    make_data(probe, table)
    here = partial(harvest_here, first=first)
    there = partial(harvest_on_cluster, engine=engine, gpus=gpus)
    harvest_models(probe, here if engine == LOCAL else there)
    measure_probe(probe, engine)
    plot_probe(probe)


def has_layers(run: RunDir, settings: ModelRunSettings) -> bool:
    """Say whether a finished probe has what the findings are about: layer 0 and blocks."""
    probe = Probe(run, settings)
    names = probe.states(probe.steps[-1])
    return "embed" in names and any(name.startswith("block") for name in names)


def check_sizes(table: LabelledPrompts, settings: ModelRunSettings) -> None:
    """Raise InputError where a split is too small for what is asked of it."""
    for split, here in table.splits.items():
        n = here.stop - here.start
        clusters = settings.clusters
        if clusters.tsne != "none" and clusters.perplexity >= n:
            raise InputError(
                f"split {split} has {n} prompts, but clusters.perplexity = "
                f"{clusters.perplexity:g} must be less; lower it, or set clusters.tsne=none"
            )
        if max(settings.measure.k, default=0) > n:
            raise InputError(f"split {split} has {n} prompts: too few for the k asked for")


def make_data(probe: Probe, table: LabelledPrompts) -> None:
    """Stage data: keep the prompts as they were read and split."""
    run, settings = probe.run, probe.settings
    mark = run.mark("data")
    hashes = [sha256(content_of(name)) for name in settings.prompts.files]
    if mark and mark["prompts"] != hashes:
        raise InputError(
            f"{run.path} holds another probe: {', '.join(settings.prompts.files)} changed since; "
            "name another directory with --out"
        )
    inputs = digest([settings.seed, settings.model_dump()["prompts"], hashes])
    with run.stage("data", inputs) as finish:
        if finish is None:
            return
        run.write(run.prompts, parquet_bytes(table_of(table)))
        finish([run.prompts], prompts=hashes)


def measure_probe(probe: Probe, engine: str = LOCAL) -> None:
    """Stage measure: cluster and score every state, then write the tidy table.

    Raises
    ------
    CellsFailedError
        Where states failed for reasons of their own; the checkpoints of the others are kept, and
        the next call does what is missing.
    """
    run, settings = probe.run, probe.settings
    if run.mark("states") is None:
        raise InputError(f"{run.path}: the states are not harvested; go on with probe --resume")
    table = settings.model_dump()
    common = [settings.seed, table["clusters"], table["measure"], run.output_hash("data")]
    inputs = {
        step: digest(
            [
                common,
                run.noted(run.states_at(step) / ABOUT),
                run.noted(run.states_at(step) / TOKENS),
            ]
        )
        for step in probe.steps
    }
    with run.stage("measure", digest(list(inputs.values()))) as finish:
        if finish is None:
            return
        missing = [s for s in probe.steps if not run.made_from(run.measured_at(s), inputs[s])]
        jobs = [job for step in missing for job in _jobs(probe, step)]
        found: dict[int, dict[str, Measured]] = {step: {} for step in missing}
        failed: dict[str, str] = {}
        with start_workers(engine, settings.workers) as workers:
            for job, measured, error in workers.outcomes(measure_state, jobs, "measure"):
                if error:
                    failed[f"step {job.step}, {job.state}"] = reason(error)
                    continue
                its = found[job.step]
                its[job.state] = measured
                if len(its) == len(probe.states(job.step)):
                    _keep(probe, job.step, found.pop(job.step), inputs[job.step])
        if failed:
            raise CellsFailedError(failed)
        rows = []
        for split, known in probe.instances.items():
            k = settings.measure.numbers(known.n_tasks)[0]
            rows += score_controls(known, k, run.name, settings.seed, split, settings.clusters)
        scores = [
            read_parquet(run.read(run.measured_at(s) / "scores.parquet")) for s in probe.steps
        ]
        whole = pa.concat_tables([to_table(rows), *scores])
        run.write(run.scores_parquet, parquet_bytes(whole))
        run.write(run.scores_csv, table_to_csv_bytes(whole))
        kept = [run.measured_at(step) / name for step in probe.steps for name in MEASURED_FILES]
        finish([run.scores_parquet, run.scores_csv, *kept])


def _keep(probe: Probe, step: int, measured: dict[str, Measured], inputs: str) -> None:
    """Write what the states of a checkpoint gave."""
    rows, arrays = _accuracy(probe, step)
    for state in probe.states(step):
        its, found = measured[state]
        rows += its
        arrays |= found
    files = {
        "clusters.safetensors": safetensors.numpy.save(arrays),
        "scores.parquet": parquet_bytes(to_table(rows)),
        "inputs": inputs.encode(),
    }
    probe.run.write_directory(probe.run.measured_at(step), files)


def _jobs(probe: Probe, step: int) -> list[Job]:
    settings = probe.settings
    # The counts of symbols are large and no state is scored against them.
    known = {
        split: dataclasses.replace(
            instances, symbol_counts=np.zeros((len(instances.task), 1), dtype=np.int64)
        )
        for split, instances in probe.instances.items()
    }
    tsne = {"none": False, "last": step == probe.steps[-1], "all": True}[settings.clusters.tsne]
    directory = probe.run.states_at(step)
    for state in (*probe.states(step), ANSWER):
        for path in state_paths(directory, state):
            probe.run.check(path)
    return [
        Job(
            directory=directory,
            state=state,
            run=probe.run.name,
            seed=settings.seed,
            step=step,
            splits=probe.table.splits,
            instances=known,
            spaces=("raw", "tsne") if tsne else ("raw",),
            measure=settings.measure,
            clusters=settings.clusters,
        )
        for state in probe.states(step)
    ]


def _accuracy(probe: Probe, step: int) -> tuple[list[Row], dict[str, npt.NDArray[Any]]]:
    """Return the accuracy in each split, of the prompts whose answer is known, and their hits."""
    answer = np.asarray(read_states(probe.run.states_at(step), ANSWER))
    target = probe.tokens(step).target
    rows: list[Row] = []
    hits: dict[str, npt.NDArray[Any]] = {}
    for split, here in probe.table.splits.items():
        known = target[here] >= 0
        if known.any():
            right = answer[here] == target[here]
            share = float(np.mean(right[known]))
            rows.append(accuracy_row(probe.run.name, probe.settings.seed, step, split, share))
            if known.all():
                hits[f"{split}/hits"] = right
    return rows, hits


def plot_probe(probe: Probe) -> None:
    """Stage plot: draw the figures."""
    run, settings = probe.run, probe.settings
    probe.need_measured()
    inputs = digest([settings.model_dump()["figure"], run.output_hash("measure")])
    with run.stage("plot", inputs) as finish:
        if finish is None:
            return
        scores = main_scores(load_scores(run))
        splits = list(probe.table.splits)
        figures = [figure1(scores, settings.figure)]
        if any(name.startswith("block") for name in probe.states(probe.steps[-1])):
            figures.append(figure2(scores, splits[min(1, len(splits) - 1)], splits[0]))
        paths = []
        for number, figure in enumerate(figures, 1):
            for suffix in FORMATS:
                paths.append(run.figure(suffix, number))
                run.write(paths[-1], render(figure, suffix))
        finish(paths)

"""A probe's stages, each doing only what is missing: data -> states -> measure -> plot."""

import dataclasses
import json
import sys
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import safetensors.numpy
from tqdm import tqdm

from tasklens.config import settings_table, settings_toml
from tasklens.contents import figure2
from tasklens.errors import InputError
from tasklens.experiment import FORMATS, load_scores
from tasklens.figures import figure1, render
from tasklens.huggingface import HuggingFaceSubject
from tasklens.loading import load_subject, load_tokenizer
from tasklens.measuring import MEASURED_FILES
from tasklens.parallel import Workers, default_workers
from tasklens.plan import check_space
from tasklens.probe_cells import Job, main_scores, measure_state
from tasklens.probe_settings import ProbeSettings
from tasklens.prompts import LabelledPrompts, content_of, read_prompts, read_table, table_of
from tasklens.rows import Prompts
from tasklens.rundir import RunDir, digest, sha256
from tasklens.scores import (
    Instances,
    Row,
    accuracy_row,
    score_controls,
    table_to_csv_bytes,
    to_table,
)
from tasklens.series import Checkpoint, fetch, find_checkpoints, identity, missing_steps
from tasklens.state_files import ANSWER, harvest_to, read_states
from tasklens.tables import parquet_bytes, read_parquet
from tasklens.tokens import Tokenized, instances_of_prompts, shown, tokenize

#: What is known of a harvested checkpoint: its weights' hash, its tokenizer's, its states.
ABOUT = "about.json"
TOKENS = "tokens.safetensors"


class Probe:
    """A probe's directory and settings, and what its stages have in common.

    Parameters
    ----------
    run : RunDir
    settings : ProbeSettings
    """

    def __init__(self, run: RunDir, settings: ProbeSettings) -> None:
        self.run, self.settings = run, settings

    @cached_property
    def table(self) -> LabelledPrompts:
        """The labelled prompts that stage data left."""
        return read_table(self.run.read(self.run.prompts))

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """The models, in the order of their steps."""
        subject = self.settings.subject
        return find_checkpoints(subject.models, subject.revisions)

    @property
    def steps(self) -> list[int]:
        """The steps that were harvested."""
        mark = self.run.mark("states") or {"checkpoints": []}
        return [checkpoint["step"] for checkpoint in mark["checkpoints"]]

    def tokens(self, step: int) -> Tokenized:
        """Return the prompts as the model of a step reads them."""
        found = safetensors.numpy.load(self.run.read(self.run.states_at(step) / TOKENS))
        begin = found["begin"] if self.settings.position.over == "mean" else None
        prompts = Prompts(found["ids"], found["position"], begin)
        return Tokenized(prompts, found["begin"], found["target"])

    @cached_property
    def instances(self) -> dict[str, Instances]:
        """What is known of each split without any model, as the first model's tokenizer reads."""
        tokens = self.tokens(self.steps[0])
        return {
            split: instances_of_prompts(self.table, tokens, split) for split in self.table.splits
        }

    def states(self, step: int) -> list[str]:
        """Return the names of the states that were harvested at a step."""
        names: list[str] = self.about(step)["states"]
        return names

    def about(self, step: int) -> dict[str, Any]:
        """Return what is known of the model of a step."""
        return json.loads(self.run.read(self.run.states_at(step) / ABOUT))  # type: ignore[no-any-return]


def run_probe(run: RunDir, settings: ProbeSettings, command: str) -> None:
    """Run every stage that is not finished, in order."""
    check_sizes(read_prompts(settings.prompts, settings.seed), settings)
    run.begin(settings.seed, command)
    run.write(run.config, settings_toml(settings).encode())
    probe = Probe(run, settings)
    make_data(probe)
    harvest_models(probe)
    measure_probe(probe)
    plot_probe(probe)


def has_layers(run: RunDir, settings: ProbeSettings) -> bool:
    """Say whether a finished probe has what the findings are about: layer 0 and blocks."""
    probe = Probe(run, settings)
    names = probe.states(probe.steps[-1])
    return "embed" in names and any(name.startswith("block") for name in names)


def check_sizes(table: LabelledPrompts, settings: ProbeSettings) -> None:
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


def describe(settings: ProbeSettings) -> str:
    """Return what a probe would measure, token by token; no model is loaded, nothing is written."""
    table = read_prompts(settings.prompts, settings.seed)
    subject = settings.subject
    checkpoints = find_checkpoints(subject.models, subject.revisions)
    directory = fetch(checkpoints[0], trust_remote_code=subject.trust_remote_code)
    tokenizer = _tokenizer(settings, directory)
    tokens = tokenize(table, tokenizer, settings.position)
    position = tokens.prompts.position
    lines = ["models:"]
    lines += [f"  step {c.step}: {c.name}" for c in checkpoints]
    lines.append(f"prompts: {len(table):,}, with {len(set(table.label))} labels")
    lines += [f"  {split}: {s.stop - s.start:,}" for split, s in table.splits.items()]
    lines.append(
        f"tokens up to the measured one: {position.min() + 1} to {position.max() + 1}, "
        f"{np.mean(position + 1):.1f} on average"
    )
    if table.output is not None:
        known = np.count_nonzero(tokens.target >= 0)
        lines.append(f"the first token of the output follows it in {known:,} prompts")
    over = "the mean over" if settings.position.over == "mean" else "measured is"
    lines.append(f"{over} what stands in [[ ]]; after -> what should follow:")
    return "\n".join(lines) + "\n" + shown(table, tokens, tokenizer)


def make_data(probe: Probe) -> None:
    """Stage data: read the prompts, split them and keep them."""
    run, settings = probe.run, probe.settings
    mark = run.mark("data")
    hashes = [sha256(content_of(name)) for name in settings.prompts.files]
    if mark and mark["prompts"] != hashes:
        raise InputError(
            f"{run.path} holds another probe: {', '.join(settings.prompts.files)} changed since; "
            "name another directory with --out"
        )
    inputs = digest([settings.seed, settings_table(settings)["prompts"], hashes])
    with run.stage("data", inputs) as finish:
        if finish is None:
            return
        table = read_prompts(settings.prompts, settings.seed)
        run.write(run.prompts, parquet_bytes(table_of(table)))
        finish([run.prompts], prompts=hashes)


def harvest_models(probe: Probe) -> None:
    """Stage states: run each model on the prompts and keep its states."""
    run, settings = probe.run, probe.settings
    table = settings_table(settings)
    common = [run.output_hash("data"), table["position"], table["subject"]]
    inputs = [digest([common, identity(c)]) for c in probe.checkpoints]
    steps = [checkpoint.step for checkpoint in probe.checkpoints]
    done = [run.made_from(run.states_at(s), its) for s, its in zip(steps, inputs, strict=True)]
    if not all(done):
        run.unfinish("states")  # a file of it has gone
    with run.stage("states", digest(inputs)) as finish:
        if finish is None:
            return
        n = len(probe.table)
        bar = tqdm(desc="harvest", unit="prompt", total=n * len(inputs), disable=None)
        with bar:
            for checkpoint, its, is_done in zip(probe.checkpoints, inputs, done, strict=True):
                if is_done:
                    bar.update(n)
                else:
                    _harvest(probe, checkpoint, its, bar)
        run.drop_partial(run.states)
        abouts = [probe.about(c.step) for c in probe.checkpoints]
        warnings = doubts(abouts)
        for warning in warnings:
            print(f"tasklens: warning: {warning}", file=sys.stderr)
        files = [
            run.states_at(c.step) / name for c in probe.checkpoints for name in (ABOUT, TOKENS)
        ]
        finish(files, checkpoints=abouts, warnings=warnings)


def _harvest(probe: Probe, checkpoint: Checkpoint, inputs: str, bar: Any) -> None:
    run, settings = probe.run, probe.settings
    said = settings.subject
    directory = fetch(checkpoint, trust_remote_code=said.trust_remote_code)
    tokenizer = _tokenizer(settings, directory)
    subject = load_subject(
        directory,
        device=said.device,
        dtype=said.dtype,
        trust_remote_code=said.trust_remote_code,
        max_tokens=said.max_tokens,
    )
    names = _names(subject, said.states, checkpoint.name)
    longest = settings.position.max_length or subject.max_length
    position = dataclasses.replace(settings.position, max_length=longest)
    tokens = tokenize(probe.table, tokenizer, position)
    if checkpoint is probe.checkpoints[0]:
        print(
            f"tasklens: measured is what stands in [[ ]]:\n{shown(probe.table, tokens, tokenizer)}",
            end="",
            file=sys.stderr,
        )
        width = subject.model.config.get_text_config().hidden_size
        n_bytes = 4 * len(probe.table) * width * len(names) * len(probe.checkpoints)
        check_space(run.path, n_bytes, "ask for fewer --states, prompts or checkpoints")
    about = {
        "step": checkpoint.step,
        "name": checkpoint.name,
        "weights": subject.weights_hash(),
        "tokenizer": tokenizer_hash(tokenizer),
        "states": list(names),
    }
    arrays = {"ids": tokens.prompts.ids, "position": tokens.prompts.position}
    arrays |= {"begin": tokens.begin, "target": tokens.target}
    with run.filling(run.states_at(checkpoint.step), inputs) as partial:
        harvest_to(partial, subject, tokens.prompts, names, bar.update)
        (partial / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
        (partial / TOKENS).write_bytes(safetensors.numpy.save(arrays))


def _tokenizer(settings: ProbeSettings, directory: Path) -> Any:
    said = settings.subject
    tokenizer = load_tokenizer(
        said.tokenizer or directory, trust_remote_code=said.trust_remote_code
    )
    if tokenizer is None:
        raise InputError(
            f"{said.tokenizer or directory}: no tokenizer there; name its directory with "
            "--set subject.tokenizer=DIR"
        )
    return tokenizer


def _names(subject: HuggingFaceSubject, wanted: tuple[str, ...], model: str) -> tuple[str, ...]:
    if "all" in wanted:
        return subject.names
    for name in wanted:
        if name not in subject.names:
            raise InputError(f"{model}: no state {name!r}; it has {', '.join(subject.names)}")
    return tuple(name for name in subject.names if name in wanted)


def tokenizer_hash(tokenizer: Any) -> str:
    """Return the SHA-256 of what a tokenizer does, as far as its vocabulary and its rules say."""
    fast = getattr(tokenizer, "is_fast", False)
    return digest(tokenizer.backend_tokenizer.to_str() if fast else tokenizer.get_vocab())


def doubts(abouts: list[dict[str, Any]]) -> list[str]:
    """Return what is odd in a series of checkpoints, in words, for a warning and the manifest."""
    found = []
    seen: dict[str, str] = {}
    for about in abouts:
        if about["weights"] in seen:
            found.append(f"{about['name']} has the same weights as {seen[about['weights']]}")
        seen.setdefault(about["weights"], about["name"])
    for before, about in pairwise(abouts):
        if about["tokenizer"] != before["tokenizer"]:
            found.append(f"{about['name']} has another tokenizer than {before['name']}")
    missing = missing_steps([about["step"] for about in abouts])
    if missing:
        found.append(f"steps are missing in the series: {', '.join(map(str, missing))}")
    return found


def measure_probe(probe: Probe) -> None:
    """Stage measure: cluster and score every state, then write the tidy table."""
    run, settings = probe.run, probe.settings
    if run.mark("states") is None:
        raise InputError(f"{run.path}: the states are not harvested; go on with probe --resume")
    table = settings_table(settings)
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
        bar = tqdm(desc="measure", unit="state", total=len(jobs), disable=None)
        with Workers(settings.workers or default_workers()) as workers, bar:
            done = workers.map(measure_state, jobs)
            for step in missing:
                rows, arrays = _accuracy(probe, step)
                for _ in probe.states(step):
                    its, found = next(done)
                    rows += its
                    arrays |= found
                    bar.update()
                files = {
                    "clusters.safetensors": safetensors.numpy.save(arrays),
                    "scores.parquet": parquet_bytes(to_table(rows)),
                    "inputs": inputs[step].encode(),
                }
                run.write_directory(run.measured_at(step), files)
        rows = []
        for split, known in probe.instances.items():
            k = (settings.measure.k or (known.n_tasks,))[0]
            rows += score_controls(known, k, run.name, settings.seed, split, settings.clusters)
        scores = [
            read_parquet(run.read(run.measured_at(s) / "scores.parquet")) for s in probe.steps
        ]
        whole = pa.concat_tables([to_table(rows), *scores])
        run.write(run.scores_parquet, parquet_bytes(whole))
        run.write(run.scores_csv, table_to_csv_bytes(whole))
        kept = [run.measured_at(step) / name for step in probe.steps for name in MEASURED_FILES]
        finish([run.scores_parquet, run.scores_csv, *kept])


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
        probe.run.check(directory / f"{state}.npy")
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
    if run.mark("measure") is None:
        raise InputError(f"{run.path}: nothing is measured; go on with probe --resume")
    inputs = digest([settings_table(settings)["figure"], run.output_hash("measure")])
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

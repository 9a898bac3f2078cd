"""What a view is made from: a run directory or a probe's, asked the same questions."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasklens.runs.settings import TrainingRunSettings, read_settings
from tasklens.data.synthetic import MEASURED, Dataset
from tasklens.runs.experiment import kind_of, load_dataset, load_scores, need
from tasklens.models.gpt2 import state_names
from tasklens.runs.measuring import load_states
from tasklens.runs.probe_cells import main_scores, prepared
from tasklens.runs.probe_dir import Probe
from tasklens.runs.settings import ModelRunSettings, TrainingRunSettings
from tasklens.runs.probing import has_layers
from tasklens.runs.directory import RunDir
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.data.instances import Instances, instances_of, split_name
from tasklens.runs.states_on_disk import ANSWER, read_states, state_paths
from tasklens.report.view import Floats, Ints, TaskView, TaskOverview

#: Instructions of a task that the world shows.
EXAMPLES = 8

Arrays = Mapping[str, npt.NDArray[Any]]


class Answers(NamedTuple):
    """What the model has answered on one split at one step."""

    tokens: Ints
    """(N,)"""
    right: npt.NDArray[np.bool_] | None
    """(N,)"""


class OfRun:
    """A run of ours.

    `names` says by part what the numbers of its instances are called.
    """

    def __init__(self, run: RunDir, settings: TrainingRunSettings) -> None:
        need(run, settings, "measure")
        self.run, self.settings = run, settings
        self.steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
        self.states = tuple(state_names(settings.model.n_layer))
        self.dataset: Dataset = load_dataset(run)
        self.instances = {split: instances_of(self.dataset, split) for split in MEASURED}
        tokens = dict(enumerate(self.dataset.vocabulary.tokens))
        tasks = {i: task.name for i, task in enumerate(self.dataset.tasks.tasks)}
        self.names = {"task": tasks, "input": tokens, "output": tokens}

    @property
    def has_layers(self) -> bool:
        """Whether it has what the findings are about."""
        return True

    @property
    def made_from(self) -> list[object]:
        """What the states depend on, as they are read here."""
        return [self.run.output_hash("train")]

    def text(self, split: str) -> tuple[str, ...]:
        """Return the instruction of each instance."""
        said = self.dataset.instructions
        return tuple(said[i] for i in self.dataset.splits[split].instruction)

    def read(self, step: int) -> Iterator[tuple[str, dict[str, Floats]]]:
        """Yield the name of each state at a step, and what was clustered, (N, D) by split."""
        tensors = load_states(self.run, step)
        for state in self.states:
            yield state, {split: tensors[f"{split}/{state}"] for split in self.instances}

    def answers(self, step: int, split: str, clusters: Arrays) -> Answers | None:
        """Return the answers, from what is there beside a checkpoint's clusters."""
        tokens = clusters[f"{split}/answer"].astype(np.int64)
        return Answers(tokens, tokens == self.dataset.splits[split].output)

    def words(self, step: int, tokens: Ints) -> list[str]:
        """Return what some tokens that were answered at a step are called."""
        return [self.dataset.vocabulary.tokens[token] for token in tokens]

    def scores(self) -> pa.Table:
        """Return the scores that are looked at."""
        return load_scores(self.run)

    def world(self) -> TaskOverview:
        """Return what the model was asked about."""
        dataset = self.dataset
        ours = _tasks(self.instances)
        tasks = []
        for i in ours:
            task = dataset.tasks.tasks[i]
            said = [dataset.instructions[j] for j in np.flatnonzero(dataset.instruction_task == i)]
            lengths = dataset.tasks.min_length, dataset.tasks.max_length
            tasks.append(
                TaskView(
                    name=task.name,
                    regexes=tuple(grammar.regex for grammar in task.grammars),
                    n_strings=sum(grammar.count(*lengths) for grammar in task.grammars),
                    function=dict(task.function),
                    examples=tuple(said[:EXAMPLES]),
                    n_examples=len(said),
                )
            )
        sizes = {
            "tasks": len(dataset.tasks.tasks),
            "tasks measured": len(ours),
            "instructions": len(dataset.instructions),
            "inputs": len(dataset.tasks.inputs),
            "outputs": len(dataset.tasks.outputs),
            "symbols of instructions": len(dataset.tasks.symbols),
            "shortest instruction": int(dataset.instruction_length.min()),
            "longest instruction": int(dataset.instruction_length.max()),
        }
        sizes |= {
            f"instances, {_split_words(split)}": len(part) for split, part in dataset.splits.items()
        }
        return TaskOverview(
            tuple(tasks),
            sizes,
            _same_output([task.function for task in tasks]),
            _same_symbols(self.instances),
        )


class OfProbe:
    """A probe of any model, with the same attributes and methods as `OfRun`."""

    def __init__(self, run: RunDir, settings: ModelRunSettings) -> None:
        self.run, self.settings = run, settings
        self.probe = Probe(run, settings)
        self.probe.need_measured()
        self.steps = tuple(self.probe.steps)
        each = [self.probe.states(step) for step in self.steps]
        self.states = tuple(name for name in each[-1] if all(name in names for names in each))
        self.instances = self.probe.instances
        table = self.probe.table
        self.names = {"task": _numbered(table.label)}
        if table.input is None:
            self.names["input"] = self._measured_tokens()
        else:
            self.names["input"] = _numbered(table.input)
        if table.output is not None:
            self.names["output"] = _numbered(table.output)

    def _measured_tokens(self) -> dict[int, str]:
        every = np.unique(np.concatenate([known.input for known in self.instances.values()]))
        return dict(zip(every.tolist(), self.words(self.steps[0], every), strict=True))

    @property
    def has_layers(self) -> bool:
        """Whether it has what the findings are about."""
        return has_layers(self.run, self.settings)

    @property
    def made_from(self) -> list[object]:
        """What the states depend on, as they are read here."""
        hashes = [self.run.output_hash(stage) for stage in ("data", "states")]
        return [*hashes, self.settings.model_dump()["measure"]]

    def text(self, split: str) -> tuple[str, ...]:
        """Return the text of each prompt."""
        table = self.probe.table
        return table.text[table.splits[split]]

    def read(self, step: int) -> Iterator[tuple[str, dict[str, Floats]]]:
        """Yield the name of each state at a step, and what was clustered, (N, D) by split."""
        directory = self.run.states_at(step)
        for state in self.states:
            for path in state_paths(directory, state):
                self.run.check(path)
            whole = read_states(directory, state)
            yield (
                state,
                {
                    split: prepared(whole[here], self.settings.measure)
                    for split, here in self.probe.table.splits.items()
                },
            )

    def answers(self, step: int, split: str, clusters: Arrays) -> Answers | None:
        """Return the answers, from what is there beside a checkpoint's clusters."""
        answer = np.asarray(read_states(self.run.states_at(step), ANSWER))
        right = clusters.get(f"{split}/hits")
        return Answers(answer[self.probe.table.splits[split]], right)

    def words(self, step: int, tokens: Ints) -> list[str]:
        """Return what some tokens that were answered or measured at a step are called."""
        known = self.probe.words(step)
        return [known.get(str(token), f"token {token}") for token in tokens]

    def scores(self) -> pa.Table:
        """Return the scores that are looked at: those of the first number of clusters."""
        return main_scores(load_scores(self.run))

    def world(self) -> TaskOverview:
        """Return what the model was asked about: the labels."""
        table = self.probe.table
        tasks = []
        for label in sorted(set(table.label)):
            its = [i for i, name in enumerate(table.label) if name == label]
            said = list(dict.fromkeys(table.text[i] for i in its))
            apart = np.unique(np.linspace(0, len(said) - 1, min(EXAMPLES, len(said))).astype(int))
            examples = tuple(said[i] for i in apart)
            tasks.append(TaskView(label, examples=examples, n_examples=len(its)))
        sizes = {"prompts": len(table), "labels": len(tasks), "models": len(self.steps)}
        for part, name in (("input", "inputs"), ("output", "outputs"), ("group", "groups")):
            values = getattr(table, part)
            if values is not None:
                sizes[name] = len(set(values))
        sizes |= {
            f"prompts, {split_name(s)}": here.stop - here.start for s, here in table.splits.items()
        }
        return TaskOverview(tuple(tasks), sizes, None, _same_symbols(self.instances))


Source: TypeAlias = OfRun | OfProbe
"""A run directory of either kind, measured: both answer the same questions."""


def open_source(path: Path) -> Source:
    """Return what is in a run directory.

    Raises
    ------
    InputError
        Where it is none, or it is not measured.
    """
    run = RunDir(path)
    settings = read_settings(run.config, kind_of(run))
    return OfProbe(run, settings) if run.is_probe else OfRun(run, settings)


def _split_words(split: str) -> str:
    if split in MEASURED:
        return f"measured of {split_name(split)}"
    return split_name(f"{split}_subset").removesuffix(" subset")


def _tasks(instances: Mapping[str, Instances]) -> Ints:
    """Return the tasks that occur in any split."""
    return np.unique(np.concatenate([known.task for known in instances.values()]))


def _numbered(values: tuple[str, ...]) -> dict[int, str]:
    """Return what the numbers of `tasklens.data.labelled_prompts.codes` stand for."""
    return dict(enumerate(sorted(set(values))))


def _same_output(functions: list[Mapping[str, str]]) -> npt.NDArray[np.float64]:
    """Return the share of their common inputs that functions map to the same output, (K, K)."""
    share = np.zeros((len(functions), len(functions)))
    for i, f in enumerate(functions):
        for j, g in enumerate(functions):
            common = f.keys() & g.keys()
            share[i, j] = sum(f[x] == g[x] for x in common) / len(common) if common else 0.0
    return share


def _same_symbols(instances: Mapping[str, Instances]) -> npt.NDArray[np.float64]:
    """Return the cosine of the tasks' mean counts of symbols, on the first split, (K, K)."""
    known = next(iter(instances.values()))
    tasks = _tasks(instances)
    means = np.zeros((len(tasks), known.symbol_counts.shape[1]))  # (K, A)
    for i, task in enumerate(tasks):
        if (known.task == task).any():
            means[i] = known.symbol_counts[known.task == task].mean(axis=0)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    means /= np.where(length > 0, length, 1)
    return means @ means.T

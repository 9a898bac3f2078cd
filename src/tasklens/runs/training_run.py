"""A run whose prompts are drawn and whose model is trained."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.files import read_small_file, sha256
from tasklens.core.settings import Stage
from tasklens.data.counterfactuals import Counterfactuals
from tasklens.data.dataset import Dataset
from tasklens.data.instances import Instances
from tasklens.data.names import find_split
from tasklens.data.synthetic_counterfactuals import (
    FITTED,
    counterfactuals_of_dataset,
    outputs_of_tasks,
)
from tasklens.data.synthetic_files import dataset_files, read_dataset
from tasklens.models.checkpoints import load_checkpoint
from tasklens.models.gpt2 import GPT2, state_names
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.report.view import ModelView, TaskOverview, TaskView
from tasklens.runs.fit_settings import draw_dataset
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import Ints
from tasklens.runs.run_columns import LENGTH
from tasklens.runs.settings import COLUMNS, TrainingRunSettings
from tasklens.runs.task_overview import EXAMPLES, same_output, same_symbols, tasks_among

#: Splits whose accuracy is measured in full at the last checkpoint.
ACCURACY_SPLITS = ("val", "val_instruction", "unseen_distribution")


class TrainingRun(Run):
    """A run whose prompts are drawn and whose model is trained; see `Run`."""

    kind: ClassVar[Literal["run"]] = "run"
    states_stage: ClassVar[Literal["train"]] = "train"
    opens_in_workers: ClassVar[bool] = True
    settings: TrainingRunSettings

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that stage data left."""
        return read_dataset(lambda name: self.directory.read(self.directory.data / name))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints, ascending."""
        return checkpoint_steps(self.settings.train.steps, self.settings.checkpoints.every)

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the hidden states, from the input up."""
        return state_names(self.settings.model.n_layer)

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of the measured positions."""
        return self.settings.states.positions

    def inputs(self, stage: Stage, sources: object = ()) -> str:
        """Return the hash of what the result of a stage depends on; see `Run.inputs`."""
        if stage == "train" and self.positions[0] != "input":
            sources = [sources, self.positions[0]]  # the files of which have no name of it
        return super().inputs(stage, sources)

    def unfinished(self, stage: Stage) -> str:
        """Return a line on a stage that is not finished; see `Stages.unfinished`."""
        saved = self.directory.files_in(self.directory.resume)
        if stage != "train" or not saved:
            return super().unfinished(stage)
        step = max(int(path.stem.rpartition("-")[2]) for path in saved)
        return (
            f"{self.directory.path}: stage train is not finished: training stopped at step {step} "
            f"of {self.settings.train.steps}; finish the run: {self.command('data')}"
        )

    @cached_property
    def instances_by_split(self) -> Mapping[str, Instances]:
        """The facts about the measured instances of each split."""
        return {split: self.dataset.instances(split) for split in self.dataset.measured}

    @cached_property
    def names(self) -> Mapping[str, Mapping[int, str]]:
        """The names of tasks, tokens and distributions by number."""
        tokens = dict(enumerate(self.dataset.vocabulary.tokens))
        tasks = {i: task.name for i, task in enumerate(self.dataset.tasks.all_tasks)}
        distributions = dict(enumerate(self.dataset.distribution_names))
        return {"task": tasks, "input": tokens, "output": tokens, "distribution": distributions}

    @property
    def unit_names(self) -> tuple[str, ...]:
        """The instructions."""
        return ("instructions",)

    def texts(self, split: str) -> tuple[str, ...]:
        """Return the instruction of each instance of a split."""
        instructions = self.dataset.instructions
        return tuple(instructions[i] for i in self.dataset.splits[split].instruction)

    def whole_splits(self, step: int) -> tuple[str, ...]:
        """Return the splits whose accuracy the last checkpoint is asked for in full."""
        if step != self.steps[-1]:
            return ()
        return tuple(split for split in ACCURACY_SPLITS if split in self.dataset.splits)

    def targets(self, step: int) -> Mapping[str, Ints]:
        """Return the output token of each instance by split, -1 if there is none, of all splits."""
        return {split: part.output for split, part in self.dataset.splits.items()}

    @cached_property
    def outputs(self) -> Ints:
        """The output token of each measured task for each input token, see `Run.outputs`."""
        return outputs_of_tasks(self.dataset, np.unique(self.dataset.task(FITTED)))

    def token_names(self, step: int, tokens: Ints) -> list[str]:
        """Return what tokens are called."""
        return [self.dataset.vocabulary.tokens[token] for token in tokens]

    @property
    def models(self) -> tuple[ModelView, ...]:
        """The trained model: its hash is that of the file of the last checkpoint, if it is kept."""
        step = self.steps[-1]
        weights = self.directory.noted(self.directory.checkpoint(step) / "model.safetensors")
        return (ModelView(step, self.name, "", weights or ""),)

    @cached_property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """The input and the output of the measured instances, split after split."""
        tokens, parts = self.dataset.vocabulary.tokens, self.instances_by_split.values()
        return {
            name: [
                tokens[i] if i >= 0 else ""
                for known in parts
                for i in known.parts.get(name, np.full(len(known.task), -1))
            ]
            for name in COLUMNS
            if name != LENGTH
        }

    def data_files(self) -> dict[str, bytes]:
        """Draw the dataset and return its files."""
        settings = self.settings
        return dataset_files(draw_dataset(settings))

    def sources(self) -> dict[str, str]:
        """Return the SHA-256 of the user's task file, if there is one."""
        file = Path(self.settings.tasks.file)
        if not self.settings.tasks.file or not file.is_file():
            return {}
        return {str(file): sha256(read_small_file(file))}

    def counterfactuals(self, split: str, position: str, n: int) -> Counterfactuals:
        """Return at most n prompts of a split with their answers under each measured task."""
        split = find_split(split, self.instances_by_split)
        position, seed = self.position(position), self.settings.seed
        return counterfactuals_of_dataset(self.dataset, split, position, n, seed=seed)

    @property
    def intervenable_steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints whose weights are kept, ascending."""
        directories = {step: self.directory.checkpoint(step) for step in self.steps}
        return tuple(
            step
            for step, directory in directories.items()
            if (files := self.directory.files_in(directory)) and all(map(Path.is_file, files))
        )

    def open_subject(self, step: int) -> GPT2:
        """Load the network of a checkpoint; InputError if its weights are not kept or damaged."""
        kept = self.intervenable_steps
        if self._step(step) not in kept:
            raise InputError(
                f"{self.directory.path}: has no weights of step {step}, but of "
                f"{', '.join(map(str, kept)) or 'none'}; a run keeps those that "
                "checkpoints.weights_gib and checkpoints.sparse_weights allow"
            )
        for file in self.directory.files_in(self.directory.checkpoint(step)):
            self.directory.check(file)
        return load_checkpoint(self.directory.checkpoint(step))

    def overview(self) -> TaskOverview:
        """Return the tasks that are measured, and the sizes of the dataset."""
        dataset = self.dataset
        lengths = dataset.tasks.min_length, dataset.tasks.max_length
        measured = tasks_among(self.instances_by_split)
        tasks = []
        for i in measured:
            task = dataset.tasks.all_tasks[i]
            grammars = task.every_grammar
            of_task = np.flatnonzero(dataset.instruction_task == i)
            tasks.append(
                TaskView(
                    name=task.name,
                    regexes=tuple(grammar.regex for grammar in grammars),
                    n_strings=sum(grammar.count(*lengths) for grammar in grammars),
                    function=dict(task.function),
                    examples=tuple(dataset.instructions[j] for j in of_task[:EXAMPLES]),
                    n_examples=len(of_task),
                )
            )
        sizes = {
            "tasks": len(dataset.tasks.tasks),
            "tasks measured": int((measured < len(dataset.tasks.tasks)).sum()),
            "instructions": len(dataset.instructions),
            "inputs": len(dataset.tasks.inputs),
            "outputs": len(dataset.tasks.outputs),
            "symbols of instructions": len(dataset.tasks.symbols),
            "shortest instruction": int(dataset.instruction_length.min()),
            "longest instruction": int(dataset.instruction_length.max()),
        }
        if n_unseen := len(dataset.tasks.unseen_tasks):
            sizes["unseen tasks"] = n_unseen
            sizes["unseen tasks measured"] = len(measured) - sizes["tasks measured"]
        sizes |= {f"instances of {name}": len(part) for name, part in dataset.splits.items()}
        functions = [task.function for task in tasks]
        return TaskOverview(
            tuple(tasks), sizes, same_output(functions), same_symbols(self.instances_by_split)
        )

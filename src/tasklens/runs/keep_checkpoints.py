"""Keep the checkpoints of a training run, and find the one to resume from."""

import json
from pathlib import Path

import safetensors.torch
from torch import Tensor

from tasklens.core.errors import InputError
from tasklens.core.files import check_is_file, sha256
from tasklens.core.progress import inform
from tasklens.models.checkpoints import CHECKPOINT_FILES, checkpoint_files, read_tensors
from tasklens.models.gpt2 import GPT2
from tasklens.models.gpt2_subject import GPT2Subject, harvest_measured
from tasklens.models.harvest import harvest
from tasklens.models.training import Trainer
from tasklens.runs.estimate import check_space, count_bytes
from tasklens.runs.states_on_disk import ANSWER, answer_file, state_contents
from tasklens.runs.training_run import TrainingRun

#: Pattern of the names of training states.
SAVED = "step-*.safetensors"


class CheckpointKeeper:
    """Keeps the checkpoints of a training run on rank 0, and finds the one to resume from.

    A training state that was left under other inputs, the hash of what training depends on, is
    refused. Resuming with another number of CPU threads prints a warning.
    """

    def __init__(self, run: TrainingRun, trainer: Trainer, inputs: str, threads: int) -> None:
        self.run, self.trainer = run, trainer
        self.inputs, self.threads = inputs, threads
        self.n_parameters = sum(p.numel() for p in trainer.model.parameters())
        self.with_weights = run.settings.checkpoints.steps_with_weights(
            run.steps, 4 * self.n_parameters
        )
        self.tokenizer = run.directory.read(run.directory.data / "tokenizer.json")

    def newest(self) -> dict[str, Tensor]:
        """Return the newest training state; empty if training begins."""
        directory = self.run.directory
        # What a crash left before the manifest was written is not recorded, and made again.
        saved = sorted(filter(directory.noted, directory.resume.glob(SAVED)))
        self._remove_states_but(*saved[-1:])
        if not saved:
            self._announce()
            directory.remove(directory.metrics)
            return {}
        tensors, metadata = read_tensors(saved[-1], directory.read(saved[-1]))
        left = json.loads(metadata.get("tasklens", "{}"))
        if left.get("inputs") != self.inputs:
            raise InputError(
                f"{saved[-1]} was left by training with other settings or data; "
                "name a new directory with --out"
            )
        processes, before = self.trainer.group.size, left.get("processes", 1)
        if processes != before:
            inform(
                f"training resumes with another number of processes ({processes}, it began with "
                f"{before}): the last bits may differ"
            )
        elif left.get("threads") != self.threads:
            inform(
                f"training resumes with {self.threads} threads, it began with "
                f"{left.get('threads')}: the last bits may differ (train.threads fixes the number)"
            )
        if self.trainer.precision is None:
            self.trainer.precision = left["precision"]
        step = int(tensors["step"])
        # One line per step; those written after the newest state are written again.
        metrics = self._metrics(step)
        wrong = [path for path in self.files(step) if not directory.is_intact(path)]
        if sha256(metrics) != left.get("metrics"):
            wrong.append(directory.metrics)
        if wrong:
            inform(f"{wrong[0]} is gone or damaged; training again from step 0")
            directory.remove(saved[-1])
            return self.newest()
        directory.write(directory.metrics, metrics)
        return tensors

    def _remove_states_but(self, *kept: Path) -> None:
        """Remove the training states but some, also those that a kill has left."""
        for path in set(self.run.directory.resume.glob(SAVED)) - set(kept):
            self.run.directory.remove(path)

    def _metrics(self, step: int) -> bytes:
        """Return the metrics of the first steps, one line each."""
        metrics = self.run.directory.metrics
        check_is_file(metrics)
        lines = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() else []
        return b"".join(lines[:step])

    def _announce(self) -> None:
        """Print how much disk the run will take; InputError if it does not fit."""
        dataset = self.run.dataset
        sizes = count_bytes(
            self.run.settings, self.n_parameters, dataset.n_instances, len(dataset.measured)
        )
        check_space(self.run.directory.path, sum(sizes.values()))
        inform(
            f"{self.run.directory.path} will take about "
            f"{sum(sizes.values()) / 1e6:,.0f} MB: states of {len(self.run.steps)} checkpoints "
            f"{sizes['states'] / 1e6:,.0f} MB, weights of {len(self.with_weights)} of them "
            f"{sizes['weights'] / 1e6:,.0f} MB"
        )

    def keep(self) -> None:
        """Write the hidden states of a checkpoint, the weights, and the state to resume from."""
        directory, step = self.run.directory, self.trainer.step
        state = self.trainer.state()
        model = self.trainer.model
        newest = directory.resume / f"step-{step:08d}.safetensors"
        metadata = {
            "inputs": self.inputs,
            "threads": self.threads,
            "processes": self.trainer.group.size,
            "precision": self.trainer.precision,
            "metrics": sha256(self._metrics(step)),
        }
        # One entry: safetensors writes several in an order that differs from run to run.
        content = safetensors.torch.save(state, metadata={"tasklens": json.dumps(metadata)})
        with directory.batch():
            for position, files in self._harvest(model).items():
                directory.write_directory(self.run.states_at(step, position), files)
            if step in self.with_weights:
                seed = self.run.settings.seed
                files = checkpoint_files(model, self.tokenizer, step=step, seed=seed)
                directory.write_directory(directory.checkpoint(step), files)
            directory.write(newest, content)
            self._remove_states_but(newest)

    def _harvest(self, model: GPT2) -> dict[str, dict[str, bytes]]:
        """Return the files of the measured instances by position; the answers are in the first."""
        subject, run = GPT2Subject(model, step=self.trainer.step), self.run
        measured = harvest_measured(model, run.dataset, run.positions)
        answers = {
            split: harvest(subject, run.dataset.prompts(split), names=()).answer
            for split in run.whole_splits(self.trainer.step)
        }
        contents = {p: state_contents(each.states, {}) for p, each in measured.items()}
        first = measured[run.positions[0]]
        contents[run.positions[0]] = state_contents({**first.states, ANSWER: first.answer}, answers)
        return contents

    def files(self, until: int) -> list[Path]:
        """Return what is kept of the checkpoints up to a step.

        The states of further positions are not in it: `add_positions` makes those that are missing.
        """
        directory, run = self.run.directory, self.run
        states: list[Path] = []
        for step in (step for step in run.steps if step <= until):
            states_directory = directory.states_at(step)
            states += [states_directory / f"{name}.npy" for name in (*run.state_names, ANSWER)]
            states += [answer_file(states_directory, split) for split in run.whole_splits(step)]
        weights = [directory.checkpoint(step) for step in self.with_weights if step <= until]
        return states + [path / name for path in weights for name in CHECKPOINT_FILES]

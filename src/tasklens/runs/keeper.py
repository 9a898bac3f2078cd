"""What is kept of a training run, and how it goes on after an interruption."""

import json
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from tasklens.models.checkpoints import CHECKPOINT_FILES, checkpoint_files, read_tensors
from tasklens.runs.settings import TrainingRunSettings
from tasklens.data.synthetic import MEASURED, SPLITS, Dataset
from tasklens.core.errors import InputError
from tasklens.models.gpt2 import GPT2
from tasklens.runs.plan import check_space, count_bytes
from tasklens.data.rows import join
from tasklens.runs.directory import RunDir
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.models.subject import GPT2Subject, harvest
from tasklens.models.training import Trainer

#: The splits whose accuracy the last checkpoint is asked for in full.
ACCURACY_SPLITS = ("val", "val_instruction")


class Keeper:
    """Keeps the checkpoints of a training run, and finds the one to go on from.

    Where several processes train, it is the first one's; the others take part in `keep` by asking
    their trainer for its `state` at the same steps.

    Parameters
    ----------
    run : RunDir
    settings : TrainingRunSettings
    dataset : Dataset
    trainer : Trainer
    inputs : str
        The hash of what training depends on; a training state that was left under another one is
        refused.
    threads : int
        CPU threads that train. Another number is allowed, and said.
    """

    def __init__(
        self,
        run: RunDir,
        settings: TrainingRunSettings,
        dataset: Dataset,
        trainer: Trainer,
        inputs: str,
        threads: int,
    ) -> None:
        self.run, self.settings, self.dataset, self.trainer = run, settings, dataset, trainer
        self.inputs, self.threads = inputs, threads
        self.steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
        self.n_parameters = sum(p.numel() for p in trainer.model.parameters())
        self.with_weights = settings.checkpoints.steps_with_weights(
            self.steps, 4 * self.n_parameters
        )
        self.tokenizer = run.read(run.data / "tokenizer.json")

    def newest(self) -> dict[str, Tensor]:
        """Return the newest training state, or none where training begins."""
        # One that is not recorded was left by a crash, and so may the rest of its checkpoint be.
        states = sorted(self.run.resume.glob("step-*.safetensors"))
        saved = [path for path in states if self.run.noted(path)]
        if not saved:
            self._announce()
            self.run.remove(self.run.metrics)
            return {}
        tensors, about = read_tensors(saved[-1], self.run.read(saved[-1]))
        left = json.loads(about.get("tasklens", "{}"))
        if left.get("inputs") != self.inputs:
            raise InputError(
                f"{saved[-1]} was left by training with other settings or data; "
                "name a new directory with --out"
            )
        processes, before = self.trainer.world.size, left.get("processes", 1)
        if processes != before:
            print(
                f"tasklens: training goes on with another number of processes ({processes}, it "
                f"began with {before}): the last bits may differ",
                file=sys.stderr,
            )
        elif left.get("threads") != self.threads:
            print(
                f"tasklens: training goes on with {self.threads} threads, it began with "
                f"{left.get('threads')}: the last bits may differ (train.threads fixes the number)",
                file=sys.stderr,
            )
        if self.trainer.precision is None:
            self.trainer.precision = left["precision"]
        step = int(tensors["step"])
        # One line a step; those written after the newest state are written again.
        lines = self._metrics_lines()[:step]
        missing = [path for path in self.files(step) if not path.exists()]
        if missing or len(lines) < step:
            gone = missing[0] if missing else f"a line of {self.run.metrics}"
            print(f"tasklens: {gone} is gone; training again from step 0", file=sys.stderr)
            self.run.remove(saved[-1])
            return self.newest()
        self.run.write(self.run.metrics, b"".join(lines))
        return tensors

    def _metrics_lines(self) -> list[bytes]:
        metrics = self.run.metrics
        return metrics.read_bytes().splitlines(keepends=True) if metrics.exists() else []

    def _announce(self) -> None:
        """Say what the run will take on the disk, and stop where the disk does not hold it."""
        splits = self.dataset.splits
        n_instances = sum(len(splits[name]) for name in SPLITS)
        sizes = count_bytes(self.settings, self.n_parameters, n_instances)
        check_space(self.run.path, sum(sizes.values()))
        print(
            f"tasklens: {self.run.path} will take about {sum(sizes.values()) / 1e6:,.0f} MB: "
            f"states of {len(self.steps)} checkpoints {sizes['states'] / 1e6:,.0f} MB, weights of "
            f"{len(self.with_weights)} of them {sizes['weights'] / 1e6:,.0f} MB",
            file=sys.stderr,
        )

    @property
    def due(self) -> bool:
        """Whether the trainer stands at a checkpoint step."""
        return self.trainer.step in self.steps

    def keep(self) -> None:
        """Write the checkpoint's states, its weights and, last, the state to go on from."""
        run, step = self.run, self.trainer.step
        state = self.trainer.state()
        model = self.trainer.whole_model(state)
        with run.batch():
            run.write(run.states_of(step), safetensors.numpy.save(self._harvest(model)))
            if step in self.with_weights:
                seed = self.settings.seed
                files = checkpoint_files(model, self.tokenizer, step=step, seed=seed)
                run.write_directory(run.checkpoint(step), files)
            newest = run.resume / f"step-{step:08d}.safetensors"
            # One entry: safetensors writes several in an order that differs from run to run.
            about = {
                "inputs": self.inputs,
                "threads": self.threads,
                "processes": self.trainer.world.size,
                "precision": self.trainer.precision,
            }
            tensors = safetensors.torch.save(state, metadata={"tasklens": json.dumps(about)})
            run.write(newest, tensors)
            for older in run.resume.glob("step-*.safetensors"):
                if older != newest:
                    run.remove(older)

    def _harvest(self, model: GPT2) -> dict[str, NDArray[np.generic]]:
        """Return the measured instances' states and answers, by "split/name"."""
        subject = GPT2Subject(model)
        # All at once: the splits share instructions, and much of these is computed once.
        got = harvest(subject, join([self.dataset.prompts(split) for split in MEASURED]))
        tensors: dict[str, NDArray[np.generic]] = {}
        n = 0
        for split in MEASURED:
            here = slice(n, n + len(self.dataset.splits[split]))
            tensors |= {f"{split}/{name}": state[here] for name, state in got.states.items()}
            tensors[f"{split}/answer"] = got.answer[here]
            n = here.stop
        if self.trainer.step == self.steps[-1]:
            for split in ACCURACY_SPLITS:
                got = harvest(subject, self.dataset.prompts(split), names=())
                tensors[f"{split}/answer"] = got.answer
        return tensors

    def files(self, until: int) -> list[Path]:
        """Return what is kept of the checkpoints up to a step."""
        states = [self.run.states_of(step) for step in self.steps if step <= until]
        directories = [self.run.checkpoint(step) for step in self.with_weights if step <= until]
        return states + [path / name for path in directories for name in CHECKPOINT_FILES]

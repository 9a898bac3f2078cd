"""Train the preset `default` with other settings.

    python docs/scripts/preset_trials.py 101 KEY=VALUE ...

The first argument is the seed; a key is a setting such as ``train.steps``. Every 100 steps the
script prints the accuracy of the output on unseen pairs (`val`) and on unseen instructions
(`val_instruction`), for 1,500 instances of each. The last column is the processor time of training.
"""

import sys
import time

import torch

from tasklens.core.seeds import stream
from tasklens.data.dataset import Dataset
from tasklens.data.synthetic import make_dataset
from tasklens.data.token_prompts import Prompts
from tasklens.models.gpt2 import GPT2, make_model
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.training import Trainer
from tasklens.runs.settings import TrainingRunSettings, load_settings

EVERY, SAMPLE = 100, 1500


def accuracy(model: GPT2, dataset: Dataset, split: str) -> float:
    """Return the accuracy on a fixed sample of a split."""
    prompts, output = dataset.prompts(split), dataset.splits[split].output
    index = stream(0, "benchmark accuracy").choice(len(output), SAMPLE, replace=False)
    sample = Prompts(prompts.ids[index], prompts.position[index])
    answer = harvest(GPT2Subject(model), sample, names=()).answer
    return float((answer == output[index]).mean())


def main(seed: str, *changes: str) -> None:
    """Train on one core and print a line for each look."""
    torch.set_num_threads(1)
    settings = load_settings("default", [f"seed={seed}", *changes])
    assert isinstance(settings, TrainingRunSettings)
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    model = make_model(dataset, settings.model, seed=settings.seed)
    trainer, seconds = Trainer(model, dataset, settings.train, settings.seed), 0.0
    for batch in trainer.batches():
        began = time.process_time()
        step = trainer.take_step(batch).step
        seconds += time.process_time() - began
        if step % EVERY == 0 or step == settings.train.steps:
            numbers = [accuracy(model, dataset, split) for split in ("val", "val_instruction")]
            print(step, *(f"{number:.4f}" for number in numbers), f"{seconds:.0f} s", flush=True)
        if step == settings.train.steps:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])

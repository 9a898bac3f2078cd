"""Compare training by two processes of one thread each with one process of two threads.

On one machine without a GPU nothing can be gained: the same cores do the same work, and also
exchange gradients. This script measures that cost.
"""

import argparse
import sys
import time
from itertools import islice

import torch
from common import Result, begin, parser, peak_megabytes, printed, settings_of

from tasklens.data.synthetic import make_dataset
from tasklens.models.distributed import process_group
from tasklens.models.gpt2 import make_model
from tasklens.models.training import Trainer

WIDTHS = (128, 768)


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=20, help="that are timed")
    options.add_argument("--width", type=int, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.width:
        train(arguments.width, arguments.steps)
        return
    report = begin(arguments)
    for width in WIDTHS:
        flags = [__file__, "--steps", str(arguments.steps), "--width", str(width)]
        single, megabytes = printed([sys.executable, *flags], 2)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        two, each = printed([*torchrun, "--nproc-per-node=2", *flags], 2)
        report.add(
            Result(
                what=f"a step of `default` at width {width}, two processes (DDP)",
                against="one process with two threads",
                ours=two,
                theirs=single,
                unit="s",
                ratio=single / two,
                note=f"peak memory {each:.0f} MB in each, {megabytes:.0f} MB in the one",
            )
        )


def train(width: int, steps: int) -> None:
    """Take some steps and print the seconds of one, and the peak memory."""
    settings = settings_of(
        model__n_embd=width, model__n_head=max(4, width // 64), train__precision="fp32"
    )
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    with process_group("cpu") as group:
        torch.set_num_threads(settings.cores_training // group.size)
        model = make_model(dataset, settings.model, seed=settings.seed)
        trainer = Trainer(model, dataset, settings.train, settings.seed, group)
        batches = trainer.batches()
        trainer.take_step(next(batches))
        began = time.perf_counter()
        for batch in islice(batches, steps):
            trainer.take_step(batch)
        if group.is_main:
            print((time.perf_counter() - began) / steps, peak_megabytes())


if __name__ == "__main__":
    main()

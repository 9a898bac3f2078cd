"""Run the forward passes of a network, each in one thread, or in turn on a GPU."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from tasklens.models.gpt2 import GPT2
from tasklens.models.modes import evaluating

Part = TypeVar("Part")


def run_passes(model: GPT2, run: Callable[[Part], object], parts: Iterable[Part]) -> None:
    """Call a function for each part of the work, with the model in evaluation mode."""
    if model.device.type != "cpu":
        with evaluating(model):
            for part in parts:
                run(part)
        return
    threads = torch.get_num_threads()
    # A pass runs in one thread, so that no sum depends on how many threads there are.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        with evaluating(model), pool:
            list(pool.map(run, parts))
    finally:
        torch.set_num_threads(threads)  # a thread's own setting may reach beyond the thread

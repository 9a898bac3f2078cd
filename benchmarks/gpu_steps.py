"""Part steps of `make gpu`: seconds per step and per checkpoint, and states against the CPU's.

What is timed here are the pieces that a run of the preset repeats; part run fits its steps to them.
"""

import functools
import hashlib
import os
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import safetensors.torch
import torch
from gpu_part import Part, main

from tasklens.data.dataset import MEASURED, Dataset
from tasklens.data.synthetic import make_dataset
from tasklens.data.token_prompts import Prompts, join
from tasklens.models.gpt2 import GPT2, make_model
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.loss import loss_and_hits
from tasklens.models.subject import Harvest
from tasklens.models.training import Trainer
from tasklens.runs.plan import make_plan
from tasklens.runs.settings import TrainingRunSettings, load_settings

#: Prompts that are read on the CPU, too, and steps before the second comparison.
COMPARED, TRAINED = 64, 20
WARM_UP, TIMED = 5, 30
#: Tokens in a forward pass that are tried.
TOKENS = (2**12, 2**14, 2**16, 2**18)


@functools.cache
def _settings(part: Part) -> TrainingRunSettings:
    return load_settings(part.preset, [f"train.device={part.device}", "train.precision=auto"])


@functools.cache
def _dataset(part: Part) -> Dataset:
    settings = _settings(part)
    return make_dataset(settings.tasks, settings.data, seed=settings.seed)


def _trainer(part: Part, precision: str) -> Trainer:
    settings = _settings(part)
    model = make_model(_dataset(part), settings.model, seed=settings.seed)
    train = settings.train.changed(precision=precision)
    return Trainer(model, _dataset(part), train, settings.seed)


def _measured(part: Part) -> Prompts:
    return join([_dataset(part).prompts(split) for split in MEASURED])


def _take(prompts: Prompts, n: int) -> Prompts:
    return Prompts(prompts.ids[:n], prompts.position[:n])


def states_and_losses(part: Part) -> None:
    """Compare states and the loss of equal weights between the device and the CPU, in fp32."""
    prompts = _take(_measured(part), COMPARED)
    trainer = _trainer(part, "fp32")
    batches = trainer.batches()
    for n in (0, TRAINED):
        for batch in islice(batches, n):
            trainer.take_step(batch)
        batch = next(trainer.batches())
        with torch.no_grad():
            loss, _ = loss_and_hits(trainer.model, batch)
        on_device = harvest(GPT2Subject(trainer.model), prompts)
        on_cpu = _copy_on_cpu(part, trainer.model)
        began = time.perf_counter()
        with torch.no_grad():
            their_loss, _ = loss_and_hits(on_cpu, batch.to(torch.device("cpu")))
        cpu_harvest = harvest(GPT2Subject(on_cpu), prompts)
        result = {
            "prompts": COMPARED,
            "states": _differences(on_device, cpu_harvest),
            "equal_answers": float((on_device.answer == cpu_harvest.answer).mean()),
            "loss": loss.item(),
            "loss_on_cpu": their_loss.item(),
            "seconds_on_cpu": round(time.perf_counter() - began, 2),
        }
        part.record(**{f"against_cpu_after_{n}_steps": result})


def _copy_on_cpu(part: Part, model: GPT2) -> GPT2:
    copy = make_model(_dataset(part), model.settings, seed=0)
    copy.load_state_dict({name: value.cpu() for name, value in model.state_dict().items()})
    return copy


def _differences(ours: Harvest, theirs: Harvest) -> dict[str, dict[str, float]]:
    """Return per state the largest difference, and the largest distance as a part of the norm."""
    differences = {}
    for name, state in ours.states.items():
        distance = np.linalg.norm(state - theirs.states[name], axis=1)
        norm = np.linalg.norm(theirs.states[name], axis=1)
        largest = float(np.abs(state - theirs.states[name]).max())
        differences[name] = {"largest": largest, "relative": float((distance / norm).max())}
    return differences


def step_seconds(part: Part) -> None:
    """Time a training step in fp32 and in bf16, with the peak memory that torch allocates."""
    results: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        trainer = _trainer(part, precision)
        _reset_peak(part)
        seconds, tokens = [], []
        with part.window(f"steps in {precision}"):
            end = time.monotonic() + part.left / 6
            for i, batch in enumerate(islice(trainer.batches(), WARM_UP + TIMED)):
                seconds.append(_timed(functools.partial(trainer.take_step, batch)))
                tokens.append(batch.prefix.numel() + batch.inputs.numel())
                if i >= WARM_UP and time.monotonic() > end:
                    break
        median = statistics.median(seconds[WARM_UP:])
        results[precision] = {
            "seconds_per_step": median,
            "steps_per_second": 1 / median,
            "tokens_per_second": statistics.mean(tokens[WARM_UP:]) / median,
            "steps_timed": len(seconds) - WARM_UP,
            "first_step_seconds": seconds[0],
            "peak_allocated_gib": _peak(part),
        }
        part.record(steps=results)


def repeated(part: Part) -> None:
    """Record whether the same five steps end in the same bytes."""
    digests = []
    for _ in range(2):
        trainer = _trainer(part, "bf16")
        for batch in islice(trainer.batches(), 5):
            trainer.take_step(batch)
        digests.append(hashlib.sha256(safetensors.torch.save(trainer.state())).hexdigest())
    part.record(same_bytes_after_5_steps=digests[0] == digests[1])


def checkpoint_seconds(part: Part) -> None:
    """Time what a checkpoint adds: the harvest of the measured instances, and the state's file."""
    trainer, prompts = _trainer(part, "bf16"), _measured(part)
    trainer.take_step(next(trainer.batches()))
    subject = GPT2Subject(trainer.model)
    harvest(subject, _take(prompts, 8))
    _reset_peak(part)
    with part.window("harvest"):
        read = _timed(lambda: harvest(subject, prompts))
    file = part.work / "state.safetensors"

    def write() -> None:
        content = safetensors.torch.save(trainer.state())
        with file.open("wb") as opened:
            opened.write(content)
            os.fsync(opened.fileno())
        hashlib.sha256(content).hexdigest()

    part.record(
        checkpoint={
            "harvest_seconds": read,
            "instances": len(prompts),
            "instances_per_second": len(prompts) / read,
            "peak_allocated_gib": _peak(part),
            "write_seconds": _timed(write),
            "bytes": file.stat().st_size,
        }
    )
    file.unlink()


def plan(part: Part) -> None:
    """Record what `tasklens run PRESET --dry-run` expects of the whole preset here."""
    part.record(plan=make_plan(_settings(part)).document())


def batch_sizes(part: Part) -> None:
    """Time the harvest of the measured instances at several sizes of a forward pass."""
    settings = _settings(part)
    model = make_model(_dataset(part), settings.model, seed=settings.seed).to(part.device)
    prompts, rates = _measured(part), {}
    for size in TOKENS if part.device != "cpu" else TOKENS[:2]:
        if part.left < 10:
            return
        subject = GPT2Subject(model, max_tokens=size)
        harvest(subject, prompts)
        rates[str(size)] = len(prompts) / _timed(functools.partial(harvest, subject, prompts))
        part.record(instances_per_second_by_max_tokens=rates)


def kernels(part: Part) -> None:
    """Record how much of a step the GPU computes, and in which operations."""
    if part.device == "cpu" or part.left < 10:
        return
    trainer = _trainer(part, "bf16")
    batches = list(islice(trainer.batches(), WARM_UP + 3))
    for batch in batches[:WARM_UP]:
        trainer.take_step(batch)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        wall = _timed(lambda: [trainer.take_step(batch) for batch in batches[WARM_UP:]])
    events = profile.key_averages()
    busy = {event.key: event.self_device_time_total / 3e3 for event in events}  # ms per step
    launches = sum(event.count for event in events if "LaunchKernel" in event.key) / 3
    largest = dict(sorted(busy.items(), key=lambda item: -item[1])[:12])
    part.record(
        kernels={
            "milliseconds_per_step_while_profiling": 1e3 * wall / 3,
            "milliseconds_on_the_gpu": largest,
            "launches_per_step": launches,
        }
    )


def _timed(function: Callable[[], object]) -> float:
    """Return the seconds of a call that waits for the device by itself: it returns numbers."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _reset_peak(part: Part) -> None:
    if part.device != "cpu":
        torch.cuda.reset_peak_memory_stats(part.device)


def _peak(part: Part) -> float | None:
    if part.device == "cpu":
        return None
    return round(torch.cuda.max_memory_allocated(part.device) / 2**30, 3)


if __name__ == "__main__":
    main(
        __doc__,
        *(step_seconds, checkpoint_seconds, states_and_losses, repeated, plan),
        *(batch_sizes, kernels),
    )

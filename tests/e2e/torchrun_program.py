"""Program that torchrun runs for test_torchrun.py, in each of its processes.

battery OUT     trains in several ways and writes the tensors and the curves
until STEP ...  runs the command line, whose first process fails at the checkpoint of a step
"""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import tasklens as tl
from tasklens.cli import main as cli
from tasklens.core.errors import InputError
from tasklens.models.distributed import SINGLE_PROCESS, ProcessGroup, process_group
from tasklens.models.training import Trainer
from tasklens.runs.keep_checkpoints import CheckpointKeeper

#: Rows that two processes cannot share evenly, and that have several lengths.
SETTINGS: dict[str, Any] = {
    **{"steps": 20, "instructions_per_step": 5, "warmup_steps": 2},
    **{"learning_rate": 1e-2, "precision": "fp32"},
}
LOSSES: dict[str, dict[str, Any]] = {
    "all": {"loss": "all", "output_weight": 3.0},
    "output": {"loss": "output"},
}
#: After so many steps another number of processes resumes the training.
HALF = 9


def dataset() -> tl.Dataset:
    """Return some tasks whose instructions differ in length."""
    tasks = {"n_tasks": 4, "n_inputs": 6, "inputs_per_task": 5, "n_outputs": 5}
    data = tl.DataSettings(val_inputs=1, measured_tasks=3, measured_instances=10)
    return tl.make_dataset(tl.TaskSettings(**tasks, variants_per_task=12), data, seed=0)


def trainer_of(
    data: tl.Dataset, group: ProcessGroup = SINGLE_PROCESS, *, dropout: float = 0, **keys: Any
) -> Trainer:
    """Return a trainer of a small model."""
    size = tl.ModelSettings(n_layer=2, n_head=2, n_embd=16, dropout=dropout)
    model = tl.make_model(data, size, seed=0)
    return Trainer(model, data, tl.TrainSettings(**SETTINGS | keys), 0, group)


def gradients_of(trainer: Trainer, steps: int) -> dict[str, torch.Tensor]:
    """Return the clipped gradients of the last of some steps, by name."""
    for batch in islice(trainer.batches(), steps):
        trainer.take_step(batch)
    gradients = {}
    for name, weight in trainer.model.named_parameters():
        assert weight.grad is not None
        gradients[name] = weight.grad.clone()
    return gradients


def curve_of(trainer: Trainer, steps: int | None = None) -> list[tuple[float, float, float]]:
    """Return loss, accuracy and gradient norm of the steps that are left, or of some of them."""
    left = trainer.settings.steps - trainer.step if steps is None else steps
    logs = [trainer.take_step(batch) for batch in islice(trainer.batches(), left)]
    return [(log.loss, log.accuracy, log.grad_norm) for log in logs]


def battery(out: Path) -> None:
    """Train in all ways that the tests check; rank 0 writes."""
    torch.set_num_threads(1)
    with process_group("cpu") as group:
        curves = train_in_all_ways(group, out)
        curves["threads within"] = gloo_threads()
    curves["threads after"] = gloo_threads()
    (out / f"curves-{group.rank}.json").write_text(json.dumps(curves))


def gloo_threads() -> list[str]:
    """Return the names of the threads that carry tensors between the ranks."""
    names = (file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm"))
    return sorted({name for name in names if "gloo" in name})


def train_in_all_ways(group: ProcessGroup, out: Path) -> dict[str, Any]:
    """Return the curves; the tensors are written by rank 0. No trainer is left."""
    data = dataset()
    tensors: dict[str, torch.Tensor] = {}
    curves: dict[str, Any] = {}
    for loss, keys in LOSSES.items():
        gradients = gradients_of(trainer_of(data, group, **keys), 3)
        tensors |= {f"{loss}/{name}": value for name, value in gradients.items()}
    trainer = trainer_of(data, group)
    curves["all"] = curve_of(trainer, HALF)
    tensors |= {f"half/{name}": value.clone() for name, value in trainer.state().items()}
    curves["all"] += curve_of(trainer)
    tensors |= {f"end/{name}": value.clone() for name, value in trainer.state().items()}
    # The state that one process left is known to rank 0 alone.
    single = trainer_of(data)
    curve_of(single, HALF)
    resumed = trainer_of(data, group)
    assert resumed.begin(single.state() if group.is_main else {})
    curves["resumed"] = curve_of(resumed)
    curves["dropout"] = curve_of(trainer_of(data, group, dropout=0.5), 2)
    fresh = trainer_of(data, group, precision="auto")
    curves["fresh"] = [fresh.begin({}), fresh.precision]
    curves["flag"] = group.broadcast_flag(group.is_main)
    try:
        trainer_of(data, group, instructions_per_step=1)
    except InputError as error:
        curves["too few"] = str(error)
    if group.is_main:
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        safetensors.torch.save_file(tensors, out / "tensors.safetensors")
    return curves


def until(step: int) -> None:
    """Run the command line, and have its first process fail at a checkpoint, as on a full disk."""
    real = CheckpointKeeper.keep

    def fails(self: CheckpointKeeper) -> None:
        if self.trainer.step >= step:
            raise InputError(f"no space left at step {step}")
        real(self)

    CheckpointKeeper.keep = fails  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    what, argument, *arguments = sys.argv[1:]
    sys.argv = ["tasklens", *arguments]
    if what == "battery":
        battery(Path(argument))
    else:
        until(int(argument))

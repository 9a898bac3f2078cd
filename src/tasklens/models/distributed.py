"""Train one model with DDP in the processes that torchrun launches."""

import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tasklens.core.errors import InputError
from tasklens.models.torchrun import check_launch, launched_by_torchrun

#: How long a rank waits for another: the others wait while rank 0 harvests and writes.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one model, and the rank of this one; by default a single process."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    """Number of processes on this machine."""

    @property
    def is_main(self) -> bool:
        """True on rank 0, the only one that writes."""
        return self.rank == 0

    def share_of(self, n: int) -> slice:
        """Return this rank's share of n items."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Broadcast a tensor from rank 0 in place, and return it."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    def broadcast_flag(self, flag: bool = False) -> bool:
        """Broadcast a boolean from rank 0, and return it on all ranks."""
        return bool(self.broadcast(torch.tensor(flag)))

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all ranks in place, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun has launched to train on a device, until the block ends.

    Gloo transfers tensors on CPUs, NCCL those on GPUs. InputError if this machine has fewer GPUs
    than processes.
    """
    if not launched_by_torchrun():
        yield SINGLE_PROCESS
        return
    on_gpu = device != "cpu"
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    if on_gpu:
        local_rank, n_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= n_gpus:
            raise InputError(
                f"torchrun starts {local_size} processes on this machine, which has {n_gpus} GPUs: "
                f"should be --nproc-per-node={n_gpus}"
            )
        torch.cuda.set_device(local_rank)
    check_launch()
    # Imported later, as DDP and optimizers do, its functions would keep the group as the default of
    # an argument: its threads would outlive `destroy_process_group`, and Python.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    yield ProcessGroup(dist.get_rank(), dist.get_world_size(), local_size)
    # The group stays after an error: other ranks may be in a broadcast, and torchrun ends them.
    gc.collect()  # DDP holds the group, and may be in a cycle
    dist.destroy_process_group()


def training_device(device: str, group: ProcessGroup) -> torch.device:
    """Return the device of a rank; with several ranks, the setting may not number a GPU."""
    if device == "cpu" or group.size == 1:
        return torch.device(device)
    if device != "cuda":
        raise InputError(
            f"train.device = {device!r}: should be cuda; torchrun gives each process its own GPU"
        )
    return torch.device("cuda", torch.cuda.current_device())


def replicate(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a model with DDP: gradients become means over all ranks, weights those of rank 0.

    Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (2020).
    """
    ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids)

"""The processes that torchrun starts to train one model: who is who, and what they tell each other.

Alone, a process is a `World` of one, in which there is nobody to tell anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tasklens.core.errors import InputError
from tasklens.models.torchrun import started

#: How long a process waits for another: the first one harvests, and writes, while the others wait.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """The processes that train, as one of them sees them."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    """Of them, those on this machine."""

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Return this process's share of n things."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def tell(self, word: bool = False) -> bool:
        """Return to all what the first one says."""
        said = torch.tensor(word)
        self.broadcast(said)
        return bool(said)

    def broadcast(self, tensor: Tensor) -> None:
        """Give the first one's tensor to all, in its place."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)

    def share(self, tensors: dict[str, Tensor], name: str, form: Tensor) -> Tensor:
        """Return one of the first one's tensors to all, of the shape and dtype of ``form``."""
        if self.size == 1:
            return tensors[name]
        if self.leads:
            full = tensors[name].cpu().contiguous()
        else:
            full = torch.empty(form.shape, dtype=form.dtype)
        self.broadcast(full)
        return full

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of all processes' tensors."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor


ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the others that torchrun has started, for the time of the block.

    Gloo carries what is on CPUs, NCCL what is on GPUs.

    Parameters
    ----------
    device : str
        Where they train.

    Raises
    ------
    InputError
        Where there are not as many GPUs here as processes.
    """
    if not started():
        yield ALONE
        return
    on_gpu = device != "cpu"
    if on_gpu:
        mine, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if mine >= there:
            raise InputError(
                f"torchrun starts {os.environ['LOCAL_WORLD_SIZE']} processes here, which has "
                f"{there} GPUs: should be as many, --nproc-per-node={there}"
            )
        torch.cuda.set_device(mine)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    yield World(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
    # Not where something was raised: the others may be in the middle of telling something, and are
    # ended by torchrun.
    dist.destroy_process_group()


def device_of(device: str, world: World) -> torch.device:
    """Return the device on which a process trains.

    Raises
    ------
    InputError
        For a numbered GPU where there are several processes: each has its own.
    """
    if device == "cpu" or world.size == 1:
        return torch.device(device)
    if device != "cuda":
        raise InputError(
            f"train.device = {device!r}: torchrun gives each process a GPU of its own; say cuda"
        )
    return torch.device("cuda", torch.cuda.current_device())


def replicated(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with gradients that are means over all processes (DDP).

    Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (2020). Its
    weights become those of the first process.
    """
    ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids)


def sharded(model: nn.Module, blocks: nn.ModuleList, device: torch.device, world: World) -> None:
    """Split the weights over all processes, and with them gradients and moments (FSDP2), in place.

    Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (2023). The
    gradients are means over all processes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for weight in [*model.parameters(), *model.buffers()]:
        world.broadcast(weight.detach())
    mesh = init_device_mesh(device.type, (world.size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor of which the processes have parts; all of them have to ask."""
    parts: Any = tensor
    return parts.full_tensor() if _is_in_parts(tensor) else tensor


def like(full: Tensor, other: Tensor) -> Tensor:
    """Return a tensor, which all processes have, in the parts in which they have another."""
    if not _is_in_parts(other):
        return full.to(other.device, copy=True)
    from torch.distributed.tensor import distribute_tensor

    parts: Any = other
    there = full.to(parts.device_mesh.device_type)
    # Nobody is asked: each takes its part of its own copy.
    return distribute_tensor(there, parts.device_mesh, parts.placements, src_data_rank=None)


def _is_in_parts(tensor: Tensor) -> bool:
    """Say whether it is a DTensor, whose module takes half a second to import."""
    return hasattr(tensor, "full_tensor")

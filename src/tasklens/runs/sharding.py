"""Stage states of a probe on a cluster: each worker reads a shard of the prompts by a replica."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tasklens.core.workers import cores_of_nodes, need_seen, start_workers
from tasklens.core.errors import CellsFailedError
from tasklens.runs.harvesting import (
    about_model,
    finish_checkpoint,
    open_model,
    say_what_is_measured,
    tokenizer_of,
)
from tasklens.core.workers import reason
from tasklens.runs.probe_dir import Probe
from tasklens.runs.settings import ModelRunSettings
from tasklens.runs.directory import RunDir
from tasklens.models.checkpoint_series import Checkpoint
from tasklens.runs.states_on_disk import harvest_to, shard_directory, shards_begun
from tasklens.data.tokenize import Tokenized, tokenize


@dataclass(frozen=True)
class Shard:
    """The i-th of n shards of the prompts, to be read by one model."""

    run: Path
    directory: Path
    """Where the states of all shards go."""
    settings: ModelRunSettings
    checkpoint: Checkpoint
    i: int
    n: int
    threads: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"step {self.checkpoint.step}, shard {self.i + 1} of {self.n}"


class Read(NamedTuple):
    """What a worker tells of its shard."""

    about: dict[str, Any]
    tokens: Tokenized | None
    """Of all prompts; from the first shard alone."""


def harvest_on_cluster(
    probe: Probe, missing: dict[Checkpoint, str], engine: str, gpus: float
) -> None:
    """Harvest checkpoints on a cluster, each in shards where there are more workers than models.

    A replica takes the CPUs of a node, or ``gpus`` GPUs. All nodes have to see the run directory.

    Parameters
    ----------
    probe : Probe
    missing : {checkpoint: hash of its inputs}
    engine : str
    gpus : float

    Raises
    ------
    CellsFailedError
        Where shards failed; the checkpoints of the others are kept, and the next call goes on with
        what the shards have got to.
    """
    run, on_cpu = probe.run, probe.settings.subject.device == "cpu"
    threads = max(1, *cores_of_nodes(engine)) if on_cpu else 1
    first = probe.checkpoints[0]
    if first in missing:
        tokenizer = tokenizer_of(probe.settings, first)
        tokens = tokenize(probe.table, tokenizer, probe.settings.position)
        say_what_is_measured(probe, tokens, tokenizer)
    with start_workers(engine, 0, cpus=threads, gpus=0 if on_cpu else gpus) as workers:
        shards: list[Shard] = []
        for checkpoint, inputs in missing.items():
            directory = run.partial(run.states_at(checkpoint.step), inputs).absolute()
            wanted = min(max(1, workers.count // len(missing)), len(probe.table))
            n = shards_begun(directory) or wanted
            about = (run.path.absolute(), directory, probe.settings, checkpoint)
            shards += [Shard(*about, i, n, threads) for i in range(n)]
        failed: dict[str, str] = {}
        done: dict[Checkpoint, list[Read]] = {}
        for shard, read, error in workers.outcomes(harvest_shard, shards, "harvest"):
            its = done.setdefault(shard.checkpoint, [])
            if error:
                failed[shard.name] = reason(error)
            elif its and its[0].about != read.about:
                failed[shard.name] = "its machine has other weights or another tokenizer there"
            else:
                its.append(read)
            if len(its) == shard.n:
                _finish(probe, shard, its)
    if failed:
        raise CellsFailedError(failed)


def _finish(probe: Probe, shard: Shard, reads: list[Read]) -> None:
    """Make the checkpoint whole whose shards are all read."""
    (tokens,) = (read.tokens for read in reads if read.tokens is not None)
    tokenizer = tokenizer_of(shard.settings, shard.checkpoint)
    finish_checkpoint(shard.directory, reads[0].about, tokens, tokenizer)
    probe.run.fill(probe.run.states_at(shard.checkpoint.step))


def harvest_shard(shard: Shard) -> Read:
    """Read a shard of the prompts: what a worker does."""
    need_seen(shard.directory)
    torch.set_num_threads(shard.threads)
    table = Probe(RunDir(shard.run), shard.settings).table
    subject, tokens, names = open_model(shard.settings, shard.checkpoint, table)
    # In the order of reading, so that the batches are those of a harvest in one go.
    order = subject.reading_order(tokens.prompts)
    begin, end = (len(order) * i // shard.n for i in (shard.i, shard.i + 1))
    place = shard_directory(shard.directory, shard.i, shard.n)
    place.mkdir(exist_ok=True)
    harvest_to(place, subject, tokens.prompts, names, shard=order[begin:end])
    about = about_model(shard.checkpoint, subject, names)
    return Read(about, tokens if shard.i == 0 else None)

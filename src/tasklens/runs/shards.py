"""Stage states on a cluster: each worker reads a shard of the prompts, with a replica."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tasklens.core.errors import CellsFailedError
from tasklens.core.workers import cores_of_nodes, need_seen, reason, start_workers
from tasklens.data.tokenize import Tokenized
from tasklens.runs.directory import RunDir
from tasklens.runs.kept_reading import keep_reading
from tasklens.runs.model_run import ModelRun
from tasklens.runs.settings import ModelRunSettings
from tasklens.runs.stage_states import (
    Part,
    finish_checkpoint,
    model_facts,
    open_model,
    show_measured_tokens,
    tokenize_at_all,
    tokenizer_of,
)
from tasklens.runs.states_on_disk import (
    harvest_to,
    keep_layout,
    shard_directory,
    shards_begun,
)


@dataclass(frozen=True)
class Shard:
    """The i-th of n shards of the prompts, to be read by one model up to one position."""

    run: Path
    directory: Path
    """Where the hidden states of all shards go."""
    settings: ModelRunSettings
    part: Part
    i: int
    n: int
    threads: int

    @property
    def name(self) -> str:
        """The name of the shard in messages."""
        checkpoint, position = self.part
        at = f", {position}" if len(self.settings.positions) > 1 else ""
        return f"step {checkpoint.step}{at}, shard {self.i + 1} of {self.n}"


class ShardResult(NamedTuple):
    """Result of a worker for its shard."""

    facts: dict[str, Any]
    tokens: Tokenized | None
    """Of all prompts; from the first shard only."""


def harvest_on_cluster(run: ModelRun, missing: dict[Part, str], engine: str, gpus: float) -> None:
    """Harvest checkpoints on a cluster, each in shards if there are more workers than models.

    A replica takes the CPUs of a node, or ``gpus`` GPUs. All nodes have to see the run directory.
    CellsFailedError if shards failed: the checkpoints of the others are kept, and the next call
    resumes what the failed shards have begun.
    """
    directory, settings = run.directory, run.settings
    on_cpu = settings.subject.device == "cpu"
    threads = max(1, *cores_of_nodes(engine)) if on_cpu else 1
    first = run.checkpoints[0]
    if any(part.checkpoint is first for part in missing):
        tokenizer = tokenizer_of(settings, first)
        tokens = tokenize_at_all(settings, run.table, tokenizer, settings.states.max_length)
        show_measured_tokens(run, tokens, tokenizer)
    with start_workers(engine, 0, cpus=threads, gpus=0 if on_cpu else gpus) as workers:
        shards: list[Shard] = []
        for part, inputs in missing.items():
            target = run.states_at(part.checkpoint.step, part.position)
            partial = directory.partial(target, inputs).absolute()
            keep_layout(partial, in_shards=True)
            wanted = min(max(1, workers.count // len(missing)), len(run.table))
            n = shards_begun(partial) or wanted
            common = (directory.path.absolute(), partial, settings, part)
            shards += [Shard(*common, i, n, threads) for i in range(n)]
        failed: dict[str, str] = {}
        results: dict[Part, list[ShardResult]] = {}
        for shard, result, error in workers.outcomes(harvest_shard, shards, "states", "shard"):
            done = results.setdefault(shard.part, [])
            if error:
                failed[shard.name] = reason(error)
            elif done and not _same_model(done[0].facts, result.facts):
                failed[shard.name] = (
                    "the machine of the worker has other weights or another tokenizer"
                )
            else:
                done.append(result)
            if len(done) == shard.n:
                _finish(run, shard, done)
    if failed:
        raise CellsFailedError(failed)


def _same_model(facts: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two facts are of one model, however much memory each worker has."""
    return facts | {"reading": None} == other | {"reading": None}


def _finish(run: ModelRun, shard: Shard, results: list[ShardResult]) -> None:
    """Complete the checkpoint, all shards of which are read."""
    (tokens,) = (result.tokens for result in results if result.tokens is not None)
    checkpoint, position = shard.part
    tokenizer = tokenizer_of(shard.settings, checkpoint)
    finish_checkpoint(shard.directory, results[0].facts, tokens, tokenizer)
    run.directory.fill(run.states_at(checkpoint.step, position))


def harvest_shard(shard: Shard) -> ShardResult:
    """Read a shard of the prompts: the work of a worker."""
    need_seen(shard.directory)
    torch.set_num_threads(shard.threads)
    table = ModelRun(RunDir(shard.run), shard.settings).table
    checkpoint, position = shard.part
    opened = open_model(shard.settings, checkpoint, table)
    subject, names, tokens = opened.subject, opened.names, opened.tokens[position]
    shard_path = shard_directory(shard.directory, shard.i, shard.n)
    shard_path.mkdir(exist_ok=True)
    keep_reading(shard_path, subject)
    # In the order of reading, so that the batches are those of a harvest in one process.
    order = subject.reading_order(tokens.prompts)
    begin, end = (len(order) * i // shard.n for i in (shard.i, shard.i + 1))
    harvest_to(shard_path, subject, tokens.prompts, names, shard=order[begin:end])
    facts = model_facts(checkpoint, opened, position)
    return ShardResult(facts, tokens if shard.i == 0 else None)

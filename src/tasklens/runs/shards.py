"""Stage states on a cluster: each worker reads a shard of the prompts, with a replica."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tasklens.core.errors import CellsFailedError
from tasklens.core.workers import cores_of_nodes, need_seen, reason, start_workers
from tasklens.data.token_prompts import at_once
from tasklens.data.tokenize import Tokenized
from tasklens.models.checkpoint_series import Checkpoint
from tasklens.runs.directory import RunDir
from tasklens.runs.kept_reading import keep_reading
from tasklens.runs.model_run import ModelRun
from tasklens.runs.opened_model import open_model, tokenize_at_all, tokenizer_of
from tasklens.runs.settings import ModelRunSettings
from tasklens.runs.stage_states import (
    Part,
    begin_checkpoint,
    finish_checkpoint,
    keep_whole_answers,
    model_facts,
    show_measured_tokens,
)
from tasklens.runs.states_on_disk import (
    harvest_to,
    keep_layout,
    shard_directory,
    shards_begun,
)


@dataclass(frozen=True)
class Shard:
    """The i-th of n shards of the prompts, to be read by one model, at all positions at once."""

    run: Path
    settings: ModelRunSettings
    checkpoint: Checkpoint
    directories: dict[str, Path]
    """Where the hidden states of all shards go, by position."""
    inputs: tuple[str, ...]
    """The hash of what they depend on, of each position."""
    i: int
    n: int
    threads: int

    @property
    def name(self) -> str:
        """The name of the shard in messages."""
        return f"step {self.checkpoint.step}, shard {self.i + 1} of {self.n}"


class ShardResult(NamedTuple):
    """Result of a worker for its shard."""

    facts: dict[str, dict[str, Any]]
    """Of the model, by position."""
    tokens: dict[str, Tokenized]
    """All prompts, by position; from the first shard only."""


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
    models = list(dict.fromkeys(part.checkpoint for part in missing))
    if first in models:
        tokenizer = tokenizer_of(settings, first)
        tokens = tokenize_at_all(settings, run.table, tokenizer, settings.states.max_length)
        show_measured_tokens(run, tokens, tokenizer)
    with start_workers(engine, 0, cpus=threads, gpus=0 if on_cpu else gpus) as workers:
        shards: list[Shard] = []
        for checkpoint in models:
            parts = {part: each for part, each in missing.items() if part.checkpoint is checkpoint}
            partials = begin_checkpoint(run, parts, in_shards=True)
            wanted = min(max(1, workers.count // len(models)), len(run.table))
            begun = {shards_begun(partial) for partial in partials}
            if len(begun) > 1:  # with other positions
                for partial in partials:
                    keep_layout(partial, in_shards=False)
            n = (begun.pop() if len(begun) == 1 else 0) or wanted
            directories = dict(zip((part.position for part in parts), partials, strict=True))
            common = (directory.path.absolute(), settings, checkpoint, directories)
            shards += [Shard(*common, tuple(parts.values()), i, n, threads) for i in range(n)]
        failed: dict[str, str] = {}
        results: dict[Checkpoint, list[ShardResult]] = {}
        for shard, result, error in workers.outcomes(harvest_shard, shards, "states", "shard"):
            done = results.setdefault(shard.checkpoint, [])
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


def _same_model(facts: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> bool:
    """Return whether two facts are of one model, however much memory each worker has."""
    return all(facts[at] | {"reading": None} == other[at] | {"reading": None} for at in facts)


def _finish(run: ModelRun, shard: Shard, results: list[ShardResult]) -> None:
    """Complete the checkpoint, all shards of which are read."""
    (tokens,) = (result.tokens for result in results if result.tokens)
    tokenizer = tokenizer_of(shard.settings, shard.checkpoint)
    for position, partial in shard.directories.items():
        finish_checkpoint(partial, results[0].facts[position], tokens[position], tokenizer)
    for position in shard.directories:
        run.directory.fill(run.states_at(shard.checkpoint.step, position))


def harvest_shard(shard: Shard) -> ShardResult:
    """Read a shard of the prompts: the work of a worker."""
    for partial in shard.directories.values():
        need_seen(partial)
    torch.set_num_threads(shard.threads)
    table = ModelRun(RunDir(shard.run), shard.settings).table
    opened = open_model(shard.settings, shard.checkpoint, table)
    subject, names = opened.subject, opened.names
    tokens = {position: opened.tokens[position] for position in shard.directories}
    paths = [shard_directory(each, shard.i, shard.n) for each in shard.directories.values()]
    for path in paths:
        path.mkdir(exist_ok=True)
    keep_reading(paths, subject, shard.inputs)
    prompts = at_once([each.prompts for each in tokens.values()])
    # In the order of reading, so that the batches are those of a harvest in one process.
    order = subject.reading_order(prompts)
    begin, end = (len(order) * i // shard.n for i in (shard.i, shard.i + 1))
    harvest_to(paths, subject, prompts, names, shard=order[begin:end])
    for path, each in zip(paths, tokens.values(), strict=True):
        keep_whole_answers(shard.settings, path, subject, each, order[begin:end])
    facts = {position: model_facts(shard.checkpoint, opened, position) for position in tokens}
    return ShardResult(facts, tokens if shard.i == 0 else {})

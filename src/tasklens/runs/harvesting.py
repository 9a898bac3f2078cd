"""Stage states of a probe: models run on its prompts, and what is odd about a series of them."""

import dataclasses
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from tqdm import tqdm


from tasklens.core.errors import InputError
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.hf_loading import TOKENIZER_FILES, load_subject, load_tokenizer, tokenizer_place
from tasklens.runs.plan import check_space
from tasklens.runs.probe_dir import ABOUT, TOKENS, WORDS, Probe, checkpoints_of
from tasklens.runs.settings import ModelRunSettings
from tasklens.data.labelled_prompts import LabelledPrompts, read_prompts
from tasklens.core.seeds import derived_seed
from tasklens.data.rows import Prompts
from tasklens.core.files import digest
from tasklens.models.checkpoint_series import Checkpoint, fetch, file_times, identity, missing_steps
from tasklens.runs.states_on_disk import ANSWER, harvest_to, read_states
from tasklens.data.tokenize import Tokenized, shown, tokenize


class Opened(NamedTuple):
    """A model that is loaded, with the prompts as it reads them."""

    subject: HuggingFaceSubject
    tokens: Tokenized
    names: tuple[str, ...]
    """The states that are wanted of it."""


def open_model(settings: ModelRunSettings, checkpoint: Checkpoint, table: LabelledPrompts) -> Opened:
    """Load a model, and read the prompts with its tokenizer.

    Raises
    ------
    InputError
        Where one of them cannot be read, a prompt is too long, or a state is not there.
    """
    said = settings.subject
    directory = fetch(checkpoint, trust_remote_code=said.trust_remote_code)
    subject = load_subject(
        directory,
        tokenizer=_tokenizer_directory(settings, directory),
        device=said.device,
        dtype=said.dtype,
        trust_remote_code=said.trust_remote_code,
        max_tokens=said.max_tokens,
        untrained=derived_seed(settings.seed, "untrained") if checkpoint.untrained else None,
    )
    names = _names(subject, said.states, checkpoint.name)
    limits = [n for n in (settings.position.max_length, subject.max_length) if n]
    position = settings.position.changed(max_length=min(limits, default=0))
    tokens = tokenize(table, subject.tokenizer, position)
    subject.check(tokens.prompts)
    return Opened(subject, tokens, names)


def describe(settings: ModelRunSettings) -> str:
    """Return what a probe would measure, token by token; no model is loaded, nothing is written."""
    table = read_prompts(settings.prompts, settings.seed)
    checkpoints = checkpoints_of(settings)
    tokenizer = tokenizer_of(settings, checkpoints[0])
    tokens = tokenize(table, tokenizer, settings.position)
    position = tokens.prompts.position
    lines = ["models:"]
    lines += [f"  step {c.step}: {c.name}" for c in checkpoints]
    lines.append(f"prompts: {len(table):,}, with {len(set(table.label))} labels")
    lines += [f"  {split}: {s.stop - s.start:,}" for split, s in table.splits.items()]
    lines.append(
        f"tokens up to the measured one: {position.min() + 1} to {position.max() + 1}, "
        f"{np.mean(position + 1):.1f} on average"
    )
    if table.output is not None:
        known = np.count_nonzero(tokens.target >= 0)
        lines.append(f"the first token of the output follows it in {known:,} prompts")
    over = "the mean over" if settings.position.over == "mean" else "measured is"
    lines.append(f"{over} what stands in [[ ]]; after -> what should follow:")
    return "\n".join(lines) + "\n" + shown(table, tokens, tokenizer)


def tokenizer_of(settings: ModelRunSettings, checkpoint: Checkpoint) -> Any:
    """Load the tokenizer that reads the prompts for a model."""
    trusted = settings.subject.trust_remote_code
    directory = fetch(checkpoint, trust_remote_code=trusted)
    place = _tokenizer_directory(settings, directory)
    return load_tokenizer(place, trust_remote_code=trusted)


def harvest_models(probe: Probe, harvest: Callable[[Probe, dict[Checkpoint, str]], object]) -> None:
    """Stage states: run each model on the prompts and keep its states.

    Parameters
    ----------
    probe : Probe
    harvest : callable
        What does it, of the checkpoints that are missing, with the hash of what each depends on:
        `harvest_here`, or `tasklens.runs.sharding.harvest_on_cluster`.
    """
    run, settings = probe.run, probe.settings
    table = settings.model_dump()
    common = [run.output_hash("data"), table["position"], table["subject"]]
    inputs = {
        c: digest([common, identity(c), _tokenizer_files(settings, c)]) for c in probe.checkpoints
    }
    missing = {c: its for c, its in inputs.items() if not run.made_from(run.states_at(c.step), its)}
    if missing:
        run.unfinish("states")  # a file of it has gone
    with run.stage("states", digest([*inputs.values()])) as finish:
        if finish is None:
            return
        harvest(probe, missing)
        run.drop_partial(run.states)
        abouts = [probe.about(c.step) for c in probe.checkpoints]
        warnings = doubts(abouts)
        for warning in warnings:
            print(f"tasklens: warning: {warning}", file=sys.stderr)
        files = [
            run.states_at(c.step) / name for c in probe.checkpoints for name in (ABOUT, TOKENS)
        ]
        finish(files, checkpoints=abouts, warnings=warnings)


def harvest_here(probe: Probe, missing: dict[Checkpoint, str], first: Opened | None = None) -> None:
    """Harvest checkpoints in this process; ``first`` is the first of all where it is open."""
    run, n, n_models = probe.run, len(probe.table), len(probe.checkpoints)
    done = n * (n_models - len(missing))
    bar = tqdm(desc="harvest", unit="prompt", total=n * n_models, initial=done, disable=None)
    with bar:
        for checkpoint, inputs in missing.items():
            opened = first if checkpoint is probe.checkpoints[0] else None
            opened = opened or open_model(probe.settings, checkpoint, probe.table)
            subject, tokens, names = opened
            if checkpoint is probe.checkpoints[0]:
                say_what_is_measured(probe, tokens, subject.tokenizer)
                width = subject.model.config.get_text_config().hidden_size
                n_bytes = 4 * n * width * len(names) * n_models
                check_space(run.path, n_bytes, "ask for fewer --states, prompts or checkpoints")
            partial = run.partial(run.states_at(checkpoint.step), inputs)
            harvest_to(partial, subject, tokens.prompts, names, bar.update)
            about = about_model(checkpoint, subject, names)
            finish_checkpoint(partial, about, tokens, subject.tokenizer)
            run.fill(run.states_at(checkpoint.step))


def say_what_is_measured(probe: Probe, tokens: Tokenized, tokenizer: Any) -> None:
    """Print some prompts with what is measured in them."""
    examples = shown(probe.table, tokens, tokenizer)
    print(f"tasklens: measured is what stands in [[ ]]:\n{examples}", end="", file=sys.stderr)


def about_model(
    checkpoint: Checkpoint, subject: HuggingFaceSubject, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return what is kept of a model."""
    return {
        "step": checkpoint.step,
        "name": checkpoint.name,
        "weights": subject.weights_hash(),
        "tokenizer": tokenizer_hash(subject.tokenizer),
        "states": list(names),
    }


def finish_checkpoint(
    partial: Path, about: dict[str, Any], tokens: Tokenized, tokenizer: Any
) -> None:
    """Write what is kept of a checkpoint beside its states, which are all there."""
    words = _words(tokenizer, read_states(partial, ANSWER), tokens.prompts)
    arrays = {"ids": tokens.prompts.ids, "position": tokens.prompts.position}
    arrays |= {"begin": tokens.begin, "target": tokens.target}
    (partial / WORDS).write_text(json.dumps(words, indent=1) + "\n")
    (partial / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    (partial / TOKENS).write_bytes(safetensors.numpy.save(arrays))


def _words(tokenizer: Any, answer: npt.NDArray[Any], prompts: Prompts) -> dict[str, str]:
    """Return what the tokens that were answered or measured are called, by number."""
    measured = prompts.ids[np.arange(len(prompts)), prompts.position]
    tokens = np.unique(np.concatenate([answer, measured])).tolist()
    words = {str(token): tokenizer.decode([token]).strip() for token in tokens}
    return {token: word or f"token {token}" for token, word in words.items()}


def _tokenizer_files(settings: ModelRunSettings, checkpoint: Checkpoint) -> list[object]:
    """Return what tells a tokenizer that is not in the model's own directory from another."""
    place = settings.subject.tokenizer or checkpoint.directory
    place = None if place is None else tokenizer_place(place)
    return [] if place in (None, checkpoint.directory) else file_times(place, TOKENIZER_FILES)


def _tokenizer_directory(settings: ModelRunSettings, directory: Path) -> Path:
    wanted = settings.subject.tokenizer or directory
    place = tokenizer_place(wanted)
    if place is None:
        raise InputError(
            f"{wanted}: no tokenizer there; name its directory with --set subject.tokenizer=DIR"
        )
    return place


def _names(subject: HuggingFaceSubject, wanted: tuple[str, ...], model: str) -> tuple[str, ...]:
    if "all" in wanted:
        return subject.names
    for name in wanted:
        if name not in subject.names:
            raise InputError(f"{model}: no state {name!r}; it has {', '.join(subject.names)}")
    return tuple(name for name in subject.names if name in wanted)


def tokenizer_hash(tokenizer: Any) -> str:
    """Return the SHA-256 of what a tokenizer does, as far as its vocabulary and its rules say."""
    fast = getattr(tokenizer, "is_fast", False)
    return digest(tokenizer.backend_tokenizer.to_str() if fast else tokenizer.get_vocab())


def doubts(abouts: list[dict[str, Any]]) -> list[str]:
    """Return what is odd in a series of checkpoints, in words, for a warning and the manifest."""
    found = []
    seen: dict[str, str] = {}
    for about in abouts:
        if about["weights"] in seen:
            found.append(f"{about['name']} has the same weights as {seen[about['weights']]}")
        seen.setdefault(about["weights"], about["name"])
    for before, about in pairwise(abouts):
        if about["tokenizer"] != before["tokenizer"]:
            found.append(f"{about['name']} has another tokenizer than {before['name']}")
    missing = missing_steps([about["step"] for about in abouts])
    if missing:
        found.append(f"steps are missing in the series: {', '.join(map(str, missing))}")
    return found

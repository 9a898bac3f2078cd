"""Stage states of a model run: every model reads the prompts, and its hidden states are kept."""

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from tasklens.core.files import digest
from tasklens.core.progress import inform, progress, warn
from tasklens.core.workers import LOCAL
from tasklens.data.chats import HEADER
from tasklens.data.measured_parts import measured_parts, parse_position
from tasklens.data.names import listed
from tasklens.data.token_prompts import Prompts, at_once
from tasklens.data.tokenize import Tokenized, shown
from tasklens.models.checkpoint_series import (
    Checkpoint,
    fetch,
    identity,
    step_notes,
)
from tasklens.models.gguf_files import stored_as
from tasklens.models.hf_loading import (
    check_model,
)
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.hub_series import check_revisions
from tasklens.models.licences import licence_of
from tasklens.models.series_steps import missing_steps
from tasklens.models.whole_answers import whole_answers
from tasklens.runs.estimate import check_space
from tasklens.runs.kept_reading import keep_reading
from tasklens.runs.model_run import FACTS, TEXTS, TOKEN_NAMES, TOKENS, ModelRun
from tasklens.runs.opened_model import (
    OpenedModel,
    open_model,
    tokenizer_files,
    tokenizer_hash,
)
from tasklens.runs.settings import ModelRunSettings
from tasklens.runs.states_on_disk import (
    ANSWER,
    WHOLE,
    finish_harvest,
    harvest_to,
    keep_layout,
    read_states,
)


class Part(NamedTuple):
    """A part of the stage's work: the hidden states of one model at one position."""

    checkpoint: Checkpoint
    position: str


def check_models(run: ModelRun, engine: str = LOCAL) -> None:
    """Raise InputError for prompts or models that cannot be measured, before anything is written.

    The first model stays open for `harvest`. On a cluster no model is opened in this process.
    """
    settings = run.settings
    table = run.asked
    for split, rows in table.splits.items():
        settings.check_size(split, rows.stop - rows.start)
    for position in settings.states.positions:
        if table.messages is None:  # otherwise the text depends on the tokenizer
            measured_parts(table, position)
    notes = step_notes(run.checkpoints)
    if run.directory.mark("states") is None:
        notes += check_revisions(run.checkpoints)
    for note in notes:
        warn(note)
    if engine == LOCAL and run.directory.mark("data") is None:
        first, *others = run.checkpoints
        for each in others:
            if each.directory is not None:
                trusted = settings.subject.trust_remote_code
                check_model(each.directory, each.base, each.untrained, trust_remote_code=trusted)
        with progress(f"load {Path(first.name).name}", lasting=False):
            run.opened = open_model(settings, first, table)


def harvest_models(run: ModelRun, engine: str = LOCAL, gpus: float = 1.0) -> None:
    """Run each model on the prompts, on a cluster by replicas, and keep its hidden states."""
    run.need("data")
    directory = run.directory
    inputs = _inputs(run)
    missing = {
        part: each
        for part, each in inputs.items()
        if not directory.made_from(run.states_at(part.checkpoint.step, part.position), each)
    }
    if missing:
        directory.unfinish("states")  # a file of it is gone
    sources = list(inputs.values())
    with directory.stage("states", run.inputs("states", sources)) as finish:
        if finish is None:
            return
        if engine == LOCAL:
            _harvest_in_this_process(run, missing)
        else:
            from tasklens.runs.shards import harvest_on_cluster

            harvest_on_cluster(run, missing, engine, gpus)
        steps = [run.states_at(part.checkpoint.step, part.position) for part in inputs]
        for parent in {states.parent for states in steps}:
            directory.drop_partial(parent)
        facts_by_step = [run.facts(c.step) for c in run.checkpoints]
        late = [*doubts(facts_by_step), *_answer_doubts(run)]
        for warning in late:
            warn(warning)
        read = [note for facts in facts_by_step for note in facts["notes"]]
        warnings = [*dict.fromkeys([*step_notes(run.checkpoints), *read]), *late]
        # Those of further positions have no part in what does not depend on them.
        firsts = [run.states_at(c.step) for c in run.checkpoints]
        files = [path for states in firsts for path in directory.files_in(states)]
        finish(files, sources=sources, checkpoints=facts_by_step, warnings=warnings)


def _inputs(run: ModelRun) -> dict[Part, str]:
    """Return the hash of what each part of the work depends on.

    It has the measured part of each text instead of the name of the position. It depends neither on
    the other positions nor on whether the default one is named.
    """
    settings, table = run.settings, run.table
    affecting = settings.affecting("states")
    del affecting["states.positions"]
    common = [affecting, run.directory.output_hash("data")]
    inputs = {}
    for position in run.positions:
        named = parse_position(table, position)
        # The text of messages depends on the tokenizer.
        parts: Any = (
            table.columns.get(named[0]) if table.messages else measured_parts(table, position)
        )
        measured = [parts, named]
        for c in run.checkpoints:
            model = [identity(c), tokenizer_files(settings, c)]
            inputs[Part(c, position)] = digest([common, measured, *model])
    return inputs


def _harvest_in_this_process(run: ModelRun, missing: dict[Part, str]) -> None:
    n, n_parts = len(run.table), len(run.checkpoints) * len(run.positions)
    with progress("states", n * n_parts, "prompt", n * (n_parts - len(missing))) as bar:
        for checkpoint in dict.fromkeys(part.checkpoint for part in missing):
            is_first = checkpoint is run.checkpoints[0]
            opened = run.opened if is_first else None
            opened = opened or open_model(run.settings, checkpoint, run.table)
            subject, tokens, names = opened
            parts = {part: each for part, each in missing.items() if part.checkpoint is checkpoint}
            if is_first:
                show_measured_tokens(run, tokens, subject.tokenizer)
                width = sum(subject.widths[name] for name in names)
                n_bytes = 4 * n * width * len(missing)
                remedy = "ask for fewer --states, positions, prompts or checkpoints"
                check_space(run.directory.path, n_bytes, remedy)
            harvest_checkpoint(run, opened, parts, bar.update)
            run.opened = None
            del opened, subject  # before the next model needs the memory


def harvest_checkpoint(
    run: ModelRun,
    opened: OpenedModel,
    parts: dict[Part, str],
    on_prompts: Callable[[int], object] = lambda n: None,
) -> None:
    """Let an open model read the prompts once, and keep its states at the position of each part.

    `on_prompts` is called with the number of prompts done, once for each position of a prompt.
    """
    subject, tokens, names = opened
    partials = begin_checkpoint(run, parts, in_shards=False)
    keep_reading(partials, subject, list(parts.values()))
    prompts = at_once([tokens[part.position].prompts for part in parts])
    harvest_to(partials, subject, prompts, names, on_prompts)
    for part, partial in zip(parts, partials, strict=True):
        keep_whole_answers(run.settings, partial, subject, tokens[part.position])
        facts = model_facts(part.checkpoint, opened, part.position)
        finish_checkpoint(partial, facts, tokens[part.position], subject.tokenizer)
    for part in parts:
        run.directory.fill(run.states_at(part.checkpoint.step, part.position))


def begin_checkpoint(run: ModelRun, parts: dict[Part, str], *, in_shards: bool) -> list[Path]:
    """Return the directories to fill with the hidden states of a checkpoint, one per position."""
    partials = []
    for part, inputs in parts.items():
        target = run.states_at(part.checkpoint.step, part.position)
        partials.append(run.directory.partial(target, inputs).absolute())
        keep_layout(partials[-1], in_shards=in_shards)
    return partials


def keep_whole_answers(
    settings: ModelRunSettings,
    partial: Path,
    subject: HuggingFaceSubject,
    tokens: Tokenized,
    indices: npt.NDArray[np.int64] | None = None,
) -> None:
    """Write the log-probabilities of whole answers, if they are wanted of these prompts."""
    if tokens.candidates is not None and settings.states.answers == "whole":
        logs = whole_answers(subject.again(), tokens.prompts, tokens.candidates, indices)
        np.save(partial / f"{WHOLE}.npy", logs)


def show_measured_tokens(run: ModelRun, tokens: dict[str, Tokenized], tokenizer: Any) -> None:
    """Print some prompts with what is measured in them, and what is odd about the prompts."""
    for position, each in tokens.items():
        at = f"at the position {position}, " if len(tokens) > 1 else ""
        examples = shown(run.table, each, tokenizer)
        inform(f"{at}measured is what stands in [[ ]]:", *examples.splitlines())
    for note in dict.fromkeys(
        note for each in tokens.values() for note in (*each.notes, *each.answer_notes)
    ):
        warn(note)


def model_facts(checkpoint: Checkpoint, opened: OpenedModel, position: str) -> dict[str, Any]:
    """Return the facts about a model that are kept, with how it has read the prompts."""
    tokens = opened.tokens[position]
    assert opened.subject.reading is not None
    model = opened.subject.model
    dtype = str(model.dtype).removeprefix("torch.")
    if checkpoint.live:  # which began with the weights of a directory, if any
        began = Path(model.name_or_path)
        files = began if model.name_or_path and began.is_dir() else None
    else:
        files = checkpoint.directory or fetch(checkpoint)
    return {
        "step": checkpoint.step,
        "name": checkpoint.name,
        "called": checkpoint.called,
        "untrained": checkpoint.untrained,
        "is_training_step": checkpoint.is_training_step,
        **({"live": True} if checkpoint.live else {}),
        "weights": opened.subject.weights_hash(),
        "licence": licence_of(files, checkpoint.base),
        "stored_as": stored_as(checkpoint.directory, dtype),
        "tokenizer": tokenizer_hash(opened.subject.tokenizer),
        "states": list(opened.names),
        "reading": asdict(opened.subject.reading),
        "special_tokens": tokens.special_tokens,
        "rendered": None if tokens.rendered is None else digest(tokens.rendered.text),
        "notes": [*tokens.notes, *tokens.answer_notes],
    }


def finish_checkpoint(
    partial: Path, facts: dict[str, Any], tokens: Tokenized, tokenizer: Any
) -> None:
    """Write the facts and tokens of a checkpoint, whose hidden states are all written."""
    names = _token_names(tokenizer, read_states(partial, ANSWER), tokens.prompts)
    arrays = {"ids": tokens.prompts.ids, "position": tokens.prompts.position}
    arrays |= {"begin": tokens.begin, "target": tokens.target}
    arrays["answer_at"] = tokens.prompts.answered
    if tokens.candidates is not None:
        arrays["candidates"] = tokens.candidates
    if (table := tokens.rendered) is not None:
        written = {"text": table.text, HEADER: table.columns.get(HEADER)}
        (partial / TEXTS).write_text(json.dumps(written, indent=1) + "\n")
    (partial / TOKEN_NAMES).write_text(json.dumps(names, indent=1) + "\n")
    (partial / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
    (partial / TOKENS).write_bytes(safetensors.numpy.save(arrays))
    finish_harvest(partial)


def _token_names(tokenizer: Any, answer: npt.NDArray[Any], prompts: Prompts) -> dict[str, str]:
    """Return what the tokens that were answered or measured are called, by number."""
    measured = prompts.ids[np.arange(len(prompts)), prompts.position]
    tokens = np.unique(np.concatenate([answer, measured])).tolist()
    names = {str(token): tokenizer.decode([token]).strip() for token in tokens}
    return {token: name or f"token {token}" for token, name in names.items()}


def doubts(facts_by_step: list[dict[str, Any]]) -> list[str]:
    """Return what is odd in a series of checkpoints, as sentences for a warning."""
    sentences = []
    seen: dict[str, str] = {}
    for facts in facts_by_step:
        if facts["weights"] in seen:
            sentences.append(f"{facts['name']} has the same weights as {seen[facts['weights']]}")
        seen.setdefault(facts["weights"], facts["name"])
    for before, facts in pairwise(facts_by_step):
        if facts["tokenizer"] != before["tokenizer"]:
            sentences.append(f"{facts['name']} has another tokenizer than {before['name']}")
    shared = set.intersection(*(set(facts["states"]) for facts in facts_by_step))
    for facts in facts_by_step:
        if others := [state for state in facts["states"] if state not in shared]:
            sentences.append(
                f"{facts['name']} has hidden states that another model lacks and that are left "
                f"out: {listed(others)}"
            )
    missing = missing_steps([facts["step"] for facts in facts_by_step])
    if missing:
        sentences.append(f"steps are missing in the series: {', '.join(map(str, missing))}")
    return sentences


def _answer_doubts(run: ModelRun) -> list[str]:
    """Return what is odd in the answers of the last checkpoint, as sentences for a warning."""
    last = run.checkpoints[-1]
    target = run.tokens(last.step).target
    right = target[target >= 0]
    answers = np.asarray(read_states(run.directory.states_at(last.step), ANSWER))
    if not len(right) or np.isin(answers, right).any():
        return []
    tokens, counts = np.unique(answers, return_counts=True)
    (usual,) = run.token_names(last.step, tokens[[counts.argmax()]])
    return [
        f"{last.name} never answers with the first token of any output, mostly with {usual!r}; the "
        "accuracy of 0 may come from the format of the prompts"
    ]

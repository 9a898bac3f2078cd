"""Open the models of a run with their tokenizers, and read its prompts with these."""

from pathlib import Path
from typing import Any, NamedTuple

from tasklens.core.errors import InputError
from tasklens.core.files import digest
from tasklens.core.seeds import derived_seed
from tasklens.data.chats import rendered
from tasklens.data.labelled_prompts import LabelledPrompts
from tasklens.data.measured_parts import default_position
from tasklens.data.names import state_order
from tasklens.data.tokenize import Tokenized, tokenize
from tasklens.models.checkpoint_series import (
    Checkpoint,
    fetch,
    file_times,
)
from tasklens.models.hf_loading import (
    TOKENIZER_FILES,
    load_subject,
    load_tokenizer,
    tokenizer_directory,
)
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.subject import states_among
from tasklens.runs.directory import check_own_checkpoint
from tasklens.runs.settings import ModelRunSettings


class OpenedModel(NamedTuple):
    """A model that is loaded, with the prompts as it reads them."""

    subject: HuggingFaceSubject
    tokens: dict[str, Tokenized]
    """The prompts up to each position, by its name."""
    names: tuple[str, ...]
    """The hidden states that are wanted of it."""


def open_model(
    settings: ModelRunSettings, checkpoint: Checkpoint, table: LabelledPrompts
) -> OpenedModel:
    """Load a model, and read the prompts with its tokenizer.

    InputError if one cannot be read, a prompt is too long, or a hidden state does not exist.
    """
    return opened_model(settings, load_model(settings, checkpoint), table, checkpoint.name)


def opened_model(
    settings: ModelRunSettings, subject: HuggingFaceSubject, table: LabelledPrompts, name: str
) -> OpenedModel:
    """Return a model that is loaded with the prompts as it reads them; InputError as open_model."""
    names = _state_names(subject, settings.subject.states, name)
    limits = [n for n in (settings.states.max_length, subject.max_length) if n]
    tokens = tokenize_at_all(settings, table, subject.tokenizer, min(limits, default=0))
    for each in tokens.values():
        subject.check(each.prompts)
    return OpenedModel(subject, tokens, names)


def load_model(settings: ModelRunSettings, checkpoint: Checkpoint) -> HuggingFaceSubject:
    """Load a model with its tokenizer; InputError if one cannot be read."""
    wanted = settings.subject
    directory = fetch(checkpoint, trust_remote_code=wanted.trust_remote_code)
    for each in filter(None, (directory, checkpoint.base)):
        check_own_checkpoint(each)
    return load_subject(
        directory,
        step=checkpoint.step,
        tokenizer=_tokenizer_directory(settings, checkpoint, directory),
        base=checkpoint.base,
        device=wanted.device,
        dtype=wanted.dtype,
        trust_remote_code=wanted.trust_remote_code,
        max_tokens=wanted.max_tokens,
        untrained=derived_seed(settings.seed, "untrained") if checkpoint.untrained else None,
    )


def tokenize_at_all(
    settings: ModelRunSettings, table: LabelledPrompts, tokenizer: Any, max_length: int
) -> dict[str, Tokenized]:
    """Return the prompts up to each position that the settings name, or the default one."""
    states = settings.states
    positions = states.positions or (default_position(table),)
    settings.check_figure(positions)
    table = rendered(table, tokenizer, generation_prompt=states.generation_prompt)
    return {
        position: tokenize(
            table,
            tokenizer,
            position,
            special_tokens=states.special_tokens,
            max_length=max_length,
            candidates=position == positions[0],
        )
        for position in positions
    }


def tokenizer_of(settings: ModelRunSettings, checkpoint: Checkpoint) -> Any:
    """Load the tokenizer that reads the prompts for a model."""
    trusted = settings.subject.trust_remote_code
    directory = fetch(checkpoint, trust_remote_code=trusted)
    path = _tokenizer_directory(settings, checkpoint, directory)
    return load_tokenizer(path, trust_remote_code=trusted)


def tokenizer_files(settings: ModelRunSettings, checkpoint: Checkpoint) -> list[object]:
    """Return what tells a tokenizer outside the model's directory from another."""
    directories = _tokenizer_directories(settings, checkpoint, checkpoint.directory)
    path = directories[0] if directories else None
    return [] if path in (None, checkpoint.directory) else file_times(path, TOKENIZER_FILES)


def _tokenizer_directory(
    settings: ModelRunSettings, checkpoint: Checkpoint, directory: Path
) -> Path:
    directories = _tokenizer_directories(settings, checkpoint, directory)
    if not directories:
        raise InputError(
            f"{settings.subject.tokenizer or directory}: it has no tokenizer; name the directory "
            "of one with --set subject.tokenizer=DIR"
        )
    return directories[0]


def _tokenizer_directories(
    settings: ModelRunSettings, checkpoint: Checkpoint, directory: Path | None
) -> list[Path]:
    """Return the directories that have a tokenizer for a model; the first one counts."""
    named = settings.subject.tokenizer
    places = [Path(named)] if named else [p for p in (directory, checkpoint.base) if p is not None]
    return [path for path in map(tokenizer_directory, places) if path is not None]


def _state_names(
    subject: HuggingFaceSubject, wanted: tuple[str, ...], model: str
) -> tuple[str, ...]:
    try:
        return tuple(sorted(states_among(subject, wanted), key=state_order))
    except InputError as error:
        raise InputError(f"{model}: {error}") from error


def tokenizer_hash(tokenizer: Any) -> str:
    """Return the SHA-256 of a tokenizer's vocabulary and rules."""
    fast = getattr(tokenizer, "is_fast", False)
    return digest(tokenizer.backend_tokenizer.to_str() if fast else tokenizer.get_vocab())

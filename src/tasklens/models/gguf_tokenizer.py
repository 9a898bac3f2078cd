"""Load the tokenizer of a GGUF file, as a tokenizer of transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasklens.core.errors import InputError
from tasklens.core.extras import import_extra
from tasklens.core.progress import warn
from tasklens.core.text import visible
from tasklens.models.foreign_calls import one_line_errors, quiet
from tasklens.models.gguf_header import read_header

_BEGIN = "tokenizer.ggml."
_REMEDY = "name the directory of the model's own with --set subject.tokenizer=DIR"
#: Longer tokens are refused: pairs are made of all parts of a token.
_MAX_TOKEN = 1024
#: Names of llama.cpp for what GPT-2's tokenizer does.
_AS_GPT2 = ("gpt-2", "phi-2")
#: Those that split off each digit, and split the rest as GPT-2's tokenizer does.
_DIGITS_APART = ("smollm", "starcoder", "refact", "command-r")
#: Those with which llama.cpp takes a word that is a token as it is, and begins a text with BOS
#: unless the file states otherwise.
_WHOLE_WORDS = (
    *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    *("jina-v5-nano", "tekken"),
)


def has_tokenizer(file: Path) -> bool:
    """Return whether a GGUF file has a tokenizer; InputError if its header is damaged."""
    return f"{_BEGIN}model" in read_header(file).metadata


def load_gguf_tokenizer(file: Path) -> Any:
    """Load the tokenizer of a GGUF file.

    InputError if transformers cannot make it, or would split texts by another rule.
    """
    transformers = import_extra("transformers")
    import_extra("gguf", "a GGUF file")
    metadata = read_header(file).metadata
    stated = {
        key.removeprefix(_BEGIN): value for key, value in metadata.items() if key.startswith(_BEGIN)
    }
    _check_tokens(file, stated)
    _check_rules(file, stated, metadata.get("general.architecture"))
    try:
        with quiet(), one_line_errors(file):
            # Not from_pretrained, in which files beside the GGUF file would have a part. Not
            # AutoTokenizer: it would read the header once more, by a reader that takes minutes.
            tokenizer = transformers.PreTrainedTokenizerFast(
                name_or_path=str(file.absolute().parent), gguf_file=file.name, local_files_only=True
            )
    except InputError as error:
        raise InputError(f"{error}; {_REMEDY}") from error
    if stated["model"] == "gpt2" and stated.get("pre") in _DIGITS_APART:
        splits = import_extra("tokenizers").pre_tokenizers
        tokenizer.backend_tokenizer.pre_tokenizer = splits.Sequence(
            [splits.Digits(individual_digits=True), splits.ByteLevel(add_prefix_space=False)]
        )
    if stated["model"] == "gpt2" and stated.get("pre") in _WHOLE_WORDS:
        tokenizer.backend_tokenizer.model.ignore_merges = True
        if "add_bos_token" not in stated:
            tokenizer.add_bos_token = True
            tokenizer.update_post_processor()
    return tokenizer


def _check_tokens(file: Path, stated: Mapping[str, Any]) -> None:
    """Raise InputError for lists that do not fit each other, or numbers of no token."""
    tokens = stated.get("tokens")
    if not isinstance(tokens, list) or not tokens or not isinstance(tokens[0], str):
        raise InputError(f"{file}: its tokenizer has no list of tokens; {_REMEDY}")
    longest = max(map(len, tokens))
    if longest > _MAX_TOKEN:
        raise InputError(f"{file}: its tokenizer has a token of {longest:,} characters; {_REMEDY}")
    for name in ("scores", "token_type"):
        others = stated.get(name, tokens)
        if not isinstance(others, list) or len(others) != len(tokens):
            raise InputError(
                f"{file}: its tokenizer has {len(tokens)} tokens, and a list {name} of another "
                f"length; {_REMEDY}"
            )
    for name, number in stated.items():
        if name.endswith("_token_id") and number not in range(len(tokens)):
            raise InputError(
                f"{file}: its {_BEGIN}{visible(name)} is {visible(str(number)[:50])}, but it has "
                f"{len(tokens)} tokens; {_REMEDY}"
            )


def _check_rules(file: Path, stated: Mapping[str, Any], architecture: Any) -> None:
    """Raise InputError for rules that transformers does not read from GGUF files."""
    pieces = stated["model"] == "llama"
    adds_space = pieces and not str(architecture).startswith("gemma")
    if stated.get("add_space_prefix", adds_space) is not adds_space:
        raise InputError(
            f"{file}: its tokenizer adds {'no' if adds_space else 'a'} space before a text, which "
            f"transformers does not read from GGUF files; {_REMEDY}"
        )
    rule = stated.get("pre", "default")
    if stated["model"] != "gpt2" or rule in (*_AS_GPT2, *_DIGITS_APART, *_splits()):
        return
    if rule != "default":
        raise InputError(
            f"{file}: its tokenizer splits a text by the rule {str(rule)[:50]!r}, which "
            f"transformers does not read from GGUF files; {_REMEDY}"
        )
    if architecture != "gpt2":
        warn(
            f"{file} does not name the rule by which its tokenizer splits a text; it is split as "
            f"for GPT-2; otherwise {_REMEDY}"
        )


def _splits() -> tuple[str, ...]:
    """Return the names of the rules that transformers reads from GGUF files."""
    try:
        from transformers.integrations.gguf import gguf_tokenizer_mapping
    except ImportError:  # an older release has none
        return ()
    return tuple(gguf_tokenizer_mapping.GGUF_PRE_TOKENIZER_SPLITS)

"""Refuse a model whose files name files outside of its directory, before these are read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasklens.core.errors import InputError
from tasklens.models.model_files import try_object

#: A class in a module of code that comes with the model.
_CLASS = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")


def check_named_files(directory: Path, *, trust_remote_code: bool = False) -> None:
    """Raise InputError if a file in a model's or tokenizer's directory names one that is outside.

    The files themselves may be links, such as those of the hub's cache. Code is checked only if it
    would be run. Files that are no JSON are left to transformers.
    """
    for index in sorted(directory.glob("*.json")):
        if ".index." in index.name:
            weight_map = try_object(index).get("weight_map")
            _check_names(index, weight_map.values() if isinstance(weight_map, dict) else ())
    config, tokenizer = directory / "config.json", directory / "tokenizer_config.json"
    _check_names(config, [try_object(config).get("transformers_weights") or "model.safetensors"])
    names = try_object(tokenizer).get("fast_tokenizer_files")
    _check_names(tokenizer, names if isinstance(names, list) else ())
    if trust_remote_code:
        for path in (config, tokenizer):
            for name in _strings(try_object(path).get("auto_map")):
                if not _CLASS.fullmatch(name):
                    raise InputError(
                        f"{path}: auto_map names the code {name!r}: should be MODULE.CLASS, with "
                        "MODULE.py in the same directory"
                    )


def _check_names(path: Path, names: Any) -> None:
    for name in names:
        if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
            raise InputError(f"{path} names the file {name!r}: should be one in the same directory")


def _strings(value: Any) -> Iterator[str]:
    """Yield the strings in a value of nested lists and dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        yield from _strings([*value.values()])

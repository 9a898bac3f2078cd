"""Find the licence that the files of a model state."""

import re
from pathlib import Path

from tasklens.core.text import visible
from tasklens.models.gguf_files import gguf_file
from tasklens.models.gguf_header import read_header
from tasklens.models.model_files import try_object

#: The licence of a model whose files state none.
NOT_STATED = "not stated"
#: Characters of a licence that are kept, and bytes of a model card that are read.
LONGEST, CARD_BYTES = 100, 2**16


def licence_of(*paths: Path | None) -> str:
    """Return the licence that the first of some models states, or `NOT_STATED`.

    A GGUF file states it in its metadata, a directory in the head of its model card, README.md, or
    in config.json. An adapter without one has that of its base model.
    """
    for path in paths:
        if path is not None and (licence := _stated(path)):
            return visible(licence)[:LONGEST]
    return NOT_STATED


def _stated(path: Path) -> str:
    """Return the licence that a model's files state, or an empty text."""
    file = gguf_file(path)
    if file is not None:
        metadata = read_header(file).metadata
        for key in ("general.license", "general.license.name"):
            if isinstance(metadata.get(key), str) and metadata[key].strip():
                return str(metadata[key]).strip()
    directory = path if path.is_dir() else path.parent
    of_card = _of_card(directory / "README.md")
    stated = try_object(directory / "config.json").get("license") if file is None else ""
    return of_card or (stated.strip() if isinstance(stated, str) else "")


def _of_card(card: Path) -> str:
    """Return the licence in the head of a model card, which is YAML between two lines of ---."""
    try:
        with card.open("rb") as file:
            text = file.read(CARD_BYTES).decode(errors="replace")
    except OSError:
        return ""
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if head is None:
        return ""
    values = {}
    for key in ("license", "license_name"):
        line = re.search(rf"(?m)^{key}:[ \t]*\n?[ \t]*-?[ \t]*(\S.*)$", head[1])
        values[key] = line[1].strip().strip("'\"") if line else ""
    if values["license"] == "other" and values["license_name"]:
        return values["license_name"]
    return values["license"]

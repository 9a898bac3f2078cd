"""Keep how a model reads its prompts, so that a resumed harvest reads them in the same passes.

The passes decide the last bits of the states. They depend on the memory that was free, so another
process might choose others.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from tasklens.core.files import digest, write_file
from tasklens.core.parse import parse_json
from tasklens.core.progress import inform
from tasklens.models.hf_batching import Reading
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.runs.harvested_rows import PROGRESS, READING


def keep_reading(
    directories: Sequence[Path], subject: HuggingFaceSubject, inputs: Sequence[str] = ()
) -> None:
    """Make a Subject read as an interrupted harvest did, and write what it decides.

    There is a directory for each position that is read in one pass, and ``inputs`` are the hashes
    of what their states depend on. If the reading is not known, or was of other positions, the rows
    of the harvest are dropped.
    """
    paths = [directory / READING for directory in directories]
    known = [_kept(path, inputs) for path in paths]
    subject.begin(known[0] if all(each == known[0] for each in known) else None)
    threads = torch.get_num_threads()
    if subject.reading is not None and subject.reading.threads != threads:
        inform(
            f"reading resumes with {threads} threads, it began with {subject.reading.threads}: the "
            "last bits may differ (OMP_NUM_THREADS fixes the number)"
        )
    if subject.reading is None:
        for directory in directories:
            (directory / PROGRESS).unlink(missing_ok=True)

    def write(reading: Reading) -> None:
        document = asdict(reading)
        content = json.dumps({"reading": document, "sha256": digest([document, *inputs])})
        for path in paths:
            write_file(path, content.encode())

    subject.on_reading = write


def _kept(path: Path, inputs: Sequence[str]) -> Reading | None:
    """Return what is written in a file; None if it is missing, damaged or of other inputs."""
    if not path.is_file():  # a pipe would block
        return None
    try:
        content = parse_json(path.read_bytes())
        if content["sha256"] != digest([content["reading"], *inputs]):
            return None
        parts = [(how, row, n) for how, row, n in content["reading"].pop("max_tokens")]
        return Reading(**content["reading"], max_tokens=parts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None

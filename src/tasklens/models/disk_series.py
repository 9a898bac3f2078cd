"""Find the directories of a series on the disk, and which of them have equal weights."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasklens.core.errors import InputError
from tasklens.core.files import file_hash
from tasklens.core.progress import inform, progress
from tasklens.models.checkpoint_series import notes_on_step, series_in, step_of
from tasklens.models.gguf_files import gguf_file
from tasklens.models.model_files import weights_among
from tasklens.models.series_table import Revision, one_hash

#: Bytes of each end of a file that are read first: trained weights differ there.
_END = 1 << 20


def find_directories(path: Path) -> list[Revision]:
    """Return what is known of the directories of a series, in their order.

    The hash of the weights is only computed if it may be equal to another. Sizes are compared
    first, then a megabyte at both ends of each file, then whole files; a line names how much that
    is. InputError if there is no series.
    """
    try:
        directories = series_in(path)
        files = {each: _weights_of(each) for each in directories}
        sizes = {each: [file.stat().st_size for file in files[each]] for each in directories}
        alike = _repeated({each: size for each, size in sizes.items() if size})
        ends = _repeated({each: [*map(_hash_of_ends, files[each])] for each in alike})
        n_bytes = sum(sum(sizes[each]) for each in ends)
        if ends:
            inform(
                f"{len(ends)} directories may have equal weights: {n_bytes / 1e9:,.3f} GB are read"
            )
        hashes = {}
        with progress("series", len(ends), "directory", lasting=False) as bar:
            for each in ends:
                hashes[each] = [*map(file_hash, files[each])]
                bar.update()
    except OSError as error:
        raise InputError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    return [
        Revision(
            name=each.name,
            step=step_of(each),
            size=sum(sizes[each]),
            sha256=one_hash(hashes.get(each, [])),
            notes=notes_on_step(each),
        )
        for each in directories
    ]


def _weights_of(directory: Path) -> list[Path]:
    """Return the files of a model's weights, or its GGUF file."""
    names = [path.name for path in directory.iterdir() if path.is_file()]
    weights = [directory / name for name in weights_among(names)]
    file = None if weights else gguf_file(directory)
    return weights if file is None else [file]


def _repeated(values: Mapping[Path, Sequence[object]]) -> list[Path]:
    """Return the directories whose value another one has, too."""
    counts = Counter(tuple(value) for value in values.values())
    return [path for path, value in values.items() if counts[tuple(value)] > 1]


def _hash_of_ends(file: Path) -> str:
    with file.open("rb") as stream:
        content = hashlib.sha256(stream.read(_END))
        stream.seek(max(_END, file.stat().st_size - _END))
        content.update(stream.read(_END))
    return content.hexdigest()

"""Find the directories of a series on the disk, and which of them have equal weights."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tasklens.core.errors import InputError
from tasklens.core.files import file_hash
from tasklens.core.progress import inform, progress
from tasklens.models.checkpoint_series import notes_on_step, series_in, step_of
from tasklens.models.gguf_files import gguf_file
from tasklens.models.model_files import weights_among
from tasklens.models.series_table import Revision

#: Bytes of each end of a file that are read first: trained weights differ there.
_END = 1 << 20


def find_directories(path: Path) -> list[Revision]:
    """Return what is known of the directories of a series, in their order.

    A file of weights is only hashed if it may be equal to another. Sizes are compared first, then a
    megabyte at both ends of each file, then whole files; a line names how much that is. InputError
    if there is no series.
    """
    try:
        directories = series_in(path)
        files = {each: _weights_of(each) for each in directories}
        sizes = {file: file.stat().st_size for each in directories for file in files[each]}
        ends = {file: _hash_of_ends(file) for file in _repeated(sizes)}
        alike = _repeated(ends)
        n_bytes = sum(sizes[file] for file in alike)
        if alike:
            inform(f"{len(alike)} files may be equal: {n_bytes / 1e9:,.3f} GB are read")
        hashes = {}
        with progress("series", len(alike), "file", lasting=False) as bar:
            for file in alike:
                hashes[file] = file_hash(file)
                bar.update()
    except OSError as error:
        raise InputError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    return [
        Revision(
            name=each.name,
            step=step_of(each),
            size=sum(sizes[file] for file in files[each]),
            hashes=tuple(hashes.get(file, "") for file in files[each]),
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


def _repeated(values: Mapping[Path, int] | Mapping[Path, tuple[int, str]]) -> list[Path]:
    """Return the files whose value another one has, too."""
    counts = Counter(values.values())
    return [path for path, value in values.items() if counts[value] > 1]


def _hash_of_ends(file: Path) -> tuple[int, str]:
    """Return the size of a file, and a hash of both ends."""
    with file.open("rb") as stream:
        content = hashlib.sha256(stream.read(_END))
        size = file.stat().st_size
        stream.seek(max(_END, size - _END))
        content.update(stream.read(_END))
    return size, content.hexdigest()

"""Read the header of a GGUF file, and check it against the file before anything else is read."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tasklens.core.downloads import HEAD, stand_in
from tasklens.core.errors import InputError
from tasklens.core.extras import import_extra

#: A longer header is refused: those of known models have at most 20 MB, most of it the vocabulary.
MAX_HEADER_BYTES = 2**25
#: More elements in all arrays of a header are refused: known models have at most 1.5 million.
MAX_ARRAY_ELEMENTS = 2**22
#: More tensors are refused: known models have at most some thousands.
MAX_TENSORS = 2**16
#: Versions of the format that are read.
VERSIONS = (2, 3)

_LONGEST_NAME = 128
_STRING, _ARRAY = 8, 9
#: The other types of values, as `struct` names them.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_NUMBERS |= {12: "d"}


class GgufTensor(NamedTuple):
    """A tensor of a GGUF file."""

    shape: tuple[int, ...]  # in the order of PyTorch
    kind: str  # how the numbers are stored, such as Q8_0
    begin: int  # byte of the file
    n_bytes: int

    @property
    def n_numbers(self) -> int:
        """Number of elements."""
        return prod(self.shape)


class GgufHeader(NamedTuple):
    """Values that a GGUF file states, and its tensors, which are all inside of the file."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    InputError if the file is none, is damaged or not whole, or is one of several parts. InputError
    for another version of the format, or an unknown type of numbers. No more than
    `MAX_HEADER_BYTES` are read, and nothing is allocated that the file is too short for.

    Do not change what is returned: a file that is the same as before is not read again.
    """
    if not path.is_file():
        raise InputError(f"{path}: is no file: should be a GGUF file")
    try:
        known = path.stat()
        return _header(path, (known.st_ino, known.st_size, known.st_mtime_ns))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=2)  # a header has the texts of all tokens
def _header(path: Path, _: tuple[int, int, int]) -> GgufHeader:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return _Reader(path, file.read(min(size, MAX_HEADER_BYTES)), size).header()


class _Reader:
    """Reader of one header from the first bytes of a file, which has a size."""

    def __init__(self, path: Path, content: bytes, size: int) -> None:
        self.path, self.content, self.size = path, content, size
        self.at = 0  # the next byte
        self.n_elements = 0

    def header(self) -> GgufHeader:
        n_tensors, n_values = self._begin()
        metadata: dict[str, Any] = {}
        for _ in range(n_values):
            with self._within("its metadata"):
                key = self._name()
                if key in metadata:
                    self._refuse(f"its metadata have {key!r} twice")
            with self._within(f"the value of {key!r}"):
                metadata[key] = self._value()
        if metadata.get("split.count", 0) not in (0, 1):
            self._refuse(
                f"it is one of {metadata['split.count']} parts; merge them with llama.cpp's "
                "llama-gguf-split --merge"
            )
        tensors: dict[str, GgufTensor] = {}
        for i in range(n_tensors):
            with self._within(f"tensor {i} of {n_tensors}"):
                name = self._name()
                if name in tensors:
                    self._refuse(f"it has the tensor {name!r} twice")
                tensors[name] = self._tensor(name)
        return GgufHeader(self.path, metadata, self._placed(tensors, metadata))

    def _begin(self) -> tuple[int, int]:
        """Read up to the numbers of tensors and of values, and return these."""
        if why := stand_in(self.content[:HEAD]):
            self._refuse(f"it {why}")
        if not self.content.startswith(b"GGUF"):
            self._refuse(f"it begins with {self.content[:4]!r}, a GGUF file with b'GGUF'")
        self.at = 4
        with self._within("its first bytes"):
            version = self._number("I")
            if version & 0xFFFF == 0:
                self._refuse("its numbers are big-endian; only little-endian files are read")
            if version not in VERSIONS:
                self._refuse(f"it has version {version} of the format: should be 2 or 3")
            n_tensors, n_values = self._number("Q"), self._number("Q")
            # The shortest value has 13 bytes, the shortest description of a tensor 32.
            if 32 * n_tensors + 13 * n_values > len(self.content) - self.at:
                self._refuse(
                    f"it states {n_tensors} tensors and {n_values} values, for which it is too "
                    "short"
                )
            if n_tensors > MAX_TENSORS:
                self._refuse(f"it has {n_tensors:,} tensors: should be at most {MAX_TENSORS:,}")
        return n_tensors, n_values

    def _take(self, n_bytes: int) -> bytes:
        begin, self.at = self.at, self.at + n_bytes
        if self.at > len(self.content):
            raise EOFError
        return self.content[begin : self.at]

    def _number(self, kind: str) -> Any:
        (value,) = struct.unpack(f"<{kind}", self._take(struct.calcsize(f"<{kind}")))
        return value

    def _text(self) -> str:
        return self._take(int.from_bytes(self._take(8), "little")).decode()

    def _name(self) -> str:
        name = self._text()
        if len(name) > _LONGEST_NAME:
            self._refuse(f"it has a name of {len(name):,} characters")
        return name

    def _value(self) -> Any:
        kind = self._number("I")
        if kind != _ARRAY:
            return self._one(kind)
        kind, n = self._number("I"), self._number("Q")
        self.n_elements += n
        if self.n_elements > MAX_ARRAY_ELEMENTS:
            self._refuse(f"its arrays have more than {MAX_ARRAY_ELEMENTS:,} elements")
        if kind == _STRING:
            return [self._text() for _ in range(n)]
        if kind not in _NUMBERS:
            self._refuse(f"it has an array of the type {kind}, which is not read")
        width = struct.calcsize(f"<{_NUMBERS[kind]}")
        return [*struct.unpack(f"<{n}{_NUMBERS[kind]}", self._take(n * width))]

    def _one(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind not in _NUMBERS:
            self._refuse(f"it has a value of the type {kind}, which the format does not have")
        return self._number(_NUMBERS[kind])

    def _tensor(self, name: str) -> GgufTensor:
        """Return a tensor that begins at a byte of the part of the tensors."""
        gguf = import_extra("gguf", "a GGUF file")
        n_dimensions = self._number("I")
        if not 1 <= n_dimensions <= 4:
            self._refuse(f"tensor {name!r} has {n_dimensions} dimensions: should be 1 to 4")
        shape = tuple(self._number("Q") for _ in range(n_dimensions))[::-1]
        kind, offset = self._number("I"), self._number("Q")
        try:
            numbers = gguf.GGMLQuantizationType(kind)
            block, block_bytes = gguf.GGML_QUANT_SIZES[numbers]
        except (ValueError, KeyError):
            self._refuse(f"tensor {name!r} is stored as type {kind}, which gguf does not know")
        if min(shape) < 1 or shape[-1] % block:
            blocks = f", and rows of whole blocks of {block} numbers" if block > 1 else ""
            self._refuse(f"tensor {name!r} has the shape {shape}: should have no 0{blocks}")
        return GgufTensor(shape, numbers.name, offset, prod(shape) // block * block_bytes)

    def _placed(
        self, tensors: dict[str, GgufTensor], metadata: dict[str, Any]
    ) -> dict[str, GgufTensor]:
        """Return the tensors in their order in the file, which has all their bytes only once."""
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1):
            self._refuse(f"general.alignment = {alignment!r}: should be a power of two from 8 on")
        if not tensors:
            self._refuse("it has no tensors")
        data = -(-self.at // alignment) * alignment
        placed = {}
        last = 0
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].begin):
            if tensor.begin != -(-last // alignment) * alignment:
                self._refuse(f"tensor {name!r} does not begin after the end of another one")
            last = tensor.begin + tensor.n_bytes
            if data + last > self.size:
                self._refuse(
                    f"tensor {name!r} ends at byte {data + last:,}, and the file has "
                    f"{self.size:,} bytes; is it whole?"
                )
            placed[name] = tensor._replace(begin=data + tensor.begin)
        return placed

    @contextmanager
    def _within(self, part: str) -> Iterator[None]:
        """Refuse a header that ends too early, or has a text that is not UTF-8."""
        try:
            yield
        except EOFError:
            if self.size > len(self.content):
                self._refuse(f"{part} ends beyond the first {len(self.content):,} bytes")
            self._refuse(f"{part} ends beyond the {self.size:,} bytes of the file; is it whole?")
        except UnicodeDecodeError:
            self._refuse(f"{part} has a text that is not UTF-8")

    def _refuse(self, why: str) -> NoReturn:
        raise InputError(f"{self.path}: cannot be read as GGUF: {why}")

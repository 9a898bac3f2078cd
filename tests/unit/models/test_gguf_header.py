"""Headers of GGUF files: what they state, and those that are damaged or hostile."""

import random
import shutil
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny_gguf
from models.families import LAYERS, VOCABULARY, WIDTH, family_model
from tasklens.core.errors import InputError
from tasklens.models import gguf_header
from tasklens.models.gguf_config import gguf_config
from tasklens.models.gguf_header import read_header

HUGE = (2**60, 2**63, 2**64 - 1)
STRING, ARRAY, UINT32 = 8, 9, 4
F32, Q8_0 = 0, 8


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def value(key: bytes, kind: int, content: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + content


def tensor(
    name: bytes = b"t", shape: tuple[int, ...] = (8,), kind: int = F32, offset: int = 0
) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


def gguf(
    *parts: bytes, n_tensors: int = 1, n_values: int = 0, version: int = 3, data: int = 64
) -> bytes:
    """Return a file with its values and tensors, zeros for the tensors' bytes."""
    header = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_values) + b"".join(parts)
    return header + bytes(-len(header) % 32 + data)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf", family_model("llama"))


def test_a_header_states_values_and_where_the_tensors_are(llama: Path) -> None:
    header = read_header(llama)
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["llama.embedding_length"] == WIDTH
    assert len(header.tensors) == 9 * LAYERS + 3
    embedding = header.tensors["token_embd.weight"]
    assert (embedding.shape, embedding.kind) == ((VOCABULARY, WIDTH), "F32")
    stored = llama.read_bytes()[embedding.begin :][: embedding.n_bytes]
    weight = family_model("llama").get_input_embeddings().weight
    assert stored == weight.detach().numpy().tobytes()


REFUSED = {
    "empty": (b"", "it is empty"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "another file": (b"PK\x03\x04" + bytes(99), r"begins with b'PK\\x03\\x04'"),
    "only the magic": (b"GGUF", "its first bytes ends beyond the 4 bytes"),
    "version 1": (gguf(tensor(), version=1), "it has version 1 of the format: should be 2 or 3"),
    "big-endian": (gguf(tensor(), version=3 << 24), "its numbers are big-endian"),
    "no tensors": (gguf(n_tensors=0), "it has no tensors"),
    "a value twice": (
        gguf(*[value(b"k", UINT32, bytes(4))] * 2, tensor(), n_values=2),
        "'k' twice",
    ),
    "a tensor twice": (gguf(tensor(), tensor(offset=32), n_tensors=2), "the tensor 't' twice"),
    "an unknown type of value": (gguf(value(b"k", 13, b""), n_values=1), "a value of the type 13"),
    "an array of arrays": (
        gguf(value(b"k", ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(12)), n_values=1),
        "an array of the type 9",
    ),
    "a text that is not UTF-8": (
        gguf(value(b"k", STRING, text(b"\xff")), n_values=1),
        "the value of 'k' has a text that is not UTF-8",
    ),
    "a long name": (gguf(tensor(b"x" * 200)), "a name of 200 characters"),
    "a part": (
        gguf(value(b"split.count", 2, struct.pack("<H", 3)), tensor(), n_values=1),
        "one of 3 parts; merge them",
    ),
    "no dimension": (gguf(tensor(shape=())), "'t' has 0 dimensions"),
    "many dimensions": (gguf(tensor(shape=(1,) * 5)), "'t' has 5 dimensions"),
    "an empty tensor": (gguf(tensor(shape=(8, 0))), r"has the shape \(0, 8\)"),
    "part of a block": (gguf(tensor(shape=(40,), kind=Q8_0)), "whole blocks of 32 numbers"),
    "an unknown kind": (gguf(tensor(kind=200)), "'t' is stored as type 200"),
    "a kind that was removed": (gguf(tensor(kind=4)), "'t' is stored as type 4"),
    "cut": (gguf(tensor(shape=(8, 3)), data=64), r"ends at byte \d+, and the file has 1\d\d bytes"),
    "overlapping": (
        gguf(tensor(shape=(16,)), tensor(b"u", offset=32), n_tensors=2, data=128),
        "'u' does not begin after the end of another one",
    ),
    "unaligned": (gguf(tensor(offset=4)), "does not begin after"),
    "an alignment of 0": (
        gguf(value(b"general.alignment", UINT32, bytes(4)), tensor(), n_values=1),
        "general.alignment = 0",
    ),
    **{
        f"{what} of {n}": (content, why)
        for n in HUGE
        for what, content, why in [
            ("tensors", gguf(tensor(), n_tensors=n), f"{n} tensors"),
            ("values", gguf(tensor(), n_values=n), f"{n} values"),
            ("a key", gguf(struct.pack("<Q", n), bytes(99), n_values=1), "its metadata ends"),
            (
                "a text",
                gguf(value(b"k", STRING, struct.pack("<Q", n)), bytes(99), n_values=1),
                "the value of 'k' ends beyond",
            ),
            (
                "an array",
                gguf(value(b"k", ARRAY, struct.pack("<IQ", UINT32, n)), bytes(99), n_values=1),
                "arrays have more than 4,194,304 elements",
            ),
            ("a name", gguf(struct.pack("<Q", n), bytes(99)), "tensor 0 of 1 ends beyond"),
            ("a shape", gguf(tensor(shape=(n, n, n, n))), "'t' ends at byte"),
            ("an offset", gguf(tensor(offset=n)), "'t' does not begin after"),
        ]
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_file_is_too_short_for_is_one_line_and_nothing_is_allocated(
    tmp_path: Path, what: str
) -> None:
    content, why = REFUSED[what]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=why) as caught:
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: cannot be read as GGUF: ")
    assert "\n" not in str(caught.value)


def test_a_directory_or_nothing_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(InputError, match=r"is no file: should be a GGUF file$"):
            read_header(path)


def test_a_header_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(value(b"k", STRING, text(bytes(500))), tensor(), n_values=1))
    assert read_header(path).metadata == {"k": "\0" * 500}
    monkeypatch.setattr(gguf_header, "MAX_HEADER_BYTES", 400)
    with pytest.raises(InputError, match="the value of 'k' ends beyond the first 400 bytes"):
        read_header(path.rename(tmp_path / "again.gguf"))


def test_a_file_is_read_again_only_if_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(tensor(), n_tensors=1))
    first = read_header(path)
    assert read_header(path) is first
    path.write_bytes(gguf(tensor(b"longer"), n_tensors=1))
    assert [*read_header(path).tensors] == ["longer"]


def test_tensors_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(tensor(), tensor(b"u", offset=32), n_tensors=2))
    assert [*read_header(path).tensors] == ["t", "u"]
    monkeypatch.setattr(gguf_header, "MAX_TENSORS", 1)
    with pytest.raises(InputError, match="it has 2 tensors: should be at most 1"):
        read_header(path.rename(tmp_path / "again.gguf"))


def test_the_library_is_named_with_its_extra(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "not-read-before.gguf"
    shutil.copy(llama, file)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"^a GGUF file needs gguf.*\[gguf\]"):
        read_header(file)


def flip(content: bytearray, at: int, rng: random.Random) -> None:
    content[at] ^= 1 << rng.randrange(8)


def cut(content: bytearray, at: int, _: random.Random) -> None:
    del content[at:]


def enlarge(content: bytearray, at: int, rng: random.Random) -> None:
    content[at : at + 8] = struct.pack("<Q", rng.choice((*HUGE, 2**32, 10**6, 0)))


def refusal(path: Path) -> str:
    """Return why a file is refused, or nothing."""
    try:
        gguf_config(read_header(path))
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("damage", [flip, cut, enlarge], ids=["flip", "cut", "enlarge"])
def test_damage_anywhere_in_the_header_is_one_line_or_another_value(
    llama: Path, tmp_path: Path, damage: Callable[[bytearray, int, random.Random], None]
) -> None:
    rng = random.Random(0)
    whole = llama.read_bytes()
    end = min(each.begin for each in read_header(llama).tensors.values())
    path = tmp_path / "m.gguf"
    n_refused = 0
    for at in range(0, end, 9):
        content = bytearray(whole)
        damage(content, at, rng)
        path.write_bytes(content)
        why = refusal(path)
        assert "\n" not in why
        assert len(why) < 400 + len(str(path))
        n_refused += why != ""
    assert n_refused > len(range(0, end, 9)) / 2

"""The directories of a series on the disk, and which of them have equal weights."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from loopback_hub import sha256
from tasklens.core.errors import InputError
from tasklens.core.files import file_hash
from tasklens.models import disk_series
from tasklens.models.disk_series import find_directories
from tasklens.models.series_table import doubts_of_series

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_checkpoint(step: int, content: bytes | None, name: str = "model.safetensors") -> Path:
        directory = tmp_path / f"checkpoint-{step}"
        directory.mkdir(exist_ok=True)
        (directory / "config.json").write_text("{}")
        if content is not None:
            (directory / name).write_bytes(content)
        return directory

    return write_checkpoint


def test_directories_are_in_the_order_of_their_steps(write: Write, tmp_path: Path) -> None:
    for step, content in ((100, b"aaa"), (20, b"bbbb"), (3, None)):
        write(step, content)
    revisions = find_directories(tmp_path)
    assert [(r.name, r.step, r.size, r.sha256) for r in revisions] == [
        ("checkpoint-3", 3, 0, ""),
        ("checkpoint-20", 20, 4, ""),
        ("checkpoint-100", 100, 3, ""),
    ]


def test_only_weights_that_may_be_equal_are_read_whole(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Four differ in size, at the first end, at the last end and in the middle from the rest."""
    monkeypatch.setattr(disk_series, "_END", 4)
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_hash(path)

    monkeypatch.setattr(disk_series, "file_hash", counted)
    equal = b"0123456789"
    contents = [equal, b"012345678", b"x123456789", b"012345678x", b"01234x6789", equal]
    for step, content in enumerate(contents, 1):
        write(step, content)
    revisions = find_directories(tmp_path)
    assert sorted(path.parent.name for path in read) == [f"checkpoint-{n}" for n in (1, 5, 6)]
    assert [r.sha256 for r in revisions if r.sha256] == [sha256(contents[i]) for i in (0, 4, 5)]
    assert "3 files may be equal: 0.000 GB are read" in capsys.readouterr().err
    assert doubts_of_series(revisions) == [
        f"checkpoint-1, checkpoint-6 have the same weights (SHA-256 {sha256(equal)[:12]}): one of "
        "these 2 is enough"
    ]


def test_a_file_of_another_step_is_found(write: Write, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        for part, content in enumerate((b"frozen", b"%d" % step), 1):
            write(step, content, f"model-0000{part}-of-00002.safetensors")
    revisions = find_directories(tmp_path)
    assert {r.sha256 for r in revisions} == {""}, "the second files need not be read"
    assert doubts_of_series(revisions) == [
        "checkpoint-1, checkpoint-2, checkpoint-3 share 1 of their files of weights (SHA-256 "
        f"{sha256(b'frozen')[:12]}): a part of another step?"
    ]


def test_another_step_of_the_trainer_is_odd(write: Write, tmp_path: Path) -> None:
    state = write(5, b"a") / "trainer_state.json"
    state.write_text(json.dumps({"global_step": 7}))
    assert doubts_of_series(find_directories(tmp_path)) == [
        "checkpoint-5: step 5 by its name is used, but it is 7 by trainer_state.json"
    ]


def test_what_is_no_series_is_refused(tmp_path: Path) -> None:
    line = f"{tmp_path}: is no series: should have directories checkpoint-N in it"
    with pytest.raises(InputError, match=f"^{re.escape(line)}$"):
        find_directories(tmp_path)
    (file := tmp_path / "file").touch()
    with pytest.raises(InputError, match="is no series"):
        find_directories(file)


def test_checkpoints_of_a_run_are_a_series(write: Write, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    write(5, b"a").rename(tmp_path / "checkpoints" / "step-00000005")
    assert [r.name for r in find_directories(tmp_path)] == ["step-00000005"]

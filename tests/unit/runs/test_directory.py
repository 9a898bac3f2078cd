import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from conftest import HANG, FullDisk
from tasklens.core.errors import InputError
from tasklens.core.files import temporary_beside
from tasklens.runs import manifest
from tasklens.runs.directory import RunDir
from tasklens.runs.manifest_file import FORMAT, manifest_bytes, parse_manifest


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "runs" / "one")


def leftovers(run: RunDir) -> list[Path]:
    return sorted(run.path.rglob(".tasklens-*"))


def refusal(act: Callable[[], object]) -> str:
    """Return the line of the InputError that a call raises."""
    with pytest.raises(InputError) as error:
        act()
    assert "\n" not in str(error.value)
    return str(error.value)


def contents(run: RunDir) -> dict[str, bytes]:
    """Return the files under their final names."""
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file()
        and not any(part.startswith((".", "partial-")) for part in path.parts)
        and path != run.manifest
    }


# --- Writing and reading ---


def test_what_is_written_is_read(run: RunDir) -> None:
    assert (run.name, run.path.exists()) == ("one", False)
    assert run.read_manifest() == {"files": {}, "stages": {}}
    run.write(run.config, b"first")
    assert run.read(run.config) == b"first"
    run.write(run.config, b"second, longer")
    run.write(run.states / "deep.npy", b"deep")
    run.write_directory(run.checkpoint(3), {"a": b"1", "b": b"2"})
    run.write_directory(run.checkpoint(3), {"a": b"3"})
    assert contents(run) == {
        "config.toml": b"second, longer",
        "states/deep.npy": b"deep",
        "checkpoints/step-00000003/a": b"3",
    }
    hashes = {key: hashlib.sha256(content).hexdigest() for key, content in contents(run).items()}
    assert json.loads(run.manifest.read_text())["files"] == hashes
    for key in hashes:
        run.check(run.path / key)
    assert leftovers(run) == []


def test_a_file_that_is_missing_or_changed_is_refused(run: RunDir) -> None:
    def both() -> set[str]:
        return {refusal(partial(reads, run.config)) for reads in (run.read, run.check)}

    assert both() == {
        f"{run.config} is not there; run the stage that makes it first, or run again with --resume"
    }
    run.write(run.config, b"as it was")
    run.config.write_bytes(b"as it is")
    assert both() == {
        f"{run.config} is damaged: its SHA-256 is not the one in manifest.json; "
        "remove it and run again with --resume"
    }
    run.config.unlink()
    assert both() == {
        f"{run.config} is gone, the settings of the run; restore it, or run again with --resume, "
        "which makes it again"
    }
    run.write(run.config, b"again")
    run.remove(run.config)
    assert not run.config.exists()
    run.remove(run.config)
    run.config.write_bytes(b"by hand")
    assert run.noted(run.config) is None
    assert both() == {
        f"{run.config} is damaged: manifest.json has no hash of it; "
        "remove it and run again with --resume"
    }


def test_a_file_that_grew_is_recorded_when_it_is_complete(run: RunDir) -> None:
    run.write(run.metrics, b"1\n")
    with run.growing(run.metrics) as file:
        file.write("2\n")
        assert run.metrics.read_bytes() == b"1\n2\n"
        assert run.noted(run.metrics) is None
    assert run.read(run.metrics) == b"1\n2\n"
    run.metrics.write_bytes(b"1\n")
    assert "is damaged" in refusal(lambda: run.read(run.metrics))


def test_if_nothing_can_be_written_the_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = RunDir(tmp_path / "file" / "run")
    for act in (lambda: run.write(run.config, b""), run.locked().__enter__):
        assert refusal(act).startswith(f"cannot write {run.path}")


def test_leftovers_are_cleaned_and_nothing_else(run: RunDir) -> None:
    run.write(run.config, b"kept")
    run.write_directory(run.data, {"a": b"kept"})
    inside = temporary_beside(run.checkpoint(1))
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "b").write_bytes(b"half")
    temporary_beside(run.config).write_bytes(b"half")
    ours = set(leftovers(run))
    guessed = [".tmp-a", ".tmp-config.toml", ".tasklens-a", f".tasklens-{'0' * 32}"]
    foreign = [folder / name for folder in (run.path, run.checkpoints) for name in guessed]
    foreign += [run.states / "partial-step-00000008" / "mine", run.data / "deep" / inside.name]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not of tasklens")
    with run.locked():
        run.drop_partial(run.states)
        assert not ours & set(leftovers(run))
    assert [path.read_bytes() for path in foreign] == [b"not of tasklens"] * len(foreign)
    assert run.read(run.config) == run.read(run.data / "a") == b"kept"


def test_what_is_not_of_tasklens_is_never_replaced(run: RunDir) -> None:
    run.write_directory(run.data, {"a": b"1", "b": b"2"})
    (run.data / "notes").write_bytes(b"mine")
    assert refusal(lambda: run.write_directory(run.data, {"a": b"3"})) == (
        f"{run.data / 'notes'}: not of tasklens, and {run.data} has to be written again; move "
        "what is not of tasklens elsewhere"
    )
    assert run.read(run.data / "b") == b"2"
    run.strip(run.data)
    assert [path.name for path in run.data.iterdir()] == ["notes"]
    assert set(run.read_manifest()["files"]) == {"data/a", "data/b"}
    partial = run.states / "partial-step-00000008"
    partial.mkdir(parents=True)
    (partial / "notes").write_bytes(b"mine")
    assert refusal(lambda: run.partial(run.states_at(8), "inputs")) == (
        f"{partial} is not of tasklens: move it to another directory"
    )
    assert (partial / "notes").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside"])
def test_no_path_outside_of_the_directory_is_read(run: RunDir, name: str) -> None:
    (run.path.parent).mkdir(parents=True)
    (run.path.parent / "outside").write_bytes(b"secret")
    run.write(run.config, b"")
    assert "is not in the run directory" in refusal(lambda: run.read(run.path / "../outside"))
    for planted in ({"files": {name: "0"}}, {"stages": {"data": {"inputs": "", "files": [name]}}}):
        run.manifest.write_text(json.dumps({"files": {}, "stages": {}} | planted))
        assert refusal(lambda: run.finished("data", "")) == (
            f"{run.manifest} is damaged ({name!r} is not in the run directory); restore or move it"
        )


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_a_lock_that_is_no_file_of_ours_is_refused(run: RunDir, kind: str) -> None:
    target = run.path.parent / "outside"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"kept")
    run.path.mkdir()
    lock = run.path / ".lock"
    lock.symlink_to(target) if kind == "link" else lock.mkdir()
    assert refusal(run.locked().__enter__) == f"{lock} should be a file of tasklens: remove it"
    assert target.read_bytes() == b"kept"


def test_a_refused_block_leaves_nothing_that_was_not_there(tmp_path: Path) -> None:
    def refuse(run: RunDir, *files: Path) -> None:
        with run.locked():
            for file in files:
                run.write(file, b"1")
            raise InputError("no")

    new = RunDir(tmp_path / "a" / "b" / "run")
    assert refusal(lambda: refuse(new)) == "no"
    assert refusal(lambda: refuse(new, new.config)) == "no"
    assert list(tmp_path.iterdir()) == []
    too_long = RunDir(tmp_path / "a" / ("x" * 300))
    assert "File name too long" in refusal(lambda: too_long.write(too_long.config, b""))
    assert list(tmp_path.iterdir()) == []
    empty = RunDir(tmp_path)
    assert refusal(lambda: refuse(empty, empty.config)) == "no"
    assert list(tmp_path.iterdir()) == []
    # What has data stays, to be resumed; what others have put there stays, too.
    kept = RunDir(tmp_path / "kept")
    assert refusal(lambda: refuse(kept, kept.data / "val.parquet")) == "no"
    assert (kept.data / "val.parquet").exists()
    shared = RunDir(tmp_path / "shared")
    shared.path.mkdir()
    (shared.path / "mine.txt").write_text("mine")
    assert refusal(lambda: refuse(shared, shared.config)) == "no"
    assert shared.config.exists()


def test_a_directory_with_files_of_others_is_not_new(run: RunDir) -> None:
    assert run.is_new()
    with run.locked():
        temporary_beside(run.config).write_bytes(b"half")
    assert run.is_new()
    for name in (".tmp-a", ".tasklens-a", "notes"):
        (run.path / name).write_bytes(b"")
        assert not run.is_new()
        (run.path / name).unlink()
    (run.path / ".lock").write_bytes(b"of another program")
    assert not run.is_new()


def test_processes_that_write_at_once_lose_nothing(run: RunDir) -> None:
    run.write(run.config, b"")
    program = (
        "import sys; from tasklens.runs.directory import RunDir\n"
        "run = RunDir(sys.argv[1])\n"
        "for n in range(10): run.write(run.path / f'{sys.argv[2]}-{n}', b'')"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(run.path), name]) for name in "abcd"
    ]
    assert [process.wait(HANG) for process in started] == [0] * 4
    names = {f"{name}-{n}" for name in "abcd" for n in range(10)}
    assert set(run.read_manifest()["files"]) == {"config.toml", *names}


# --- Directories that are filled over several calls ---


def fill(run: RunDir, path: Path, inputs: str, **files: bytes) -> list[str]:
    """Fill a directory; return the names of the files that were in it before."""
    partial = run.partial(path, inputs)
    before = sorted(file.name for file in partial.iterdir())
    for name, content in files.items():
        (partial / name).write_bytes(content)
    run.fill(path)
    return before


def test_a_directory_that_is_filled_replaces_the_one_before(run: RunDir) -> None:
    path = run.states_at(8)
    assert not run.made_from(path, "mine")
    assert fill(run, path, "mine", a=b"1", b=b"22") == ["inputs"]
    assert contents(run) == {
        f"states/step-00000008/{name}": content
        for name, content in {"a": b"1", "b": b"22", "inputs": b"mine"}.items()
    }
    assert (run.made_from(path, "mine"), run.made_from(path, "others")) == (True, False)
    # echo -n 22 | sha256sum
    assert run.noted(path / "b") == (
        "785f3ec7eb32f30b90cd0fcf3657d388b5ff4297f2f9716ff66e9b69c05ddd09"
    )
    run.finish("states", "inputs", [path / "a"])
    (run.partial(path, "others") / "a").write_bytes(b"new")
    assert run.read(path / "a") == b"1", "until the new one is complete"
    run.fill(path)
    assert sorted(file.name for file in path.iterdir()) == ["a", "inputs"]
    assert (run.made_from(path, "mine"), run.made_from(path, "others")) == (False, True)
    assert not run.finished("states", "inputs")
    (path / "a").unlink()
    assert not run.made_from(path, "others")


def test_a_directory_is_filled_further_from_the_same_inputs(run: RunDir) -> None:
    path = run.states_at(8)
    (run.partial(path, "mine") / "a").write_bytes(b"done")
    with run.locked():  # which cleans temporary files
        assert not path.exists()
        assert run.read_manifest()["files"] == {}
    assert fill(run, path, "mine", b=b"rest") == ["a", "inputs"]
    assert (run.read(path / "a"), run.read(path / "b")) == (b"done", b"rest")
    (run.partial(path, "mine") / "a").write_bytes(b"of others")
    assert fill(run, path, "others", b=b"new") == ["inputs"]
    other = run.states_at(9)
    other.with_name("partial-step-00000009").mkdir()  # as a crash leaves it
    run.drop_partial(run.measured)
    assert fill(run, other, "mine") == ["inputs"]
    run.partial(other, "mine")
    run.drop_partial(run.states)
    assert sorted(file.name for file in run.states.iterdir()) == [path.name, other.name]


# --- Crashes ---


class Killed(BaseException):
    """The end of a killed process."""


def killed_at(n: int, patch: pytest.MonkeyPatch) -> None:
    """Make all calls that sync, rename or remove fail from the n-th one on."""
    calls = itertools.count()

    def unless_killed(real: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        if next(calls) >= n:
            raise Killed
        real(*args, **kwargs)

    for name in ("fsync", "replace", "unlink", "rmdir"):
        patch.setattr(os, name, partial(unless_killed, getattr(os, name)))


def full_at(n: int, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "fsync", FullDisk(n))


def files(run: RunDir, content: bytes) -> None:
    """Write a file, rewrite another that was removed, and write a directory."""
    run.write(run.scores_csv, content)
    with run.batch():
        run.remove(run.scores_parquet)
        run.write(run.scores_parquet, content)
    run.write_directory(run.data, {"a": content, "b": content + b"!"})


def filled(run: RunDir, content: bytes) -> None:
    fill(run, run.states_at(8), content.decode(), a=content, b=content + b"!")


def growing(run: RunDir, content: bytes) -> None:
    run.write(run.metrics, content)
    with run.growing(run.metrics) as file:
        file.write(content.decode())


def checkpoint(run: RunDir, content: bytes, step: int = 1) -> None:
    """Write and remove files as a checkpoint of training does."""
    with run.batch():
        run.write_directory(run.states_at(step), {"embed.npy": content, "answer.npy": content})
        run.write_directory(run.checkpoint(step), {"model.safetensors": content})
        run.write(resumable(run, step), content)
        run.remove(resumable(run, step - 1))


def next_checkpoint(run: RunDir, content: bytes) -> None:
    checkpoint(run, content, 1 + (content == b"new"))


def resumable(run: RunDir, step: int) -> Path:
    return run.resume / f"step-{step}.safetensors"


@pytest.mark.parametrize("failing", [killed_at, full_at])
@pytest.mark.parametrize("act", [files, filled, growing, checkpoint, next_checkpoint])
def test_a_crash_anywhere_leaves_complete_files_and_no_wrong_hash(
    tmp_path: Path,
    act: Callable[[RunDir, bytes], None],
    failing: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk is not what is tested

    def begun(name: str) -> RunDir:
        run = RunDir(tmp_path / name / "run")
        act(run, b"old")
        run.finish("stage", "inputs", [run.path / key for key in contents(run)])
        return RunDir(run.path)

    undisturbed = begun("undisturbed")
    before = contents(undisturbed)
    act(undisturbed, b"new")
    after = contents(undisturbed)
    both = before.items() | after.items()
    for n in itertools.count():
        run, message = begun(str(n)), ""
        try:
            with monkeypatch.context() as patch:
                failing(n, patch)
                act(run, b"new")
        except Killed:
            message = "killed"
        except InputError as error:
            message = str(error)
            assert message.startswith("no space left on the device while writing /")
            assert message.endswith(
                "; free some space, then run again with --resume: all finished work is kept"
            )
        run = RunDir(run.path)  # a later process
        recorded = run.read_manifest()["files"]
        for key, content in contents(run).items():
            grown = act is growing and content.startswith(b"new")
            assert (key, content) in both or grown
            assert recorded.get(key, "") in ("", hashlib.sha256(content).hexdigest())
        if run.finished("stage", "inputs"):
            assert before.items() <= contents(run).items()
        if act is next_checkpoint:
            assert any(run.noted(path) for path in run.resume.iterdir()), "nothing is lost"
        if n == 0:
            assert contents(run) == before
        with run.locked():
            assert leftovers(run) == []
        act(run, b"new")
        if act is next_checkpoint:  # the crash came after the record and before the removal
            run.remove(resumable(run, 1))
        assert contents(run) == after
        assert run.read_manifest() == undisturbed.read_manifest()
        if not message:
            break
    assert n >= 4


# --- The manifest ---


def test_a_batch_is_recorded_at_its_end(run: RunDir) -> None:
    run.write(run.config, b"before")
    with run.batch():
        run.write(run.scores_csv, b"1")
        with run.batch():
            run.write(run.scores_csv, b"2")
        run.remove(run.config)
        run.finish("measure", "inputs", [run.scores_csv])
        assert run.finished("measure", "inputs")
        assert set(RunDir(run.path).read_manifest()["files"]) == {"config.toml"}
        assert run.config.exists()
    assert RunDir(run.path).finished("measure", "inputs")
    assert contents(run) == {"scores.csv": b"2"}
    with run.batch():
        run.remove(run.scores_csv)
        run.write(run.scores_csv, b"3")
    assert run.read(run.scores_csv) == b"3"


def test_an_error_in_a_batch_records_nothing(run: RunDir) -> None:
    run.write(run.config, b"before")
    with contextlib.suppress(KeyError), run.batch():
        run.write(run.scores_csv, b"1")
        run.remove(run.config)
        raise KeyError
    assert contents(run) == {"config.toml": b"before", "scores.csv": b"1"}
    assert set(run.read_manifest()["files"]) == {"config.toml"}


def test_the_manifest_is_parsed_once_until_another_process_writes_it(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write(run.config, b"mine")
    loads = mock.Mock(wraps=json.loads)
    monkeypatch.setattr(json, "loads", loads)
    for _ in range(3):
        assert run.read(run.config) == b"mine"
    assert loads.call_count == 1
    program = (
        "import sys; from tasklens.runs.directory import RunDir\n"
        "run = RunDir(sys.argv[1]); run.write(run.config, b'your')"
    )
    subprocess.run([sys.executable, "-c", program, str(run.path)], check=True)
    assert run.read(run.config) == b"your"
    assert loads.call_count == 2


def test_a_run_of_another_format_is_refused_once_it_has_a_finished_stage(run: RunDir) -> None:
    run.check_format()
    run.write(run.config, b"")
    run.check_format()
    run.finish("data", "inputs", [run.config])
    for act in (run.check_format, lambda: run.begin(5, "tasklens run smoke --resume")):
        assert refusal(act) == (
            f"{run.path} was made by tasklens of an unknown version (format 1); this version reads "
            f"format {FORMAT}: make the run again, or read it with that version"
        )
    run.unfinish("data")
    run.begin(5, "tasklens run smoke")
    assert set(run.read_manifest()["files"]) == {"config.toml"}, "what was there stays"
    run.finish("data", "inputs", [run.config])
    run.check_format()
    content = json.loads(run.manifest.read_text())
    content["format"], content["versions"]["tasklens"] = FORMAT + 1, "9.0"
    run.manifest.write_text(json.dumps(content))
    assert f"made by tasklens 9.0 (format {FORMAT + 1}); this version" in refusal(run.check_format)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"\xff\xfe", b'{"files": []}', b'{"stages": 3}', b'{"files": null}'),
        *(f'{{"format": {FORMAT}, "files": {{}}, "stages": {{}}}}'.encode(), b'{"version": "1.0"}'),
        b'{"sha256": "0", "files": {}, "stages": {}}',
        *(b"[" * 100_000, b'{"files": ' + b"[" * 100_000, b'{"files": ' + b"9" * 5000 + b"}"),
        "{}".encode("utf-16"),
    ],
    ids=lambda content: str(content[:20]),
)
def test_a_damaged_manifest_is_named(run: RunDir, content: bytes) -> None:
    run.write(run.config, b"")
    run.manifest.write_bytes(content)
    for act in (
        lambda: run.write(run.config, b"1"),
        lambda: run.read(run.config),
        lambda: run.finished("data", ""),
    ):
        assert refusal(act).startswith(f"{run.manifest} is damaged (")


#: What is neither text nor a number nor an object with keys, and numbers that JSON does not have.
NEITHER: list[Any] = [True, [], [[]], math.nan, math.inf]
NO_TEXT = [*NEITHER, 5, {}]
NO_NUMBER = [*NEITHER, None, "x", {}]
NO_OBJECT = [*NEITHER, None, "x", 5]
MARK = {"inputs": "0", "files": ["config.toml"]}


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        (("files",), NO_OBJECT),
        (("files", "config.toml"), [*NO_TEXT, None]),
        (("stages",), NO_OBJECT),
        (("stages", "data"), [*NO_OBJECT, {}]),
        (("stages", "data", "inputs"), [*NO_TEXT, None]),
        (("stages", "data", "files"), [None, True, "x", 5, {}, [5], [None], ["../x"], ["/x"]]),
        (("stages", "data", "seconds"), [*NO_NUMBER, -1]),
        (("stages", "data", "sources_read"), [*NO_OBJECT, {"mine.json": 5}]),
        (("stages", "train", "precision"), NO_TEXT),
        (("stages", "states", "checkpoints"), [*NO_OBJECT, {}]),
        (("stages", "states", "checkpoints", 0), [*NO_OBJECT, {}]),
        (("stages", "states", "checkpoints", 0, "step"), [*NO_NUMBER, 1.5, -1]),
        (("stages", "states", "unknown"), [math.nan, math.inf]),
        (("format",), [*NO_NUMBER, "4", 1.5, 0]),
        (("versions",), NO_OBJECT),
        (("versions", "torch"), NO_TEXT),
    ],
    ids=str,
)
def test_a_value_of_another_type_anywhere_in_the_manifest_is_damage(
    keys: tuple[str | int, ...], wrong: list[Any]
) -> None:
    """Also if it has the right hash of itself, as one that another program has written."""
    manifest: Any = {
        "files": {"config.toml": "0"},
        "stages": {
            "data": {**MARK, "seconds": 1.0, "sources_read": {"mine.json": "0"}},
            "train": {**MARK, "precision": "fp32"},
            "states": {**MARK, "checkpoints": [{"step": 1, "name": "gpt2"}]},
        },
        "format": FORMAT,
        "versions": {"torch": "2.0", "numba": None},
    }
    assert parse_manifest(manifest_bytes(manifest))["format"] == FORMAT
    inner = manifest
    for key in keys[:-1]:
        inner = inner[key]
    for value in wrong:
        inner[keys[-1]] = value
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            parse_manifest(manifest_bytes(manifest))


def test_a_manifest_that_may_not_be_read_is_not_called_damaged(run: RunDir) -> None:
    run.write(run.config, b"")
    denied = PermissionError(errno.EACCES, "Permission denied")
    with mock.patch.object(Path, "read_bytes", side_effect=denied):
        line = refusal(RunDir(run.path).read_manifest)
    assert line == f"{run.manifest} cannot be read: Permission denied"


# --- Stages ---


def test_a_stage_is_finished_with_these_inputs_while_its_files_are_there(run: RunDir) -> None:
    assert not run.finished("data", "inputs")
    run.write_directory(run.data, {"a": b"1", "b": b"2"})
    assert not run.finished("data", "inputs")
    run.finish("data", "inputs", [run.data / "a", run.data / "b"], rows=3)
    assert run.finished("data", "inputs")
    assert RunDir(run.path).finished("data", "inputs")
    assert not run.finished("data", "other inputs")
    assert not run.finished("train", "inputs")
    run.write(run.config, b"not a file of the stage")
    assert run.finished("data", "inputs")
    (run.data / "a").write_bytes(b"9")
    assert "is damaged" in refusal(lambda: run.finished("data", "inputs"))
    (run.data / "a").unlink()
    assert not run.finished("data", "inputs")
    assert run.mark("data") == {"inputs": "inputs", "files": ["data/a", "data/b"], "rows": 3}
    run.unfinish("data")
    assert run.mark("data") is None


def test_a_stage_is_done_once(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 2.0, 100.0, 102.5])
    monkeypatch.setattr(manifest, "time", mock.Mock(perf_counter=lambda: next(clock)))
    with pytest.raises(KeyError), run.stage("data", "inputs"):
        raise KeyError
    with run.stage("data", "inputs"):
        pass  # it never calls `finish`
    with run.stage("data", "inputs") as finish:
        assert finish is not None
        run.write(run.scores_csv, b"1")
        assert run.mark("data") is None, "nothing is finished before it is"
        finish([run.scores_csv], rows=3)
    assert run.mark("data") == {
        "inputs": "inputs", "files": ["scores.csv"], "seconds": 2.5, "rows": 3,
    }  # fmt: skip
    with run.stage("data", "inputs") as finish:
        assert finish is None


def test_hashes_of_stages_and_directories_are_of_their_files(run: RunDir) -> None:
    def hashes(content: bytes) -> tuple[str, str]:
        run.write_directory(run.data, {"a": content})
        run.finish("data", "inputs", [run.data / "a"])
        return run.output_hash("data"), run.hash_of(run.data)

    first, second = hashes(b"1"), hashes(b"2")
    assert first[0] != second[0]
    assert first[1] != second[1]
    run.write_directory(run.path / "data-of-others", {"a": b"1"})
    assert hashes(b"1") == first, "of these files alone"
    assert run.hash_of(run.path / "data-of-others") == first[1], "wherever they are"
    # echo -n '{"a":"'$(echo -n 1 | sha256sum | cut -c -64)'"}' | sha256sum
    assert first[1] == "a8bd5d837a9ca07cd623efc1b548824de49cb5c55a4e27f602748e6c73ce54aa"


# --- The lock ---

HOLDS = (
    "import sys; from tasklens.runs.directory import RunDir\n"
    "with RunDir(sys.argv[1]).locked(): print('held', flush=True); sys.stdin.read()"
)


def test_a_second_holder_is_refused_until_the_first_ends(run: RunDir, tmp_path: Path) -> None:
    refused = f"{run.path} is in use by another tasklens process; wait for it, or name another"
    with run.locked(), RunDir(tmp_path / "another").locked():
        assert refusal(RunDir(run.path).locked().__enter__).startswith(refused)
        with run.locked():
            run.write(run.config, b"by the holder")
    command = [sys.executable, "-c", HOLDS, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert "is in use by another" in refusal(run.locked(wait=0.2).__enter__)
        process.kill()
        with run.locked(wait=HANG):
            assert (run.path / ".lock").exists()
    with pytest.raises(KeyError), run.locked():  # the file that is left is no lock
        raise KeyError
    with run.locked():
        pass


def test_a_directory_that_may_only_be_read_is_read_without_a_lock(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write(run.config, b"1")
    lock = run.path / ".lock"
    with run.locked_to_read():
        assert "is in use" in refusal(RunDir(run.path).locked().__enter__)
    for denied in (run.path, lock):  # the lock may be of another user of a shared directory
        monkeypatch.setattr(os, "access", lambda path, mode, denied=denied: path != denied)
        assert not run.is_writable
        with run.locked_to_read(), RunDir(run.path).locked():
            assert run.read(run.config) == b"1"


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "ENOTSUP", "ENOSYS"])
def test_without_locks_one_line_warns_and_work_continues(run: RunDir, code: str) -> None:
    program = (
        "import errno, fcntl, os, sys\n"
        "def flock(*_): raise OSError(errno.CODE, os.strerror(errno.CODE))\n"
        "fcntl.flock = flock\n"
        "from tasklens.runs.directory import RunDir\n"
        "for name in ('one', 'two'):\n"
        "    run = RunDir(os.path.join(sys.argv[1], name))\n"
        "    with run.locked(): run.write(run.config, b'1')\n"
    ).replace("CODE", code)
    command = [sys.executable, "-W", "error", "-c", program, str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (line,) = done.stderr.splitlines()
    name = os.strerror(getattr(errno, code))
    assert line.startswith(
        f"tasklens: warning: the file system of the run directory has no locks ({name})"
    )
    assert (run.path / "two" / "config.toml").read_bytes() == b"1"

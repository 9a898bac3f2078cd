import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from conftest import FullDisk
from tasklens.core.errors import InputError
from tasklens.runs.directory import RunDir
from tasklens.core.files import digest


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "runs" / "one")


def leftovers(run: RunDir) -> list[Path]:
    return sorted(run.path.rglob("*tmp*"))


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_written_is_read(run: RunDir) -> None:
    run.write(run.config, b"first")
    assert run.read(run.config) == b"first"
    run.write(run.config, b"second, longer")
    assert run.read(run.config) == b"second, longer"
    run.write(run.states_of(7), b"deep")
    assert run.read(run.path / "states" / "step-00000007.safetensors") == b"deep"
    assert leftovers(run) == []


def test_a_directory_replaces_the_one_before(run: RunDir) -> None:
    run.write_directory(run.checkpoint(3), {"a": b"1", "b": b"2"})
    run.write_directory(run.checkpoint(3), {"a": b"3"})
    assert run.read(run.checkpoint(3) / "a") == b"3"
    assert [path.name for path in run.checkpoint(3).iterdir()] == ["a"]
    assert leftovers(run) == []


def test_an_empty_run_directory_is_not_made(run: RunDir) -> None:
    assert run.read_manifest() == {}
    assert not run.path.exists()
    assert run.name == "one"


@pytest.mark.parametrize("n", range(6))
def test_on_a_full_disk_a_file_is_the_old_one_or_the_new_one(
    run: RunDir, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write(run.config, b"old")
    disk = FullDisk(n)
    monkeypatch.setattr(os, "fsync", disk)
    message = ""
    try:
        run.write(run.config, b"new")
    except InputError as error:
        message = str(error)
    monkeypatch.undo()
    assert bool(message) == (disk.calls > n)
    assert run.config.read_bytes() in (b"old", b"new")
    run.read(run.config)  # and no hash of the other is left
    if n == 0:
        assert run.config.read_bytes() == b"old"
    if not message:
        assert run.config.read_bytes() == b"new"
        return
    assert message.startswith("no space left on the device while writing ")
    assert "\n" not in message
    with run.locked():
        assert leftovers(run) == []
    run.write(run.config, b"new")
    assert run.read(run.config) == b"new"


def test_on_a_full_disk_nothing_new_appears(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", FullDisk(0))
    with pytest.raises(InputError) as error:
        run.write(run.scores_csv, b"half")
    assert one_line(error) == (
        f"no space left on the device while writing {run.scores_csv}; free some, then run again "
        "with --resume: nothing that was finished is lost"
    )
    with pytest.raises(InputError, match="no space left"):
        run.write_directory(run.data, {"a": b"1", "b": b"2"})
    assert not run.scores_csv.exists()
    assert not run.data.exists()


def test_a_directory_that_does_not_fit_leaves_the_old_one(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_directory(run.data, {"a": b"old", "b": b"old"})
    monkeypatch.setattr(os, "fsync", FullDisk(3))  # after two of the manifest, and the first file
    with pytest.raises(InputError, match="no space left"):
        run.write_directory(run.data, {"a": b"new", "b": b"new"})
    monkeypatch.undo()
    assert {run.read(run.data / name) for name in ("a", "b")} == {b"old"}


def test_where_nothing_can_be_written_the_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = RunDir(tmp_path / "file" / "run")
    with pytest.raises(InputError) as error:
        run.write(run.config, b"")
    assert one_line(error).startswith(f"cannot write {run.path}")
    with pytest.raises(InputError), run.locked():
        pass


def test_a_file_that_changed_is_refused(run: RunDir) -> None:
    run.write(run.config, b"as it was")
    run.config.write_bytes(b"as it is")
    with pytest.raises(InputError) as error:
        run.read(run.config)
    assert one_line(error) == (
        f"{run.config} is damaged: its SHA-256 is not the one in manifest.json; "
        "remove it and run again with --resume"
    )


def test_a_file_that_grew_is_noted_when_it_is_whole(run: RunDir) -> None:
    run.write(run.metrics, b"1\n")
    with run.growing(run.metrics) as file:
        file.write("2\n")
        assert run.metrics.read_bytes() == b"1\n2\n"
        assert "metrics.jsonl" not in run.read_manifest()["files"]
    assert run.read(run.metrics) == b"1\n2\n"
    run.metrics.write_bytes(b"1\n")
    with pytest.raises(InputError, match="is damaged"):
        run.read(run.metrics)


def test_a_file_that_cannot_grow_is_named(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write(run.metrics, b"1\n")
    monkeypatch.setattr(os, "fsync", FullDisk(1))  # after the manifest
    with pytest.raises(InputError) as error, run.growing(run.metrics) as file:
        file.write("2\n")
    assert one_line(error).startswith(f"no space left on the device while writing {run.metrics};")
    assert "metrics.jsonl" not in run.read_manifest()["files"]


def test_a_missing_file_says_how_it_is_made(run: RunDir) -> None:
    with pytest.raises(InputError) as error:
        run.read(run.scores_parquet)
    assert one_line(error) == (
        f"{run.scores_parquet} cannot be read (No such file or directory); "
        "run the stage that makes it first: tasklens data, train, measure, plot"
    )


def test_a_removed_file_may_come_back_another(run: RunDir) -> None:
    run.write(run.config, b"first")
    run.remove(run.config)
    assert not run.config.exists()
    run.remove(run.config)
    run.config.write_bytes(b"by hand")
    assert run.read(run.config) == b"by hand"


def test_a_second_holder_is_refused(run: RunDir) -> None:
    refused = f"{run.path} is in use by another tasklens process; wait for it"
    with run.locked():
        with pytest.raises(InputError) as error, run.locked():
            pass
        assert one_line(error).startswith(refused)
        program = (
            "import sys; from tasklens.runs.directory import RunDir\n"
            "with RunDir(sys.argv[1]).locked(): pass"
        )
        command = [sys.executable, "-c", program, str(run.path)]
        held = subprocess.run(command, capture_output=True, text=True, check=False)
        assert held.returncode != 0
        assert refused in held.stderr
    with run.locked():
        pass
    assert subprocess.run(command, check=False).returncode == 0


def test_a_lock_ends_with_an_error_inside(run: RunDir) -> None:
    with pytest.raises(KeyError), run.locked():
        raise KeyError
    with run.locked():
        pass


def test_leftovers_are_cleaned_and_nothing_else(run: RunDir) -> None:
    run.write(run.config, b"kept")
    run.write_directory(run.data, {"a": b"kept"})
    inside = run.checkpoints / ".tmp-step-00000001"
    (inside / "deep").mkdir(parents=True)
    (inside / ".tmp-a").write_bytes(b"half")
    (inside / "deep" / ".tmp-b").write_bytes(b"half")
    (run.path / ".tmp-config.toml").write_bytes(b"half")
    (run.data / ".tmp-a").write_bytes(b"half")
    with run.locked():
        assert leftovers(run) == []
    assert run.read(run.config) == run.read(run.data / "a") == b"kept"
    assert run.checkpoints.is_dir()


def test_a_stage_is_finished_with_these_inputs_while_its_files_are_there(run: RunDir) -> None:
    assert not run.finished("data", "inputs")
    run.write(run.config, b"1")
    run.write_directory(run.data, {"a": b"1", "b": b"2"})
    assert not run.finished("data", "inputs")
    run.finish("data", "inputs", [run.data / "a", run.data / "b"], seconds=3)
    assert run.finished("data", "inputs")
    assert RunDir(run.path).finished("data", "inputs")
    assert not run.finished("data", "other inputs")
    assert not run.finished("train", "inputs")
    assert run.read_manifest()["stages"]["data"]["seconds"] == 3
    run.write(run.config, b"not a file of the stage")
    assert run.finished("data", "inputs")
    (run.data / "b").unlink()
    assert not run.finished("data", "inputs")


def test_a_stage_whose_file_is_being_written_again_is_not_finished(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write(run.metrics, b"old")
    run.finish("train", "inputs", [run.metrics])
    monkeypatch.setattr(os, "fsync", FullDisk(1))  # after the manifest, before the file
    with pytest.raises(InputError):
        run.write(run.metrics, b"new")
    monkeypatch.undo()
    assert run.metrics.read_bytes() == b"old"
    assert not run.finished("train", "inputs")
    assert run.mark("train") is None


def test_the_output_hash_is_of_the_files_of_the_stage(run: RunDir) -> None:
    def output(content: bytes) -> str:
        run.write(run.metrics, content)
        run.finish("train", "inputs", [run.metrics])
        return run.output_hash("train")

    first = output(b"1")
    assert output(b"2") != first
    run.write(run.config, b"3")
    assert output(b"1") == first


def test_a_cell_is_reused_where_it_was_made_from_the_same_inputs(run: RunDir) -> None:
    directory = run.measured_at(8)
    assert not run.made_from(directory, "inputs")
    run.write_directory(directory, {"scores.parquet": b"", "inputs": b"inputs"})
    assert run.made_from(directory, "inputs")
    assert not run.made_from(directory, "others")
    (directory / "scores.parquet").unlink()
    assert not run.made_from(directory, "inputs")


def test_a_cell_whose_hashes_were_not_noted_is_made_again(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = run.measured_at(8)
    files = {"scores.parquet": b"", "inputs": b"inputs"}
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "_note", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.write_directory(directory, files)
    assert (directory / "inputs").exists()
    assert not run.made_from(directory, "inputs")
    run.write_directory(directory, files)
    assert run.made_from(directory, "inputs")


def fill(run: RunDir, path: Path, inputs: str, **contents: bytes) -> list[str]:
    """Fill a directory; return the names of what was in it before."""
    with run.filling(path, inputs) as partial:
        found = sorted(file.name for file in partial.iterdir())
        for name, content in contents.items():
            assert not path.exists()
            (partial / name).write_bytes(content)
    return found


def break_off(run: RunDir, path: Path, inputs: str, error: type[BaseException]) -> None:
    with run.filling(path, inputs) as partial:
        (partial / "a").write_bytes(b"done")
        raise error


def test_a_directory_that_is_filled_is_whole_under_its_name(run: RunDir) -> None:
    path = run.states_at(8)
    assert fill(run, path, "mine", a=b"1", b=b"22") == ["inputs"]
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {
        "a": b"1", "b": b"22", "inputs": b"mine",
    }  # fmt: skip
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert run.made_from(path, "mine")
    assert not run.made_from(path, "others")
    # echo -n 22 | sha256sum
    assert run.noted(path / "b") == (
        "785f3ec7eb32f30b90cd0fcf3657d388b5ff4297f2f9716ff66e9b69c05ddd09"
    )
    assert set(run.read_manifest()["files"]) == {
        f"states/step-00000008/{name}" for name in ("a", "b", "inputs")
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_directory_goes_on_being_filled_from_the_same_inputs(
    run: RunDir, error: type[BaseException]
) -> None:
    path = run.states_at(8)
    with pytest.raises(error):
        break_off(run, path, "mine", error)
    assert (path.with_name("partial-step-00000008") / "a").read_bytes() == b"done"
    assert not path.exists()
    assert not run.made_from(path, "mine")
    assert run.read_manifest() == {}
    with run.locked():  # what cleans it of temporary files
        pass
    run.clean()
    assert fill(run, path, "mine", b=b"rest") == ["a", "inputs"]
    assert run.read(path / "a") == b"done"
    assert run.read(path / "b") == b"rest"
    assert run.made_from(path, "mine")


def test_a_directory_is_filled_anew_from_other_inputs(run: RunDir) -> None:
    path = run.states_at(8)
    with pytest.raises(KeyboardInterrupt):
        break_off(run, path, "mine", KeyboardInterrupt)
    assert fill(run, path, "others", b=b"new") == ["inputs"]
    assert run.made_from(path, "others")
    assert not (path / "a").exists()
    (path.with_name("partial-step-00000009")).mkdir()
    (path.with_name("partial-step-00000009") / "a").write_bytes(b"from where?")
    assert fill(run, run.states_at(9), "mine") == ["inputs"]


def test_a_filled_directory_replaces_the_one_before(run: RunDir) -> None:
    path = run.states_at(8)
    fill(run, path, "mine", a=b"old", b=b"old")
    run.finish("states", "inputs", [path / "a"])
    with run.filling(path, "others") as partial:
        assert (path / "a").read_bytes() == b"old", "until the new one is whole"
        (partial / "a").write_bytes(b"new")
    assert sorted(file.name for file in path.iterdir()) == ["a", "inputs"]
    assert run.read(path / "a") == b"new"
    assert run.made_from(path, "others")
    assert not run.made_from(path, "mine")
    assert not run.finished("states", "inputs")


@pytest.mark.parametrize("n", range(8))
def test_on_a_full_disk_a_directory_is_whole_or_not_there(
    run: RunDir, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run.states_at(8)
    disk = FullDisk(n)
    monkeypatch.setattr(os, "fsync", disk)
    message = ""
    try:
        fill(run, path, "mine", a=b"1", b=b"2")
    except InputError as error:
        message = str(error)
    monkeypatch.undo()
    assert bool(message) == (disk.calls > n)
    if message:
        assert message.startswith("no space left on the device while writing ")
        assert "\n" not in message
    assert run.made_from(path, "mine") == (not message)
    if n == 0:
        assert not path.exists()
    if path.exists():
        assert {file.name for file in path.iterdir()} == {"a", "b", "inputs"}
    if message:
        with run.filling(path, "mine") as partial:
            (partial / "a").write_bytes(b"1")
            (partial / "b").write_bytes(b"2")
    assert run.made_from(path, "mine")
    assert run.read(path / "a") + run.read(path / "b") == b"12"


def test_a_large_file_that_changed_is_refused(run: RunDir) -> None:
    path = run.states_at(8)
    fill(run, path, "mine", a=b"as it was", b=b"other")
    run.check(path / "a")
    (path / "a").write_bytes(b"as it is!")
    with pytest.raises(InputError) as error:
        run.check(path / "a")
    assert one_line(error) == (
        f"{path / 'a'} is damaged: its SHA-256 is not the one in manifest.json; "
        "remove it and run again with --resume"
    )
    run.check(path / "b")
    run.finish("states", "inputs", [path / "a", path / "b"])
    with pytest.raises(InputError, match="is damaged"):
        run.finished("states", "inputs")
    (path / "a").unlink()
    assert not run.made_from(path, "mine")
    assert not run.finished("states", "inputs")


def test_a_file_that_was_never_noted_has_nothing_to_differ_from(run: RunDir) -> None:
    run.write(run.config, b"")
    (run.path / "by hand").write_bytes(b"anything")
    run.check(run.path / "by hand")
    assert run.noted(run.path / "by hand") is None


def test_a_stage_is_done_once(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 102.5])
    with run.stage("data", "inputs") as finish:
        assert finish is not None
        run.write(run.scores_csv, b"1")
        assert run.mark("data") is None, "nothing is finished before it is"
        finish([run.scores_csv], rows=3)
    assert run.finished("data", "inputs")
    with run.stage("data", "inputs") as finish:
        assert finish is None
    with run.stage("data", "others") as finish:
        assert finish is not None
        assert run.finished("data", "inputs")
    run.remove(run.scores_csv)
    with monkeypatch.context() as patch:
        patch.setattr("tasklens.runs.directory.time.perf_counter", lambda: next(clock))
        with run.stage("data", "inputs") as finish:
            assert finish is not None
            run.write(run.scores_csv, b"2")
            finish([run.scores_csv], rows=4)
    assert run.mark("data") == {
        "inputs": "inputs", "files": ["scores.csv"], "seconds": 2.5, "rows": 4,
    }  # fmt: skip


def test_a_stage_that_breaks_down_is_not_finished(run: RunDir) -> None:
    with pytest.raises(KeyError), run.stage("data", "inputs"):
        raise KeyError
    assert not run.finished("data", "inputs")
    with run.stage("data", "inputs"):
        pass  # it never says that it has finished
    assert not run.finished("data", "inputs")


def test_the_manifest_says_where_a_run_comes_from(run: RunDir) -> None:
    run.write(run.config, b"")
    run.begin(5, "tasklens run smoke")
    manifest = json.loads(run.manifest.read_text())
    assert manifest["seed"] == 5
    assert manifest["command"] == "tasklens run smoke"
    assert manifest["machine"]["cpus"] == os.cpu_count()
    assert {"python", "torch", "numpy", "tasklens"} <= set(manifest["versions"])
    assert set(manifest["files"]) == {"config.toml"}  # what was there stays


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"files": []}', b'{"stages": 3}', b'{"files": null}'],
)
def test_a_damaged_manifest_is_named(run: RunDir, content: bytes) -> None:
    run.write(run.config, b"")
    run.manifest.write_bytes(content)
    for act in (
        lambda: run.write(run.config, b"1"),
        lambda: run.read(run.config),
        lambda: run.finished("data", ""),
    ):
        with pytest.raises(InputError) as error:
            act()
        assert one_line(error).startswith(f"{run.manifest} is damaged (")


def test_a_digest_is_of_the_value_and_not_of_its_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    # echo -n '{"a":1}' | sha256sum
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"

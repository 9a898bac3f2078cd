import ast
import contextlib
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import tasklens
from tasklens.core.errors import InputError
from tasklens.core.files import (
    check_is_file,
    digest,
    is_temporary,
    making,
    one_line_errors,
    read_small_file,
    remove_temporaries,
    temporary_beside,
    write_file,
    write_synced,
    writing_file,
)

#: What writes a file by its name alone, whatever it is called on.
WRITES = {
    *("write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "rmdir", "rmtree"),
    *("rename", "renames", "symlink_to", "hardlink_to", "copyfile", "copytree", "mkdtemp"),
    *("savez", "savez_compressed", "save_file", "save_pretrained", "tofile"),
    *("open_memmap", "memmap", "to_parquet", "NamedTemporaryFile", "TemporaryDirectory"),
    *("np.save", "numpy.save", "torch.save", "os.replace", "shutil.move"),
}


def writes(source: str) -> list[str]:
    """Return the calls of a module that write to the disk, as LINE: NAME."""
    calls = []
    for node in (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)):
        called = node.func
        name = getattr(called, "attr", getattr(called, "id", ""))
        owner = getattr(getattr(called, "value", None), "id", "")
        constants = [a.value for a in ast.walk(node) if isinstance(a, ast.Constant)]
        modes = [w for w in constants if isinstance(w, str) and set(w) <= set("rwaxbt+")]
        opened = name == "open" and any(set(mode) & set("wax+") for mode in modes)
        # str.replace takes two arguments, Path.replace one.
        renamed = name == "replace" and len(node.args) == 1 and not node.keywords
        # Into memory a figure is saved with its format named.
        drawn = name == "savefig" and "format" not in {word.arg for word in node.keywords}
        if {name, f"{owner}.{name}"} & WRITES or opened or renamed or drawn:
            calls.append(f"{node.lineno}: {name}")
    return calls


@pytest.mark.parametrize(
    "planted",
    [
        *("path.write_text('x')", "Path(name).write_bytes(b'')", "np.save(path, x)"),
        *("with open(name, 'w') as file: pass", "with path.open('a', buffering=1) as file: pass"),
        "np.load(name, mmap_mode='r+'); open(name, mode='r+b')",
        *("safetensors.numpy.save_file(tensors, path)", "figure.savefig(path)"),
        *("temporary.replace(path)", "os.replace(temporary, path)"),
        *("path.parent.mkdir(parents=True)", "shutil.rmtree(path, ignore_errors=True)"),
        "np.lib.format.open_memmap(path, 'w+')",
    ],
)
def test_a_planted_write_is_found_and_reading_is_none(planted: str) -> None:
    reads = "open(name, 'rb'); path.open(); text.replace('a', 'w'); path.read_text(); x.copy()"
    assert len(writes(f"{reads}\n{planted}\n")) == 1


def test_only_runs_and_core_files_write_files() -> None:
    root = Path(tasklens.__file__).parent
    writing = {
        path.relative_to(root).as_posix(): names
        for path in sorted(root.rglob("*.py"))
        if (names := writes(path.read_text()))
    }
    assert "core/files.py" in writing
    assert "runs/directory.py" in writing
    others = {name for name in writing if not name.startswith(("runs/", "core/files.py"))}
    assert {name: writing[name] for name in others} == {}


def test_windows_is_refused_in_a_line() -> None:
    program = (
        "import sys, tasklens\n"
        "from tasklens.cli.main import main\n"
        "sys.platform = 'win32'\n"
        "try: tasklens.score\n"
        "except tasklens.core.errors.InputError as error: print(error)\n"
        "sys.argv = ['tasklens', 'run', 'smoke']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    refusal = "tasklens runs on Linux and macOS, not on Windows; use it in WSL\n"
    assert (done.returncode, done.stdout) == (2, refusal)
    assert done.stderr == f"tasklens: error: {refusal}"


def test_a_digest_is_of_the_value_and_not_of_its_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    # echo -n '{"a":1}' | sha256sum
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


# --- Files that the user names ---


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "target").chmod(0o600)
    for name, target in (("link", "target"), ("broken", "missing")):
        (tmp_path / name).symlink_to(target)
        write_file(tmp_path / name, b"new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_bytes() == b"new"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 4, "nothing is left beside them"


def test_a_pipe_and_a_device_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        write_file(pipe, b"through")
        assert reader.communicate()[0] == b"through"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    before = os.lstat("/dev/null")
    write_file(Path("/dev/null"), b"away")
    (tmp_path / "null").symlink_to("/dev/null")
    write_file(tmp_path / "null", b"away")
    assert os.lstat("/dev/null").st_ino == before.st_ino
    assert stat.S_ISCHR(os.lstat("/dev/null").st_mode)


def test_what_cannot_be_written_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in (".", "loop", "file/inside"):
        (tmp_path / "file").write_bytes(b"old")
        with pytest.raises(InputError, match="cannot write ") as error:
            write_file(tmp_path / name, b"new")
        assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_file_whose_writing_fails_stays_as_it_was(tmp_path: Path) -> None:
    path, new = tmp_path / "old", tmp_path / "made" / "new"
    path.write_bytes(b"old")

    def fail(path: Path) -> None:
        with writing_file(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    for each in (path, new):
        with pytest.raises(ZeroDivisionError):
            fail(each)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"old"


def test_a_file_of_others_is_not_replaced_under_a_name_that_the_user_has_not_given(
    tmp_path: Path,
) -> None:
    path = tmp_path / "verdict.json"
    write_file(path, b"mark 1", own=b"mark")
    write_file(path, b"mark 2", own=b"mark")
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="is not of tasklens; move it, or name another file"):
        write_file(path, b"mark 3", own=b"mark")
    assert path.read_bytes() == b"mine"
    write_file(path, b"mark 3")


def test_a_temporary_name_cannot_be_guessed_and_is_recognised(tmp_path: Path) -> None:
    names = {temporary_beside(tmp_path / "a") for _ in range(100)}
    assert len(names) == 100
    for path in names:
        path.write_bytes(b"")
        assert is_temporary(path)
        other = path.with_name(path.name[:-1] + ("1" if path.name[-1] == "0" else "0"))
        assert not is_temporary(other)
        assert not is_temporary(path.with_name(f"{path.name}0"))
    for name in (".tmp-a", ".tasklens-", ".tasklens-a"):
        assert not is_temporary(tmp_path / name)
    target = tmp_path / "outside"
    target.mkdir()
    (target / "kept").write_bytes(b"")
    temporary_beside(tmp_path / "a").symlink_to(target)
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["outside", "kept"]


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_no_room_is_one_line_with_the_remedy(tmp_path: Path, code: str) -> None:
    error = OSError(getattr(errno, code), "...")
    with (
        pytest.raises(InputError, match=f"while writing {tmp_path}; free some space, .*--resume"),
        one_line_errors(tmp_path),
    ):
        raise error


def test_a_file_over_the_limit_of_the_process_is_not_written(tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tasklens.core.errors import InputError\n"
        "from tasklens.core.files import write_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_file(Path(sys.argv[1]), bytes(2000))\n"
        "except InputError as error: print(error)\n"
    )
    path = tmp_path / "new" / "file"
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("a file is larger than the limit of this process")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_made_unless_the_block_fails(tmp_path: Path) -> None:
    with making(tmp_path / "a" / "b"):
        pass
    with pytest.raises(KeyError), making(tmp_path / "a" / "b" / "c" / "d"):
        raise KeyError
    mine = tmp_path / "a" / "e" / "mine"
    with contextlib.suppress(KeyError), making(mine.parent):
        write_synced(mine, b"")
        raise KeyError
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b", "e"]


def test_a_small_file_is_read_and_what_may_have_no_end_is_not(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"small")
    assert read_small_file(tmp_path / "small") == b"small"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**24 + 1)
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "pipe": "it is a pipe or a device; should be a file",
        "zero": "it is a pipe or a device; should be a file",
        ".": "it is a directory; should be a file",
        "large": "it has 16,777,217 bytes; should have at most 16,777,216",
        "gone": "No such file or directory",
        "loop": "Too many levels of symbolic links",
        "x" * 300: "File name too long",
        "a\0b": "its name has a NUL",
    }
    for name, reason in reasons.items():
        path = tmp_path / name
        with pytest.raises(InputError) as error:
            read_small_file(path)
        assert str(error.value) == f"{path} cannot be read: {reason}"
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(InputError, match=f"cannot be read: {reasons[name]}$"):
            check_is_file(tmp_path / name)

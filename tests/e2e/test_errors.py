"""Bad input is refused in one clear line with exit status 2, and nothing is lost."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.conftest import (
    Command,
    Finished,
    Result,
    assert_refused,
    assert_same,
    call,
    changes,
    contents,
    files,
    succeed,
)
from tasklens.runs.directory import RunDir

# --- Settings and commands ---

#: One example for each module that refuses settings; the unit tests have the others.
SETTINGS = {
    "an unknown key": ("train.step=3", "--set: no setting 'train.step'; the nearest is 'train.st"),
    "out of range": ("train.learning_rate=nan", "train.learning_rate = nan: "),
    "no device": ("train.device=gpu", "train.device = 'gpu': should be cpu, cuda or cuda:N"),
    "two that do not go together": (
        "model.n_embd=33",
        "model: n_embd = 33: should be a multiple of",
    ),
    "two tables that do not": (
        "measure.k=[41]",
        "measure.k = [41] is more clusters than the data.measured_instances = 40",
    ),
    "one that is gone": (
        "clusters.device=cuda",
        "the setting clusters.device was removed: t-SNE runs on the CPU; remove",
    ),
    "tasks that cannot be drawn": ("tasks.symbols=a", "fewer than the "),
    "data that cannot be drawn": (
        "data.measured_tasks=7",
        "should be at most the number of tasks, 6",
    ),
}


@pytest.mark.parametrize(("change", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "run"
    assert_refused(call("data", "smoke", "--set", change, "--out", path), message)
    assert files(path / "data") == []
    # put right, they go into the same directory
    succeed("data", "smoke", "--out", path)


COMMANDS = {
    "an unknown preset": (
        ["run", "smokey"],
        "'smokey' is neither a preset (smoke, default, distributions, paper) nor a .toml file",
    ),
    "a file that is not there": (["run", "gone.toml"], "gone.toml cannot be read: No such file"),
    "an unknown option": (["run", "smoke", "--output", "x"], "--output"),
    "an unknown command": (["train-all"], "train-all"),
    "a command in another word": (["test", "x"], "no command 'test'; the nearest is 'verify'"),
    "an option in another word": (["run", "--output", "x"], "tasklens run; the nearest is --out"),
    "a setting as an option": (
        ["run", "--lr", "3"],
        "no option '--lr' of tasklens run; the nearest is --set train.learning_rate=VALUE",
    ),
    "a setting of a probe as an option": (
        ["probe", "m", "--batch-size", "3"],
        "the nearest is --set subject.max_tokens=VALUE",
    ),
    "an option of no command": (
        ["--lr"],
        "no option '--lr' of tasklens; tasklens --help lists them",
    ),
    "an option with many digits": (
        ["sweep", "a.toml", "--workers", "9" * 5000],
        "99': should be a whole number below 2^63",
    ),
    "an option with a digit of another kind": (
        ["sweep", "a.toml", "--workers", "²"],
        "--workers = '²': should be a whole number",
    ),
    "numbers of clusters that are none": (
        ["probe", "m", "--k", "2,²"],
        "measure.k.1 = '²': should be a whole number",
    ),
    "a number of clusters with many digits": (
        ["probe", "m", "--k", "9" * 5000],
        "--k: a number has thousands of digits",
    ),
    "an empty path": (["run", "smoke", "--out", ""], "--out is empty: should be a path"),
    "an empty argument": (["show", ""], "an argument of tasklens show is empty"),
    "a word of any length": (["run", "smoke", "x" * 10**5], "Got unexpected extra arg"),
    "no run named": (["train"], "RUN"),
    "too many arguments": (["show", "a", "b"], "b"),
    "nothing there": (["show", "gone"], "gone is not a run directory"),
    "nothing there to measure": (["measure", "gone"], "gone is not a run directory"),
    "a GPU that is not there": (
        ["run", "smoke", *changes(), "--device", "cuda:99"],
        "train.device = 'cuda:99': PyTorch",
    ),
    "a GPU that is nowhere": (
        ["run", "smoke", *changes(), "--device", "cuda:99999999999999999999"],
        "on this machine: should be cpu",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), COMMANDS.values(), ids=COMMANDS)
def test_commands_that_are_not_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(assert_refused(call(*arguments), message)) < 400
    assert list(tmp_path.iterdir()) == []


def test_options_replace_settings_of_the_file(tmp_path: Path) -> None:
    file, path = tmp_path / "mine.toml", tmp_path / "run"
    file.write_text("[tasks]\nn_tasks = 3\n")
    result = call("data", file, "--set", "tasks.n_tasks=1", "--out", path)
    assert_refused(result, "tasks.n_tasks = 1: ")
    file.write_text("[tasks]\nn_tasks = 1\n")
    assert_refused(call("run", file, "--out", path), f"{file}: tasks.n_tasks = 1: ")
    assert not path.exists()


def test_no_arguments_print_the_help() -> None:
    assert call() == Result(0, call("--help").out, "")
    assert all(f"  {name} " in call().out for name in ("run", "data", "train", "show"))


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version("tasklens")
    assert call("--version").out == f"tasklens {installed}\n"
    # With src on the path alone, there is no distribution.
    monkeypatch.delattr(metadata, "version")
    assert call("--version").out == f"tasklens {installed}\n"


@pytest.mark.long
def test_a_process_exits_with_status_2_and_one_line(process: Command, tmp_path: Path) -> None:
    result = process("run", "smoke", "--set", "train.stps=1", "--out", tmp_path / "run")
    assert_refused(result, "the nearest is 'train.steps'")


# --- The user's task file ---


def write_tasks(file: Path, symbol: str) -> bytes:
    tasks = [
        {
            "regexes": [f"{first}(c|d|{symbol}){{3,6}}"],
            "function": {f"x{i}": f"y{(i + shift) % 4}" for i in range(4)},
            "n_variants": 30,
        }
        for shift, first in enumerate("afg")
    ]
    file.write_text(json.dumps({"min_length": 4, "max_length": 8, "tasks": tasks}))
    return file.read_bytes()


def test_task_files_that_cannot_be(tmp_path: Path) -> None:
    file, path = tmp_path / "mine.json", tmp_path / "run"
    arguments = ("data", "smoke", "--set", f"tasks.file={file}", "--out", path)
    assert_refused(call(*arguments), f"{file} cannot be read")
    content = write_tasks(file, ".")
    assert_refused(call(*arguments), f"{file}: ", "regex 'a(c|d|.){3,6}', position 6: ")
    assert files(path / "data") == []
    assert file.read_bytes() == content


def test_a_task_file_that_changed_does_not_replace_the_data(tmp_path: Path) -> None:
    file, path = tmp_path / "mine.json", tmp_path / "run"
    arguments = changes(tasks__file=file, train__warmup_steps=1, train__steps=2)
    write_tasks(file, "b")
    succeed("data", "smoke", *arguments, "--out", path)
    succeed("train", path)
    before = contents(path)
    write_tasks(file, "e")
    again = call("data", "smoke", *arguments, "--out", path, "--resume")
    assert_refused(again, f"{path} holds another run: {file} has changed since its data were made")
    assert contents(path) == before


# --- The directory, of both kinds of run ---


class DamagedRun(NamedTuple):
    """A finished run of either kind, a copy to damage, and the arguments that ran it."""

    whole: Path
    copy: Path
    arguments: tuple[str | Path, ...]


@pytest.fixture(params=["run", "probe"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> DamagedRun:
    kind = request.param
    whole = request.getfixturevalue("tiny" if kind == "run" else "probed").path
    copy = Path(shutil.copytree(whole, tmp_path / "copied" / whole.name))
    if kind == "run":
        return DamagedRun(whole, copy, ("run", "smoke", *changes(), "--out", copy))
    return DamagedRun(whole, copy, request.getfixturevalue("stock").command("--out", copy))


def test_a_directory_of_the_same_run_or_another(damaged: DamagedRun) -> None:
    assert_refused(call(*damaged.arguments), f"{damaged.copy} already holds this run", "--resume")
    for change, key in (("seed=3", "seed"), ("measure.center=true", "measure.center")):
        for more in ([], ["--resume"]):
            result = call(*damaged.arguments, "--set", change, *more)
            refusal = f"{damaged.copy} holds another run (its {key} differs)"
            assert_refused(result, refusal, "--out")
    assert_same(damaged.copy, damaged.whole)


def test_a_directory_of_another_kind_of_run(
    tiny: Finished, probed: Finished, damaged: DamagedRun
) -> None:
    other = tiny if damaged.whole == probed.path else probed
    shutil.rmtree(damaged.copy)
    shutil.copytree(other.path, damaged.copy)
    for more in ([], ["--resume"]):
        refusal = f"{damaged.copy} holds another run (its kind differs)"
        assert_refused(call(*damaged.arguments, *more), refusal, "--out")
    assert_same(damaged.copy, other.path)


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for more in ([], ["--resume"]):
        result = call("run", "smoke", "--out", tmp_path, *more)
        assert_refused(result, f"{tmp_path} is not empty and not a run directory", "--out")
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "run"):
        assert_refused(call("run", "smoke", "--out", path), str(file))
    assert_refused(call("show", file), str(file))
    assert file.read_text() == "mine"


def test_no_file_of_a_run_is_replaced_by_another(tiny: Finished, copy: Path) -> None:
    scores = copy / "scores.parquet"
    assert_refused(call("verify", scores, "--out", scores), f"cannot write {scores}: it is what is")
    for command in ("report", "verify"):
        for name in ("scores.csv", "config.toml", "manifest.json", "figures/figure1.png"):
            result = call(command, copy, "--out", copy / name)
            assert_refused(result, f"{name}: it is a file of the run {copy}; name another", "--out")
    assert_same(copy, tiny.path)
    succeed("report", copy, "--out", copy / "mine.html")


def test_a_directory_in_use(tiny: Finished, copy: Path) -> None:
    program = (
        "import sys; from tasklens.runs.directory import RunDir\n"
        "with RunDir(sys.argv[1]).locked(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(copy)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        refused = f"{copy} is in use by another tasklens process"
        assert_refused(call("run", "smoke", *changes(), "--out", copy, "--resume"), refused)
        for stage in ("train", "measure", "plot"):
            assert_refused(call(stage, copy), refused)
        assert_refused(call("measure", copy, "--set", "clusters.n_init=4"), refused)
        assert call("show", copy).status == 0  # reading disturbs no other process
        holder.communicate("")
    assert_same(copy, tiny.path)
    succeed("train", copy)


# --- Damaged files ---


def flip(content: bytes) -> bytes:
    """Flip one bit in the middle, which few formats notice."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def forget(path: Path, *stages: str) -> None:
    """Drop the marks of stages, as if a run was interrupted before they ended."""
    for stage in stages:
        RunDir(path).unfinish(stage)


#: Per damaged file: the stages that are still to come, and the command that reads it.
MET_BY = {
    "data/train.parquet": (("train", "measure"), "train"),
    "data/val_subset.parquet": (("measure",), "measure"),
    "data/tasks.json": (("train", "measure"), "train"),
    "states/step-00000004/block1.npy": (("measure",), "measure"),
    "states/step-00000012/answer-val.npy": (("measure",), "measure"),
    "resume/step-00000012.safetensors": (("train", "measure"), "train"),
    "scores.parquet": (("plot",), "plot"),
    "scores.csv": ((), "measure"),
    "checkpoints/step-00000008/model.safetensors": ((), "train"),
}


@pytest.mark.parametrize("name", MET_BY)
def test_a_damaged_file_is_named_and_can_be_made_again(
    tiny: Finished, copy: Path, name: str
) -> None:
    stages, meets = MET_BY[name]
    forget(copy, *stages)
    if name.startswith("states/"):
        shutil.rmtree(copy / "measured")
    (copy / name).write_bytes(flip((copy / name).read_bytes()))
    before = contents(copy)
    line = assert_refused(call(meets, copy), f"{copy / name} is damaged", "remove it and run")
    assert "--resume" in line
    assert {n: contents(copy)[n] for n in before} == before
    # the advice of the line is right
    (copy / name).unlink()
    succeed("run", "smoke", *changes(), "--out", copy, "--resume")
    assert_same(copy, tiny.path)


def test_a_damaged_table_is_not_shown(copy: Path) -> None:
    file = copy / "scores.parquet"
    whole = file.read_bytes()
    for content in (flip(whole), whole[: len(whole) // 2], b""):
        file.write_bytes(content)
        assert_refused(call("show", copy), f"{file} is damaged")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("manifest.json", content) for content in (b"", b"{", b'{"files": 3}')),
        *(("config.toml", content) for content in (b"[train", b"\xff\xfe", b"steps = 3", b"")),
    ],
)
def test_a_damaged_manifest_or_config(damaged: DamagedRun, name: str, content: bytes) -> None:
    file = damaged.copy / name
    file.write_bytes(content)
    before = contents(damaged.copy)
    again = (*damaged.arguments, "--resume")
    stages = [(stage, damaged.copy) for stage in ("train", "measure", "plot")]
    for arguments in (damaged.arguments, again, *stages):
        # an empty file of settings means the defaults, which are not those of the run
        assert_refused(call(*arguments), str(damaged.copy if content == b"" else file))
        assert file.read_bytes() == content
        assert contents(damaged.copy) == before


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("measure", "measure.k=[3,49]", "measure.k = [3, 49]"),
        ("plot", "figure.space=tsne", "figure.space = 'tsne': should be 'raw', since"),
    ],
)
def test_a_change_that_is_refused_is_not_kept(
    damaged: DamagedRun, stage: str, change: str, message: str
) -> None:
    assert_refused(call(stage, damaged.copy, "--set", change), message)
    assert_same(damaged.copy, damaged.whole)

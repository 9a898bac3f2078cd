"""Bad input gets one clear line and exit status 2, and loses nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from e2e.conftest import Command, Finished, assert_refused, assert_same, changes, contents


def files(path: Path) -> list[Path]:
    """Return the files of a directory that need not be there; a lock and a temporary are none."""
    return [f for f in path.rglob("*") if f.is_file() and not f.name.startswith(".")]


# --- What is asked for ---

REGEXES = '["a{4,6}","b{4,6}","c{4,6}","d{4,6}","e{4,6}","%s"]'
REGEX_SIZES = (
    "tasks.variants_per_task=2",
    "tasks.variants_spread=0",
    "data.measured_instances=10",
    "clusters.tsne=none",
)

SETTINGS = {
    "an unknown key": (
        ["train.step=3"],
        "--set: no setting 'train.step'; the nearest is 'train.steps'",
    ),
    "an unknown key in another table": (
        ["model.n_init=3"],
        "no setting 'model.n_init'; the nearest is 'clusters.n_init'",
    ),
    "an unknown table": (["trian.steps=3"], "the nearest is 'train.steps'"),
    "no value": (["train.steps"], "--set train.steps: should be key=value"),
    "below its range": (["train.steps=0"], "train.steps = 0: "),
    "above its range": (["tasks.variants_spread=1.5"], "tasks.variants_spread = 1.5: "),
    "not a number": (["train.steps=many"], "train.steps = 'many': "),
    "not one of the words": (["clusters.tsne=some"], "clusters.tsne = 'some': "),
    "not finite": (["train.learning_rate=nan"], "train.learning_rate = nan: "),
    "heads that do not divide": (["model.n_embd=33"], "n_embd = 33"),
    "a negative seed": (["seed=-1"], "seed = -1: "),
    "a seed that no table holds": (["seed=9223372036854775808"], "seed = 9223372036854775808: "),
    "more mapped inputs than inputs": (
        ["tasks.inputs_per_task=9"],
        "inputs_per_task = 9 is more than n_inputs = 8",
    ),
    "a perplexity that the measured instances do not allow": (
        ["clusters.perplexity=40"],
        "perplexity = 40",
    ),
    "more measured tasks than tasks": (
        ["data.measured_tasks=7"],
        "data.measured_tasks = 7 is more than the 6 tasks there are",
    ),
    "more measured instances than instances": (
        ["data.measured_instances=5000"],
        "data.measured_instances = 5000 is more than the ",
    ),
    "nothing left to train on": (
        ["data.val_inputs=6"],
        "data.val_inputs = 6 leaves nothing to train on",
    ),
    "more variants than the language holds": (
        [f"tasks.regexes={REGEXES % '(ab|ba)'}", *REGEX_SIZES, "tasks.min_length=2"],
        "regex 'a{4,6}' holds only ",
    ),
    "languages that meet": (
        [f"tasks.regexes={REGEXES % '[ab]{4,6}'}", *REGEX_SIZES],
        "tasks 'task0' and 'task5' share the string 'aaaa'",
    ),
    "a regex that does not parse": (
        [f"tasks.regexes={REGEXES % '(ab'}", *REGEX_SIZES],
        "regexes: regex '(ab', position ",
    ),
    "a language that is empty within the lengths": (
        [f"tasks.regexes={REGEXES % 'ab'}", *REGEX_SIZES],
        "regex 'ab' holds only 0 strings of length 4 to 8, 2 asked for",
    ),
    "a language too large to count": (
        [f"tasks.regexes={REGEXES % '((a|b){0,999}c){0,999}'}", *REGEX_SIZES],
        "needs an automaton of more than ",
    ),
    "another number of regexes than tasks": (
        ['tasks.regexes=["ab"]'],
        "regexes has 1 entries: needed n_tasks x distributions_per_task = 6",
    ),
    "no room for so many languages": (
        ["tasks.n_tasks=300", "tasks.symbols=a"],
        "no random grammar ",
    ),
}


@pytest.mark.parametrize(("change", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be(
    command: Command, tmp_path: Path, change: list[str], message: str
) -> None:
    if "holds only " in message and "'a{4,6}'" in message:
        change = [c.replace("variants_per_task=2", "variants_per_task=4") for c in change]
    path = tmp_path / "run"
    words = [word for item in change for word in ("--set", item)]
    assert_refused(command("data", "smoke", *words, "--out", path), message)
    assert files(path / "data") == []


@pytest.mark.parametrize("change", ["data.measured_tasks=7", "tasks.variants_per_task=100000"])
def test_settings_put_right_go_into_the_same_directory(
    command: Command, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "run"
    assert_refused(command("data", "smoke", "--set", change, "--out", path))
    result = command("data", "smoke", "--out", path)
    assert result.status == 0, result.err


WORDS = {
    "an unknown preset": (
        ["run", "smokey"],
        "'smokey' is neither a preset (smoke, default, paper) nor a .toml file",
    ),
    "a file that is not there": (["run", "gone.toml"], "gone.toml cannot be read: No such file"),
    "an unknown option": (["run", "smoke", "--output", "x"], "--output"),
    "an unknown command": (["train-all"], "train-all"),
    "no run named": (["train"], "RUN"),
    "too many words": (["show", "a", "b"], "b"),
    "nothing there": (["show", "gone"], "gone is not a run directory"),
    "nothing there to measure": (["measure", "gone"], "gone is not a run directory"),
}


@pytest.mark.parametrize(("words", "message"), WORDS.values(), ids=WORDS)
def test_words_that_are_not_understood(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(command(*words), message)
    assert list(tmp_path.iterdir()) == []


TOML = {
    "an unknown key": (b"[train]\nstesp = 3\n", "no setting 'train.stesp'; the nearest is "),
    "an unknown table": (b"[trainn]\nsteps = 3\n", "the nearest is 'train.steps'"),
    "a value for a table": (b"train = 3\n", "no setting 'train'"),
    "a table for a value": (b"[seed]\nx = 3\n", "no setting 'seed.x'"),
    "out of range": (b"[model]\nn_layer = 0\n", "model.n_layer = 0: "),
    "not TOML": (b"[train\nsteps = 3\n", "mine.toml is not TOML: "),
    "not text": (b"seed = 1 # \xff\xfe\n", "mine.toml"),
}


@pytest.mark.parametrize(("content", "message"), TOML.values(), ids=TOML)
def test_files_of_settings_that_cannot_be(
    command: Command, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    assert_refused(command("run", file, "--out", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


def test_options_change_what_the_file_says(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[tasks]\nn_tasks = 3\n")
    result = command("data", file, "--set", "tasks.n_tasks=1", "--out", tmp_path / "run")
    assert_refused(result, "tasks.n_tasks = 1: ")


def test_no_words_at_all_are_answered_with_the_help(command: Command) -> None:
    result = command()
    assert (result.status, result.err) == (0, "")
    assert result.out == command("--help").out
    assert all(f"  {name} " in result.out for name in ("run", "data", "train", "show"))


def test_the_version_is_that_of_the_package(command: Command) -> None:
    assert command("--version").out == f"tasklens {metadata.version('tasklens')}\n"


def test_a_process_exits_with_status_2_and_one_line(process: Command, tmp_path: Path) -> None:
    result = process("run", "smoke", "--set", "train.stps=1", "--out", tmp_path / "run")
    assert_refused(result, "the nearest is 'train.steps'")


# --- The user's task file ---


def task_file(**others: object) -> dict[str, object]:
    functions = [{"x": "u", "y": "v"}, {"x": "v", "y": "u"}]
    regexes = ["a{4,6}b{0,9}", "c{4,6}d{0,9}"]
    tasks = [
        {"name": f"t{i}", "regexes": [regexes[i]], "function": functions[i], "n_variants": 4}
        for i in range(2)
    ]
    return {"min_length": 4, "max_length": 8, "tasks": tasks, **others}


TASK_FILES = {
    "not JSON": (b"{", "not a task file"),
    "not text": (b'{"tasks": "\xff"}', "mine.json"),
    "not an object": (b"[]", "must be an object with the keys "),
    "no tasks": (b"{}", "'tasks' is missing"),
    "an unknown key": (
        json.dumps(task_file(task=[])).encode(),
        "unknown key 'task'; did you mean 'tasks'?",
    ),
    "one task": (
        json.dumps({"tasks": [{"regexes": ["a{4,6}"], "function": {"x": "u"}}]}).encode(),
        "1 tasks: needed at least 2",
    ),
    "a symbol too many": (
        json.dumps(task_file(symbols=["a", "b", "c"])).encode(),
        "symbol 'd' is not among the symbols of the task set",
    ),
    "a token that is a symbol": (
        json.dumps(task_file(outputs=["u", "v", "a"])).encode(),
        "token 'a' is a symbol of the instructions; rename it",
    ),
    "too few strings": (
        json.dumps(task_file(max_length=4, min_length=4)).encode(),
        "holds only 1 strings of length 4 to 4, 4 asked for",
    ),
}


@pytest.mark.parametrize(("content", "message"), TASK_FILES.values(), ids=TASK_FILES)
def test_task_files_that_cannot_be(
    command: Command, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "mine.json"
    file.write_bytes(content)
    path = tmp_path / "run"
    result = command("data", "smoke", "--set", f"tasks.file={file}", "--out", path)
    assert_refused(result, message, "mine.json")
    assert files(path / "data") == []
    assert file.read_bytes() == content


@pytest.mark.parametrize("name", ["gone.json", "."])
def test_a_task_file_that_cannot_be_read(command: Command, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    result = command("data", "smoke", "--set", f"tasks.file={file}", "--out", tmp_path / "run")
    assert_refused(result, str(file))


def test_a_task_file_that_changed_does_not_replace_the_data(
    command: Command, tmp_path: Path
) -> None:
    file, path = tmp_path / "mine.json", tmp_path / "run"
    words = changes(tasks__file=file, train__warmup_steps=1, train__steps=2)
    file.write_text(json.dumps(big_task_file("b")))
    assert command("data", "smoke", *words, "--out", path).status == 0
    assert command("train", path).status == 0
    before = contents(path)
    file.write_text(json.dumps(big_task_file("e")))
    assert_refused(command("data", "smoke", *words, "--out", path, "--resume"), str(path))
    assert contents(path) == before


def big_task_file(symbol: str) -> dict[str, object]:
    tasks = [
        {
            "regexes": [f"{first}(c|d|{symbol}){{3,6}}"],
            "function": {f"x{i}": f"y{(i + shift) % 4}" for i in range(4)},
            "n_variants": 30,
        }
        for shift, first in enumerate("afg")
    ]
    return {"min_length": 4, "max_length": 8, "tasks": tasks}


# --- The directory ---


def test_a_directory_of_another_run(tiny: Finished, copy: Path, command: Command) -> None:
    others = ["--set", "model.n_embd=16", "--out", copy]
    for more in ([], ["--resume"]):
        result = command("run", "smoke", *changes(), *others, *more)
        assert_refused(result, f"{copy} holds another run (its model.n_embd differs)", "--out")
    assert_refused(command("data", "smoke", *changes(seed=3), "--out", copy), "its seed differs")
    assert_same(copy, tiny.path)


def test_a_directory_of_the_same_run(tiny: Finished, copy: Path, command: Command) -> None:
    for name in ("run", "data"):
        result = command(name, "smoke", *changes(), "--out", copy)
        assert_refused(result, f"{copy} already holds this run", "--resume")
    assert_same(copy, tiny.path)


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_directory_of_something_else(command: Command, tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    result = command("run", "smoke", "--out", tmp_path, *more)
    assert_refused(result, f"{tmp_path} is not empty and not a run directory", "--out")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_directory_that_is_a_file(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "run"):
        assert_refused(command("run", "smoke", "--out", path), str(file))
    assert_refused(command("show", file), str(file))
    assert file.read_text() == "mine"


def test_a_directory_in_use(tiny: Finished, copy: Path, command: Command) -> None:
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
        assert_refused(command("run", "smoke", *changes(), "--out", copy, "--resume"), refused)
        for stage in ("train", "measure", "plot"):
            assert_refused(command(stage, copy), refused)
        measured = command("measure", copy, "--set", "clusters.n_init=4")
        assert_refused(measured, refused)
        assert command("show", copy).status == 0  # reading disturbs nobody
        holder.communicate("")
    assert_same(copy, tiny.path)
    assert command("train", copy).status == 0


# --- What is damaged ---


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """Flip one bit in the middle, which few formats notice by themselves."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(_: bytes) -> bytes:
    return b""


def forget(path: Path, *stages: str) -> None:
    """Drop the marks of stages, as where a run was interrupted before they ended."""
    manifest = json.loads((path / "manifest.json").read_text())
    for stage in stages:
        del manifest["stages"][stage]
    (path / "manifest.json").write_text(json.dumps(manifest))


#: What is damaged: the stages that are still to come, the command that meets it.
MET_BY = {
    "data/train.parquet": (("train", "measure"), "train"),
    "data/val_subset.parquet": (("measure",), "measure"),
    "data/tasks.json": (("train", "measure"), "train"),
    "states/step-00000004/block1.npy": (("measure",), "measure"),
    "resume/step-00000012.safetensors": (("train", "measure"), "train"),
    "measured/step-00000004/scores.parquet": (("measure",), "measure"),
    "scores.parquet": (("plot",), "plot"),
}


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("name", MET_BY)
def test_a_damaged_file_is_named_and_can_be_made_again(
    tiny: Finished, copy: Path, command: Command, name: str, damage: Callable[[bytes], bytes]
) -> None:
    stages, meets = MET_BY[name]
    forget(copy, *stages)
    if name.startswith("states/"):
        shutil.rmtree(copy / "measured")
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    before = contents(copy)
    line = assert_refused(command(meets, copy), f"{copy / name} is damaged", "remove it and run")
    assert "--resume" in line
    assert {n: contents(copy)[n] for n in before} == before
    # and it is true what the line says
    (copy / name).unlink()
    result = command("run", "smoke", *changes(), "--out", copy, "--resume")
    assert result.status == 0, result.err
    assert_same(copy, tiny.path)


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_a_damaged_table_is_not_shown(
    copy: Path, command: Command, damage: Callable[[bytes], bytes]
) -> None:
    file = copy / "scores.parquet"
    file.write_bytes(damage(file.read_bytes()))
    assert_refused(command("show", copy), f"{file} is damaged")


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_a_damaged_checkpoint_of_a_finished_run_is_noticed(
    copy: Path, command: Command, damage: Callable[[bytes], bytes]
) -> None:
    file = copy / "checkpoints" / "step-00000008" / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    result = command("run", "smoke", *changes(), "--out", copy, "--resume")
    assert_refused(result, f"{file} is damaged")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"files": 3}', b'{"stages": []}'])
def test_a_damaged_manifest(copy: Path, command: Command, content: bytes) -> None:
    file = copy / "manifest.json"
    file.write_bytes(content)
    before = contents(copy)
    for words in (["run", "smoke", *changes(), "--out", copy, "--resume"], ["measure", copy]):
        assert_refused(command(*words), f"{file} is damaged")
    assert file.read_bytes() == content
    assert contents(copy) == before


@pytest.mark.parametrize("content", [b"[train", b"\xff\xfe", b"steps = 3", b"[train]\nsteps = 0"])
def test_a_damaged_config(copy: Path, command: Command, content: bytes) -> None:
    file = copy / "config.toml"
    file.write_bytes(content)
    before = contents(copy)
    run = ["run", "smoke", *changes(), "--out", copy]
    for words in (run, [*run, "--resume"], ["train", copy], ["measure", copy], ["plot", copy]):
        assert_refused(command(*words), str(file))
    assert contents(copy) == before


def test_an_empty_config_is_not_that_of_a_run(copy: Path, command: Command) -> None:
    (copy / "config.toml").write_bytes(b"")
    before = contents(copy)  # an empty file of settings means the defaults, and may say so
    for words in (
        ["run", "smoke", *changes(), "--out", copy, "--resume"],
        ["train", copy],
        ["measure", copy],
    ):
        assert_refused(command(*words), str(copy))
    made = before.keys() - {"config.toml"}
    assert {name: contents(copy)[name] for name in made} == {name: before[name] for name in made}


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(
    command: Command, tmp_path: Path
) -> None:
    result = command("run", "smoke", *changes(), "--device", "cuda:99", "--out", tmp_path / "new")
    assert_refused(result, "train.device = 'cuda:99': PyTorch", "CUDA GPUs")
    assert not (tmp_path / "new").exists()


def test_a_setting_that_is_gone_says_what_to_do(command: Command, copy: Path) -> None:
    result = command("measure", copy, "--set", "clusters.device=cuda")
    assert_refused(result, "the setting clusters.device is gone: t-SNE runs on the CPU; remove")


def test_a_device_that_is_none_is_refused(command: Command, tmp_path: Path) -> None:
    result = command("run", "smoke", "--device", "gpu", "--out", tmp_path / "new")
    assert_refused(result, "train.device = 'gpu'", "cpu|cuda")
    assert not (tmp_path / "new").exists()

"""Run every command and every block of Python in the documentation, on tiny settings."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import transformers
import typer

from e2e.conftest import TINY, Finished, call, succeed
from e2e.doc_blocks import (
    PROGRAMS,
    ROOT,
    Block,
    blocks,
    blocks_of,
    commands,
    examples_of_help,
)
from e2e.stock import Stock, write_prompts
from e2e.sweeps import AXES, write_sweep
from tasklens.cli.main import app
from tasklens.core.settings import SettingsBase
from tasklens.runs.load_run import load_run
from tasklens.runs.settings import ModelRunSettings, TrainingRunSettings, load_settings
from tasklens.scoring.final_scores import final_table
from tiny_adapters import make_adapter
from tiny_gguf import write_gguf

#: Tiny settings, under which each measured task has several instances in each split.
SETTINGS = TINY | {"tasks.variants_per_task": 30, "data.measured_instances": 30}
#: Commands that cannot be run in a test; their options are checked.
NOT_RUN = re.compile(r"--engine ray|ORG/NAME|paper|smollm2|gather docs/|space=tsne")
#: Shorter code for the code of the pages.
SHORTER = {
    "steps=400": "steps=2",
    "warmup_steps=20": "warmup_steps=1",
    "block4": "block1",
    "block5": "block1",
    "step=900": "step=12",
    "steps=1000": "steps=12",
    "n_clusters=8": "n_clusters=3",
}


def text_of(parts: list[str]) -> str:
    return " ".join(parts)


# -- nothing escapes ------------------------------------------------------------------------------


def test_every_block_is_known() -> None:
    languages = {"", "bibtex", "console", "python", "text", "toml"}
    assert [block for block in blocks() if block.language not in languages] == []
    for block in blocks_of("text"):
        for line in block.text.splitlines():
            assert not line.removeprefix("$ ").startswith(tuple(f"{p} " for p in PROGRAMS)), block
    for page, parts in commands():
        assert parts[0] in PROGRAMS, f"{page}: {text_of(parts)}"


def check_keys(changes: list[str]) -> None:
    """Check that the keys of --set are settings of a training run or of a model run."""
    kinds: tuple[type[SettingsBase], ...] = (TrainingRunSettings, ModelRunSettings)
    for change in changes:
        assert any(change.partition("=")[0] in kind.declared() for kind in kinds), change


def check_tasklens(parts: list[str]) -> None:
    """Parse the arguments of a command of tasklens, without running it."""
    group: Any = typer.main.get_command(app)
    name, *arguments = parts
    context = group.commands[name].make_context(name, arguments)
    check_keys(context.params.get("change") or [])


def check_torchrun(parts: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    parsed = get_args_parser().parse_args(parts)
    assert (parsed.module, parsed.training_script) == (True, "tasklens")
    check_tasklens(parsed.training_script_args)


def check_make(parts: list[str]) -> None:
    rules = (ROOT / "Makefile").read_text()
    for word in parts:
        name, equals, _ = word.partition("=")
        rule = rf"^{name} \?=" if equals else rf"^\.PHONY:.* {name}( |$)"
        assert re.search(rule, rules, re.MULTILINE), word


def check_pip(parts: list[str]) -> None:
    if re.fullmatch(r"install --no-deps --target \w+ [\w-]+==[\d.]+", " ".join(parts)):
        return  # the files of another package, which is not imported
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert parts[:2] == ["install", "-e"]
    match = re.fullmatch(r"\.(?:\[([\w,]+)\])?", parts[2])
    assert match, parts
    extras = match[1].split(",") if match[1] else []
    assert set(extras) <= set(known["optional-dependencies"])


def check_script(parts: list[str]) -> None:
    script, *arguments = parts
    source = (ROOT / script).read_text()
    for word in arguments:
        assert not word.startswith("--") or f'"{word}"' in source or word == "--help", word


CHECKS = {
    "tasklens": check_tasklens,
    "torchrun": check_torchrun,
    "make": check_make,
    "pip": check_pip,
    "python": check_script,
}


@pytest.mark.parametrize(("page", "parts"), commands(), ids=lambda part: str(part)[:80])
def test_the_words_of_a_command_are_right(page: str, parts: list[str]) -> None:
    CHECKS[parts[0]](parts[1:])


def test_the_examples_of_the_help_are_right() -> None:
    examples = examples_of_help()
    assert len(examples) > 20
    for parts in examples:
        CHECKS[parts[0]](parts[1:])


@pytest.mark.parametrize(
    ("program", "parts"),
    [
        ("tasklens", ["run", "smoke", "--resum"]),
        ("tasklens", ["run", "smoke", "--set", "train.step=2"]),
        ("torchrun", ["--alone", "-m", "tasklens", "run", "smoke"]),
        ("make", ["instal"]),
        ("pip", ["install", "-e", ".[notebooks]"]),
        ("python", ["benchmarks/probe.py", "--width", "1"]),
    ],
)
def test_a_wrong_word_is_reported(program: str, parts: list[str]) -> None:
    error = (AssertionError, SystemExit, typer.BadParameter.__mro__[2])
    with pytest.raises(error):
        CHECKS[program](parts)


# -- Python ---------------------------------------------------------------------------------------


def execute(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "a block", "exec"), names)
    return names


@pytest.mark.parametrize("block", blocks_of("python"), ids=lambda block: block.page)
def test_python_runs(
    block: Block,
    tiny: Finished,
    stock: Stock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("default", "small"):
        shutil.copytree(tiny.path, tmp_path / "runs" / name)
    shutil.copy(tiny.path / "config.toml", tmp_path / "small.toml")
    monkeypatch.chdir(tmp_path)
    code = block.text.replace("path/to/model", str(stock.checkpoints[200]))
    for old, new in SHORTER.items():
        code = code.replace(old, new)
    execute(code)
    if "tl.train(" in code:
        (table,) = (b.text for b in blocks_of("text") if b.page == "docs/how-to/python.md")
        printed = capsys.readouterr().out
        labels = [[line.partition(" ")[0] for line in t.splitlines()] for t in (table, printed)]
        assert labels[0] == labels[1]


@pytest.mark.long
def test_the_example_of_training_ends_far_above_its_controls() -> None:
    (code,) = (b.text for b in blocks_of("python") if "tl.train(" in b.text)
    names = execute(code)
    table = names["tl"].final_table(names["scores"])["val_subset"]
    assert table["block3"] > 0.7
    controls = table[[name for name in table.index if name.startswith("control:")]]
    assert table["block3"] > 1.5 * max(controls.max(), names["untrained"].to_numpy().max())


# -- commands -------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a directory with tiny runs under the names that the pages have."""
    for seed in range(3):
        path = tmp_path / "runs" / f"seed{seed}"
        options = [w for k, v in SETTINGS.items() for w in ("--set", f"{k}={v}")]
        succeed("run", "smoke", *options, "--set", f"seed={seed}", "--out", path)
        for copy in (f"seed{seed + 6}", f"d{seed + 11}"):
            shutil.copytree(path, tmp_path / "runs" / copy)
    shutil.copytree(tmp_path / "runs" / "seed0", tmp_path / "runs" / "default")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_of_a_sweep_is_right(tmp_path: Path) -> None:
    (block,) = (block for block in blocks_of("toml") if block.page == "docs/how-to/sweeps.md")
    file = tmp_path / "mine.toml"
    file.write_text(block.text)
    result = call("sweep", file, "--dry-run")
    assert (result.status, result.err) == (0, "")
    assert len(result.out.splitlines()) == 2 * (2 * 2 + 2), "two seeds of 6 runs"


def test_the_settings_of_the_tutorial_are_right(tmp_path: Path) -> None:
    """They are a file as it stands, and the page's numbers are of their sizes."""
    (block,) = (block for block in blocks_of("toml") if block.page == "docs/tutorial.md")
    file = tmp_path / "small.toml"
    file.write_text(block.text)
    settings = load_settings(file)
    assert isinstance(settings, TrainingRunSettings)
    assert (settings.train.steps, settings.seed) == (1000, 0)
    assert (settings.data.measured_tasks, settings.data.measured_instances) == (8, 400)


@pytest.mark.long
def test_the_run_of_the_tutorial_has_the_clusters_that_the_page_describes(tmp_path: Path) -> None:
    """About a minute: data, training and scores of few checkpoints, without edits and pictures."""
    (block,) = (block for block in blocks_of("toml") if block.page == "docs/tutorial.md")
    file = tmp_path / "small.toml"
    file.write_text(block.text + '[clusters]\ntsne = "none"\n')
    for stage in (("data", file, "--out"), ("train",), ("measure",)):
        succeed(*stage, tmp_path / "small")
    table = final_table(load_run(tmp_path / "small").scores())["val_subset"]
    controls = table[[name for name in table.index if name.startswith("control:")]]
    assert table[["block3", "block4"]].min() > 0.8
    assert max(table[["embed", "block1", "block2"]].max(), controls.max()) < 0.45


def shortened(parts: list[str], stock: Stock) -> list[str]:
    """Return a command of tasklens with tiny settings, on files of the test."""
    files = {
        "path/to/model": str(stock.checkpoints[200]),
        "path/to/training": str(stock.models),
        "runs/llama": str(stock.models),
        "block4": "block1",
        "block5": "block1",
        "1000": "12",
        "cuda": "cpu",
    }
    # A named stage is NAME=MODEL.
    named = (word.rpartition("=") for word in parts)
    name, *arguments = (before + equals + files.get(word, word) for before, equals, word in named)
    if name in ("run", "data"):
        if "--out" not in arguments:
            arguments += ["--out", f"runs/{arguments[0]}"]
        arguments[0] = "smoke"
        kept = {word.partition("=")[0] for word in arguments}
        own_tasks = "tasks.regexes" in kept
        for key, value in SETTINGS.items():
            if key not in kept and not (own_tasks and key.startswith(("tasks.", "data."))):
                arguments += ["--set", f"{key}={value}"]
    elif name == "probe":
        for key in ("clusters.tsne=none", "clusters.n_init=1", "workers=1"):
            arguments += ["--set", key]
    elif name == "prompts" and "--tokenizer" in arguments:  # that of the test knows few words
        i = arguments.index("--tokenizer")
        arguments[i : i + 2] = []
    elif name == "sweep" and arguments[0].startswith("docs/"):
        arguments += ["--dry-run"]  # hours otherwise
    return [name, *arguments]


def removed(parts: list[str]) -> None:
    """Remove the run directory that a command makes."""
    if parts[0] in ("run", "data") and "--resume" not in parts and "--dry-run" not in parts:
        shutil.rmtree(parts[parts.index("--out") + 1], ignore_errors=True)


def is_run(parts: list[str]) -> bool:
    return parts[0] == "tasklens" and not NOT_RUN.search(text_of(parts))


@pytest.mark.long
@pytest.mark.parametrize("page", sorted({page for page, parts in commands() if is_run(parts)}))
def test_the_commands_of_a_page_run(page: str, directory: Path, stock: Stock) -> None:
    rows = [{**row, "topic": row["label"]} for row in stock.rows]
    write_prompts(directory / "my.jsonl", rows)
    write_sweep(directory, AXES).rename(directory / "my-sweep.toml")
    make_adapter(stock.checkpoints[200], directory / "path/to/adapter", target_modules=["q_proj"])
    model = transformers.AutoModelForCausalLM.from_pretrained(stock.checkpoints[200])
    write_gguf(directory / "model-Q8_0.gguf", model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(stock.checkpoints[200] / name, directory)
    for folder in ("docs", "src"):
        (directory / folder).symlink_to(ROOT / folder)
    for name, parts in commands():
        if name != page:
            continue
        if is_run(parts):
            short = shortened(parts[1:], stock)
            removed(short)
            if "--out" in short and short[short.index("--out") + 1].startswith("docs/"):
                short[short.index("--out") + 1] = "out.json"
            result = call(*short)
            assert result.status in ((0, 1) if short[0] == "verify" else (0,)), (short, result.err)
        elif parts[:2] == ["python", "docs/scripts/compare_scores.py"]:
            subprocess.run([sys.executable, *parts[1:]], check=True, stdout=subprocess.DEVNULL)

"""Arguments of the command line: values beyond all bounds, of wrong types, and names of files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import typer

from campaign.attempt import Judged, Outcome
from campaign.command import Command, run
from campaign.directories import SMALL, Directories, results
from campaign.inputs import LEFT_OUT, Attack
from e2e.conftest import TINY
from hostile import HOSTILE
from tasklens.cli.main import app
from tasklens.runs.settings import ModelRunSettings, load_settings

#: Numbers that no machine has room for.
HUGE = ("100_000_000_000", str(2**31), str(2**63), str(2**64), "9" * 5000, "1e300", "1e18")
#: What a user may type, or paste, where something else belongs.
PASTED = (
    *("", " ", "0", "-1", "1.5", "1_0", "²", "١", "nan", "inf", "1e999", *HUGE),
    *(
        "cuda:99999999999999999999",
        "cuda:²",
        "mps",
        "true",
        "[]",
        "{}",
        "a=b",
        "=",
        "x=",
        "-",
        "--",
    ),
    *("train.steps=²", "train.lr=1", "measure.k=" + "[" * 100_000, "model.n_layer=" + "9" * 5000),
    *(
        "\udcff",
        "b\udcffd",
        "a\nb",
        "\x1b[31m",
        "x" * 300,
        "x" * 100_000,
        "é",
        "a/b",
        "a\\b",
        "$(x)",
    ),
    *(".", "..", "/", "~", "nowhere", "nowhere/deep", "run", "run/manifest.json", "run/data"),
    *("pipe", "/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem", "text.txt", "empty", "link"),
)
#: Options whose value is what ends the command, or starts what no test should.
SPARED = ("--help", "--install-completion", "--show-completion", "--engine", "--revision")
#: Names that a file or a directory can have.
NAMES = tuple(
    name
    for name in (*HOSTILE.values(), "b\udcffd", "-x", "a=b", "con.", "{x}", "x" * 256)
    if name and "\0" not in name
)


def _bases(d: Directories) -> dict[str, list[str]]:
    """Return arguments of each command, under which it is done in seconds."""
    small = {key.replace("__", "."): str(value) for key, value in SMALL.items()}
    values = {**TINY, **small}
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    probe = [str(word) for word in d.stock.command(models=d.stock.checkpoints[200])[1:]]
    sweep = str(d.cases["sweep"].command[1])
    bases = {name: ["run"] for name in ("show", "verify", "follow", "report", "measure", "plot")}
    return bases | {
        "train": ["run"],
        "intervene": ["run"],
        "compare": ["run", "run"],
        "run": ["smoke", *sets, "--out", "new"],
        "data": ["smoke", *sets, "--out", "new"],
        "probe": [*probe, "--out", "new"],
        "sweep": [sweep, "--out", "new", "--dry-run"],
        "gather": [sweep, "--out", "new"],
        "animate": ["run", "--out", "new.gif"],
        "export": ["run", "--out", "new"],
        "prompts": ["icl", "--families", "verbs", "--contexts", "2", "--out", "new.jsonl"],
        "series": [str(d.stock.models)],
    }


def _options() -> list[tuple[str, Any]]:
    """Return each command with each of its arguments and options."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return [
        (name, parameter)
        for name, command in sorted(commands.items())
        for parameter in command.params
        if not getattr(parameter, "is_flag", False) and not set(parameter.opts) & set(SPARED)
    ]


def _with_word(base: list[str], parameter: Any, word: str) -> list[str]:
    """Return arguments with a word in the place of one, or with an option of that value."""
    if parameter.param_type_name == "argument":
        return [word, *base[1:]]
    option = parameter.opts[-1]
    if option in base and not parameter.multiple:
        i = base.index(option)
        return [*base[: i + 1], word, *base[i + 2 :]]
    return [*base, option, word]


def wrong_word(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Give a command one word that does not belong there; it may change nothing then."""
    rng = Random(f"{seed} word {number}")
    name, parameter = rng.choice(_options())
    word = rng.choice(PASTED)
    arguments = (name, *_with_word(_bases(d)[name], parameter, word))
    judged = Judged()
    _prepare(d, work)
    before = _all_files(work)
    ended = run(work, arguments)
    if not judged.failed("the command", ended) and ended.status == 2:
        after = _all_files(work)
        judged.refused(ended, {n for n in before.keys() | after if before.get(n) != after.get(n)})
    if len(ended.err) > 3000 and "Traceback" not in ended.err:
        judged.note(Outcome.TRACEBACK, f"a message of {len(ended.err)} characters")
    return judged, f"{name} {'/'.join(parameter.opts)} {word[:60]!r}"


def _prepare(d: Directories, work: Path) -> None:
    """Put what the words name into the directory."""
    work.mkdir(parents=True)
    shutil.copytree(d.cases["run"].path, work / "run", symlinks=True)
    (work / "text.txt").write_text("no table and no settings")
    (work / "empty").mkdir()
    (work / "link").symlink_to("nowhere at all")
    os.mkfifo(work / "pipe")


def _all_files(work: Path) -> dict[str, str]:
    """Return a hash of each file, and each directory, by path."""
    every = {p.relative_to(work).as_posix(): "there" for p in work.rglob("*")}
    return every | {f"run/{n}": h for n, h in results(work / "run").items()}


def _huge_value(kind: type, text: str) -> str:
    return f"[{text}]" if kind is tuple else text


def size_of_a_run(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Run a training run of which one setting is beyond what any machine holds."""
    known = load_settings("smoke").flat()
    base = _bases(d)["run"]
    return _size(known, lambda item: ("run", *_with_setting(base, item)), work, seed, number)


def size_of_a_probe(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Probe a model with one setting beyond what any machine holds."""
    known = ModelRunSettings.from_table({"subject": {"models": ["x"]}}, []).flat()
    base = _bases(d)["probe"]
    return _size(known, lambda item: ("probe", *_with_setting(base, item)), work, seed, number)


def _with_setting(base: list[str], item: str) -> list[str]:
    """Return arguments with a setting, in the place of the one with the same key if there is."""
    same = item.partition("=")[0] + "="
    if any(word.startswith(same) for word in base):
        return [item if word.startswith(same) else word for word in base]
    return [*base, "--set", item]


def _size(
    known: dict[str, Any], command: Callable[[str], Command], work: Path, seed: int, number: int
) -> tuple[Judged, str]:
    rng = Random(f"{seed} size {number}")
    numbers = [
        key
        for key, value in known.items()
        if key not in {*LEFT_OUT} - {"workers"} and type(value) in (int, float, tuple)
    ]
    key = rng.choice(numbers)
    value = _huge_value(type(known[key]), rng.choice(HUGE))
    work.mkdir(parents=True)
    judged = Judged()
    ended = run(work, command(f"{key}={value}"))
    if not judged.failed("the command", ended) and ended.status == 2:
        left = {p.name for p in work.rglob("*")}
        judged.refused(ended, set() if "diverged" in ended.err else left)  # only training shows it
    return judged, f"{key}={value[:40]}"


def name_of_a_file(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Probe prompts in a file of a strange name, into a directory of a strange name."""
    rng = Random(f"{seed} name {number}")
    name, out = rng.choice(NAMES), rng.choice(["one", *NAMES])
    judged = Judged()
    work.mkdir(parents=True)
    prompts = work / f"{name}.jsonl"
    try:
        prompts.write_bytes(d.stock.prompts.read_bytes())
    except (OSError, ValueError):  # no file can have this name
        prompts = Path(f"{name}.jsonl")
    before = set(work.rglob("*"))
    arguments = ("--prompts", prompts, f"--out={out}")
    ended = run(work, d.stock.command(*arguments, models=d.stock.checkpoints[200]))
    if judged.failed("probe", ended):
        pass
    elif ended.status:
        judged.refused(ended, {p.name for p in set(work.rglob("*")) - before})
    else:
        for reader in ("show", "verify", "report"):
            ended = run(work, (reader, "--", out))
            if not judged.failed(reader, ended) and ended.status == 2:
                judged.note(Outcome.DIFFERENT, f"{reader} refuses it: {ended.err.strip()[:300]}")
    return judged, f"prompts {name[:60]!r}, out {out[:60]!r}"


ARGUMENT_ATTACKS: dict[str, Attack] = {
    "size-run": size_of_a_run,
    "size-probe": size_of_a_probe,
    "word": wrong_word,
    "name": name_of_a_file,
}

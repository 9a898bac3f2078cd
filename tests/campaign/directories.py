"""Directories of each kind, finished and interrupted, for the attacks to copy."""

import json
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign.command import Command, Ended, Stop, run
from e2e.conftest import changes
from e2e.stock import Stock
from e2e.sweeps import write_sweep
from tasklens.core.errors import InputError
from tasklens.core.files import sha256
from tasklens.runs.directory import RunDir

SMALL: dict[str, Any] = {
    "train__steps": 4,
    "train__warmup_steps": 2,
    "checkpoints__every": 4,
}
#: So few tokens in a forward pass that a model reads the prompts in several batches.
BATCHES = ("--set", "subject.max_tokens=64")
#: A setting under which other scores come from the same states.
OLDER = ("--set", "measure.k=[3]")


@dataclass(frozen=True)
class Case:
    """A directory, and the commands that finish and read it."""

    name: str
    kind: str
    """The name of the directory: run, probe, one, sweep."""
    path: Path
    command: Command
    """Run in the directory above; it makes the directory, or finishes it."""
    readers: dict[str, Command] = field(default_factory=dict)
    """The commands that read it, or make a part of it again, by name."""
    answers: dict[str, Ended] = field(default_factory=dict)
    """What the readers gave."""
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    """What `results` were after each reader."""
    operations: dict[str, int] = field(default_factory=dict)
    """The number of file operations of `command` from nothing, as "", and of each reader."""

    @property
    def files(self) -> list[str]:
        """The files that may be read, by path."""
        return [name for name in sorted(results(self.path)) if not self._is_done_with(name)]

    @property
    def directories(self) -> list[str]:
        """The directories within, by path."""
        paths = [p for p in self.path.rglob("*") if p.is_dir()]
        names = sorted(p.relative_to(self.path).as_posix() for p in paths)
        return [name for name in names if not self._is_done_with(name)]

    def _is_done_with(self, name: str) -> bool:
        """Return whether a path is of the state to resume from, after training."""
        return Path(name).parts[0] == "resume" and _is_trained(self.path)


class Directories:
    """All directories, by name; made below ``root``, not to be changed."""

    def __init__(self, root: Path) -> None:
        self.root, self.stock = root, Stock(root / "stock")
        grid = '[grid]\n"model.n_embd" = [8, 16]\n'
        (root / "file").mkdir()
        sweep = write_sweep(root / "file", grid, "[0]")
        self.cases: dict[str, Case] = {}
        last = self.stock.checkpoints[200]
        commands: dict[str, Command] = {
            "run": ("run", "smoke", *changes(**SMALL), "--out", "run", "--resume"),
            "probe": self.stock.command(*BATCHES, "--out", "probe", "--resume"),
            "one": self.stock.command("--out", "one", "--resume", models=last),
            "sweep": ("sweep", sweep, "--out", "sweep", "--workers", "1"),
        }
        for kind, command in commands.items():
            n = self._make(kind, kind, command).operations
            self.cases[kind].operations[""] = n
            if kind != "sweep":
                self._make(f"{kind} of seed 1", kind, (*command, "--set", "seed=1"))
                self._make(f"{kind} measured before", kind, (*command, *OLDER))
        for name, share in (("train", 0.4), ("measure", 0.75)):
            at = Stop(int(share * self.cases["run"].operations[""]), "SIGKILL")
            self._make(f"run stopped in {name}", "run", commands["run"], at)
        at = Stop(int(0.6 * self.cases["sweep"].operations[""]), "SIGKILL")
        self._make("sweep stopped", "sweep", commands["sweep"], at)
        for name, batches in (("first", 2), ("second", 8)):
            command = commands["probe"]
            self._make(f"probe stopped in the {name}", "probe", command, batches=batches)
        for case in self.attacked:
            for name, reader in _readers(case, sweep, self.cases).items():
                above = root / "answers" / case.name / name
                shutil.copytree(case.path, above / case.kind, symlinks=True)
                case.readers[name] = reader
                case.answers[name] = run(above, reader)
                case.operations[name] = case.answers[name].operations
                case.left[name] = results(above / case.kind)

    def _make(
        self,
        name: str,
        kind: str,
        command: Command,
        stop: Stop | None = None,
        batches: float | None = None,
    ) -> Ended:
        above = self.root / "cases" / name
        above.mkdir(parents=True)
        case = Case(name, kind, above / kind, command)
        ended = run(above, command, stop, batches)
        expected = 0 if stop is None and batches is None else -9 if stop else 130
        if ended.status != expected:
            raise RuntimeError(f"{name}: {ended}")
        self.cases[name] = case
        return ended

    @property
    def attacked(self) -> list[Case]:
        """The directories to attack: the others are there to be mistaken for them."""
        return [
            case
            for name, case in self.cases.items()
            if not name.endswith(("seed 1", "measured before"))
        ]

    def finished(self, case: Case) -> Case:
        """Return the finished directory of the same kind."""
        return self.cases[case.kind]


def _readers(case: Case, sweep: Path, cases: dict[str, Case]) -> dict[str, Command]:
    if case.kind == "sweep":
        readers: dict[str, Command] = {"gather": ("gather", sweep, "--out", "sweep")}
        for run_ in sorted((case.path / "runs").iterdir()):
            path = f"sweep/runs/{run_.name}"
            readers[f"show {run_.name}"] = ("show", path, "--json")
            readers[f"verify {run_.name}"] = ("verify", path, "--out", "verdict.json")
        return readers
    path = case.kind
    return {
        "show": ("show", path, "--json"),
        "verify": ("verify", path),
        "follow": ("follow", path, "--json"),
        "compare": ("compare", path, cases[f"{path} of seed 1"].path, "--json"),
        "load": ("load", path),
        "report": ("report", path),
        "measure": ("measure", path),
        "plot": ("plot", path),
    }


def _is_trained(path: Path) -> bool:
    with suppress(InputError):  # the manifest may be damaged
        return RunDir(path).mark("train") is not None
    return False


def results(path: Path, foreign: Collection[str] = ()) -> dict[str, str]:
    """Return a hash of each file, by path, over what does not depend on time and machine.

    Of locks, logs and PDFs it is only known that they are there, and of the state to resume
    training from once training is finished.
    """
    hashes = {}
    for file in sorted(_files(path, {path / name for name in foreign})):
        name = file.relative_to(path).as_posix()
        if file.name == ".lock":
            hashes[name] = "there"
        elif not file.is_file():
            hashes[name] = "no file"
        elif file.suffix in (".pdf", ".txt") or (
            file.parent == path / "resume" and _is_trained(path)
        ):
            hashes[name] = "there"
        elif file.name == "manifest.json":
            hashes[name] = sha256(_lasting_manifest(file.read_bytes()))
        elif file.name == "report.html":
            hashes[name] = sha256(_lasting_page(file.read_bytes()))
        else:
            hashes[name] = sha256(file.read_bytes())
    return hashes


def _files(path: Path, foreign: Collection[Path]) -> Iterator[Path]:
    """Yield what is no directory, also within directories that are links."""
    for file in path.iterdir() if path.is_dir() else ():
        if file not in foreign:
            if file.is_dir():
                yield from _files(file, foreign)
            else:
                yield file


def _lasting_manifest(content: bytes) -> bytes:
    try:
        manifest = json.loads(content)
        for name in [*manifest["files"]]:
            if name == "report.html" or name.endswith(".pdf"):
                del manifest["files"][name]
        manifest.pop("sha256", None)  # of all the rest, times included
        return _sorted(manifest)
    except (ValueError, LookupError, TypeError, AttributeError):
        return content


#: The data of a page.
_STORY = re.compile(rb'(<script type="application/json" id="story">)(.*?)(</script>)', re.DOTALL)


def _lasting_page(content: bytes) -> bytes:
    """Return a page without the stages and files that were finished when it was written."""

    def lasting(match: re.Match[bytes]) -> bytes:
        story = json.loads(match[2])
        for each in story.get("runs", [story]):
            each.pop("stages", None)
            each.pop("hashes", None)
        return _sorted(story)

    return _STORY.sub(lasting, content)


def _sorted(document: Any) -> bytes:
    """Return JSON without times and commands."""

    def lasting(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: lasting(v) for k, v in value.items() if k not in ("seconds", "command")}
        return [lasting(each) for each in value] if isinstance(value, list) else value

    return json.dumps(lasting(document), sort_keys=True).encode()

"""One attack: a copy of a directory, files of others in it and beside it, and the judgement."""

import enum
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from campaign.command import Ended, Stop, run
from campaign.directories import Case, Directories, results


class Outcome(enum.IntEnum):
    """Outcome of an attack, from good to bad."""

    EQUAL = 0
    """All results are those of an undisturbed run, byte by byte."""
    REFUSED = 1
    """One line of error and exit status 2; with what it advises, all results are equal."""
    TRACEBACK = 2
    """An error that is not one line, or a process that died."""
    HUNG = 3
    DIFFERENT = 4
    """Exit status 0 with other results, or with other files left."""
    LOST = 5
    """A file of others is changed or gone, or no advice brings the results back."""


#: The files that a command makes again, by the beginning of their paths.
_WRITTEN = {
    "verify": ("verdict.json",),
    "report": ("report.html", "frames.safetensors"),
    "measure": ("measured/", "scores."),
    "plot": ("figures/",),
    "gather": ("scores.", "points.", "phase.", "separation."),
}
#: What readers make; of some, as much as makes them do all of their work.
PRODUCTS = {
    "report": ("frames.safetensors", "report.html"),
    "measure": ("measured", "scores.parquet"),
    "verify": ("verdict.json",),
    "plot": ("figures",),
}
#: How often the advice of a message is followed.
_ROUNDS = 40


class Judged:
    """Notes on an attack; the worst of them is the outcome."""

    def __init__(self) -> None:
        self.outcome, self.notes = Outcome.EQUAL, list[str]()

    def note(self, outcome: Outcome, text: str) -> None:
        """Record what was seen."""
        self.outcome = max(self.outcome, outcome)
        self.notes.append(f"{outcome.name.lower()}: {text}")

    def failed(self, name: str, ended: Ended) -> bool:
        """Note a command that hung, died or printed more than a line of error."""
        if ended.status is None:
            self.note(Outcome.HUNG, name)
        elif ended.status < 0 or "Traceback" in ended.err:
            self.note(Outcome.TRACEBACK, f"{name}: status {ended.status}: {ended.err}")
        elif ended.status == 2 and not ended.refused:
            self.note(Outcome.TRACEBACK, f"{name}: not one line: {ended.err}")
        else:
            return False
        return True

    def refused(self, ended: Ended, left: Collection[str]) -> None:
        """Note a command that was refused, which may leave or change nothing."""
        self.note(Outcome.REFUSED, ended.err.strip()[:500])
        if left:
            self.note(Outcome.DIFFERENT, f"refused, and left or changed {_some(left)}")


class Attempt(Judged):
    """A copy of the directory of a case, or only its name, in a directory of its own."""

    def __init__(
        self,
        directories: Directories,
        case: Case,
        work: Path,
        *,
        empty: bool = False,
    ) -> None:
        super().__init__()
        self.case, self.finished = case, directories.finished(case)
        work = work.resolve()
        self.above, self.beside = work / "above", work / "beside"
        self.path = self.above / case.kind
        for directory in (self.above, self.beside / "theirs"):
            directory.mkdir(parents=True)
        for file in (self.beside / "theirs.txt", self.beside / "theirs" / "step-00000000.txt"):
            file.write_text("theirs")
        self._foreign = dict[Path, bytes | None]()
        self._outside = dict[Path, bytes | None]()
        if not empty:
            shutil.copytree(case.path, self.path, symlinks=True)

    def make_due(self, reader: str) -> None:
        """Remove what a reader makes, so that it has something to do."""
        for name in PRODUCTS.get(reader, ()):
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    # -- files of others ----------------------------------------------------------------------

    def plant(self) -> None:
        """Put files of others into the directory, if it is one of a run or a sweep by now."""
        if self._foreign or not any((self.path / name).is_dir() for name in ("data", "runs")):
            return
        level = [self.path, *(p for p in sorted(self.path.glob("*")) if _is_directory(p))]
        level += [p for p in sorted(self.path.glob("runs/*")) if _is_directory(p)]
        for directory in level:
            for name in ("notes.txt", ".tmp-mine", "partial-mine/keep.txt", ".tmp-dir/keep.txt"):
                file = directory / name
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(b"mine")
                self._foreign[file] = b"mine"
        (self.path / "link").symlink_to(self.beside)

    def watch(self) -> None:
        """Remember what is of others after the damage: no command may change it."""
        self._foreign = {p: content for p, content in self._foreign.items() if _bytes(p) == content}
        self._outside = {p: _bytes(p) for p in self.beside.rglob("*")}

    def _check_foreign(self) -> None:
        known = {**self._foreign, **self._outside}
        outside = {p: None for p in self.beside.rglob("*") if p not in self._outside}
        lost = [str(p.relative_to(self.above.parent)) for p, c in known.items() if _bytes(p) != c]
        lost += [f"{p.relative_to(self.above.parent)} is new" for p in outside]
        if self._foreign and not (self.path / "link").is_symlink():
            lost.append("a link")
        if lost:
            self.note(Outcome.LOST, f"of others: {_some(lost)}")

    # -- commands -----------------------------------------------------------------------------

    def read(self, name: str) -> None:
        """Run a reader, and compare what it gives with what it gave before the attack."""
        ended = run(self.above, self.case.readers[name])
        if self.failed(name, ended):
            return
        usual = self.case.answers[name]
        if ended.refused or _names_failures(ended):
            if ended.err != usual.err:
                self.note(Outcome.REFUSED, f"{name}: {ended.err.strip()}")
            return
        if "not tested: run" in ended.out:  # by the manifest, a stage has not run
            self.note(Outcome.REFUSED, f"{name}: {_changed(usual.out, ended.out)}")
            return
        allowed = [(case.answers[name], case.left[name]) for case in (self.case, self.finished)]
        answers = [each for each, _ in allowed]
        if (ended.status, ended.out) not in [(each.status, each.out) for each in answers]:
            changed = _changed(usual.out, ended.out)
            self.note(Outcome.DIFFERENT, f"{name} ends with {ended.status} and gives {changed}")
            return
        present, begins = self._results(), _WRITTEN.get(name, ())
        written = {file for file in present if begins and file.startswith(begins)}
        for file in sorted(written):
            if present[file] not in [left.get(file) for _, left in allowed]:
                self.note(Outcome.DIFFERENT, f"{name} leaves {file}")

    def stop(self, stop: Stop, name: str = "") -> None:
        """Run the command, or a reader by name, until it is stopped."""
        ended = run(self.above, self.case.readers[name] if name else self.case.command, stop)
        expected = {"SIGKILL": -9, "SIGTERM": -15, "SIGINT": 130, "full": 2}[stop.how]
        if ended.status not in (0, 1, expected):
            self.failed(name or "the command", ended)
        elif "Traceback" in ended.err:
            self.note(Outcome.TRACEBACK, ended.err)

    def finish(self) -> None:
        """Finish the directory, following the advice of messages, and compare all results."""
        for _ in range(_ROUNDS):
            ended = run(self.above, self.case.command)
            if ended.status == 0 and "Traceback" not in ended.err:
                self._compare()
                break
            if self.failed("the command", ended):
                break
            if ended.status == 1 and not _names_failures(ended):
                self.note(Outcome.TRACEBACK, f"status 1: {ended.err}")
                break
            self.note(Outcome.REFUSED, ended.err.strip())
            if not self._follow(ended.err):
                self.note(Outcome.LOST, "the message has no advice that can be followed")
                break
        else:
            self.note(Outcome.LOST, f"refused {_ROUNDS} times")
        self._check_foreign()

    def _follow(self, message: str) -> bool:
        """Remove, or move elsewhere, what a message names; return if there was anything."""
        named = re.findall(rf"{self.case.kind}/[^\s:(),;']*", message)
        paths = [self.above / name.rstrip(".") for name in named]
        path = next((path for path in paths if os.path.lexists(path)), None)
        if path is None:
            return False
        real = path.parent.resolve() / path.name
        known = next((each for each in (self._foreign, self._outside) if real in each), None)
        if known is not None:
            moved = self.beside / f"moved {len(self._outside)}"
            path.rename(moved)
            self._outside[moved] = known.pop(real)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True

    # -- results ------------------------------------------------------------------------------

    def _results(self) -> dict[str, str]:
        names = {file.relative_to(self.path).as_posix() for file in self._foreign}
        return results(self.path, names | {"link"})

    def _compare(self) -> None:
        """Compare all files; what stays damaged in a run of a sweep has to be refused there."""
        expected, present = results(self.finished.path), self._results()
        different = {n for n in expected.keys() | present if expected.get(n) != present.get(n)}
        in_runs = {n for n in different if self.case.kind == "sweep" and n.startswith("runs/")}
        for run_ in sorted({name.split("/")[1] for name in in_runs if name.count("/") > 1}):
            for reader in (f"verify {run_}", f"show {run_}"):
                if reader in self.case.readers:
                    self.read(reader)
        for text, names in (
            ("missing", different - present.keys()),
            ("left", different - expected.keys()),
            ("differs", different & expected.keys() & present.keys()),
        ):
            if names - in_runs:
                self.note(Outcome.DIFFERENT, f"{text} at the end: {_some(names - in_runs)}")


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _names_failures(ended: Ended) -> bool:
    return ended.status == 1 and (" failed: " in ended.err or " is not done" in ended.err)


def _changed(before: str, after: str) -> str:
    """Return the first line that is new."""
    old = set(before.splitlines())
    return next((line for line in after.splitlines() if line not in old), "fewer lines")[:200]

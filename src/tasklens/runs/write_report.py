"""Run directories to a report: the last stage of a run, and a page of several."""

from collections.abc import Sequence
from pathlib import Path

from tasklens.findings.verdict import Verdict
from tasklens.core.errors import InputError
from tasklens.report.page import page
from tasklens.core.files import write_file
from tasklens.runs.sources import Source, open_source
from tasklens.runs.verify import difference, verify_runs
from tasklens.runs.viewing import make_frames, view_of


def judge_sources(sources: Sequence[Source]) -> list[Verdict | None]:
    """Return one verdict where the runs differ in their seed alone, else one of each.

    None stands for a probe that has no layers to judge.
    """
    judged = [source for source in sources if source.has_layers]
    paths = [source.run.path for source in judged]
    if len(judged) == len(sources) > 1 and difference(paths) is None:
        return [verify_runs(paths)]
    return [verify_runs([s.run.path]) if s.has_layers else None for s in sources]


def open_sources(paths: Sequence[Path]) -> list[Source]:
    """Return the runs that a page is asked of; InputError where one is given twice."""
    known: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in known:
            raise InputError(f"{path} is {known[path.resolve()]}, given twice; give each run once")
        known[path.resolve()] = path
    return [open_source(path) for path in paths]


def write_report(
    sources: Sequence[Source],
    verdicts: Sequence[Verdict | None],
    command: str,
    out: Path | None = None,
) -> Path:
    """Write the page of one run into its directory, or that of several, and return its path.

    Parameters
    ----------
    sources : sequence of Source
        Their directories are locked by the caller; frames that are missing are made and kept.
    verdicts : sequence of Verdict or None
        Of all of them together, or one of each.
    command : str
        What is said of how the page was made.
    out : Path, optional
        By default ``report.html`` in the run's directory, or of several, here.

    Raises
    ------
    InputError
        Where a file is missing or damaged.
    """
    for source in sources:
        make_frames(source)
    content = page([view_of(source) for source in sources], verdicts, command)
    if out is None and len(sources) == 1:
        run = sources[0].run
        run.write(run.report, content)
        return run.report
    where = out or Path("report.html")
    write_file(where, content)
    return where

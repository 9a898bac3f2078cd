"""`tasklens report`: one HTML page of one run or several."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from tasklens.cli.options import Change, changed_run, check_out, this_command
from tasklens.cli.output import emit_path
from tasklens.core.errors import InputError


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run directories, of both kinds."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.html",
            help="The page. [default: report.html, in RUN if there is only one]",
        ),
    ] = None,
    change: Change = None,
) -> None:
    """Write one HTML page that shows what happened in a run, or in several.

    The page needs no network and opens from the disk. With --set only report.* can change, e.g.
    report.points=500. The first call for a run makes the frames of the page's map, which takes
    about a minute for a run of the default preset.
    """
    from tasklens.runs.stage_report import check_reportable, verdicts_of, write_report

    if out and out.is_dir():
        raise InputError(
            f"cannot write {out}: it is a directory; name a file, e.g. {out}/report.html"
        )
    check_out(out)
    runs = [changed_run(path, change, "report") for path in paths]
    check_reportable(runs)
    directory = runs[0].directory
    if out is None and len(runs) == 1 and not directory.is_writable:
        raise InputError(f"{directory.path} cannot be written by this user; name a file with --out")
    with contextlib.ExitStack() as stack:
        for run in runs:
            writes = change or (out is None and len(runs) == 1)
            stack.enter_context(
                run.directory.locked() if writes else run.directory.locked_to_read()
            )
            if change:
                run.save_settings()
        emit_path(write_report(runs, verdicts_of(runs), this_command(), out))

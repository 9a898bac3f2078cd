"""`tasklens intervene`: edit hidden states, and see whether the answers follow."""

from pathlib import Path
from typing import Annotated

import typer

from tasklens.cli.options import Change, Engine, Json, changed_run
from tasklens.cli.output import emit_path


def intervene(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.")],
    edits: Annotated[
        list[str] | None,
        typer.Option("--edit", metavar="NAME", help="An edit or control. [default: every one]"),
    ] = None,
    alphas: Annotated[
        list[float] | None,
        typer.Option("--alpha", metavar="NUMBER", help="A strength of shift. [default: 1]"),
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="NAME",
            help="A hidden state, or several that are edited together: block3+block4. "
            "[default: every one]",
        ),
    ] = None,
    positions: Annotated[
        list[str] | None,
        typer.Option("--position", metavar="NAME", help="A position. [default: the first one]"),
    ] = None,
    steps: Annotated[
        list[int] | None,
        typer.Option(
            "--step",
            metavar="N",
            help="A checkpoint. [default: every one whose weights are kept]",
        ),
    ] = None,
    change: Change = None,
    engine: Engine = "local",
    as_json: Json = False,
) -> None:
    """Edit hidden states, and test whether the model uses the clusters.

    Each state is moved from the centroid of its task to that of another, beside controls of the
    same length or dimension. Does only what is missing. All options that choose may be given
    several times. With --set only interventions.* can change. Prints the effects at the last
    checkpoint, the check of the group use, and the path of the table.
    """
    from tasklens.core.workers import opened, start_workers
    from tasklens.interventions.settings import EDITS, Selection
    from tasklens.runs.edit_plan import check_intervenable
    from tasklens.runs.stage_intervene import intervene as intervene_run

    selection = Selection(
        edits=tuple(dict.fromkeys(edits or EDITS)),
        alphas=tuple(dict.fromkeys(alphas or [1.0])),
        states=tuple(states or ()),
        positions=tuple(dict.fromkeys(positions or ())),
        steps=tuple(sorted(set(steps or ()))),
    )
    runs = [changed_run(path, change, "interventions") for path in paths]
    for run in runs:
        check_intervenable(run, selection)
    with opened(engine):
        for run in runs:
            with run.directory.locked():
                run.save_settings()
                count = 1 if run.states_stage == "states" else run.settings.workers
                with start_workers(engine, count) as workers:
                    intervene_run(run, [selection], workers)
    for run in runs:
        emit_path(run.directory.effects_parquet)

"""`tasklens intervene`: edit hidden states, and see whether the answers follow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasklens.cli.options import NO_VERDICT, Change, Engine, Json, changed_run, this_command
from tasklens.cli.output import emit, emit_json, emit_path
from tasklens.core.text import visible

if TYPE_CHECKING:
    from tasklens.findings.verdict import Verdict
    from tasklens.runs.run import Run


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
            help="A checkpoint. [default: every one whose weights are kept, but no untrained twin]",
        ),
    ] = None,
    change: Change = None,
    engine: Engine = "local",
    as_json: Json = False,
) -> None:
    """Edit hidden states, and test whether the model uses the clusters.

    Each state is moved from the centroid of its task to that of another, beside controls of the
    same length or dimension. Does only what is missing. All options that choose may be given
    several times. With --set only interventions.* can change. Figures, verdict and report of the
    former effects are made again. Prints the effects at the last checkpoint, the checks of the
    group use, and the path of the table.
    """
    from tasklens.core.workers import opened, start_workers
    from tasklens.interventions.settings import EDITS, Selection
    from tasklens.runs.edit_plan import check_intervenable
    from tasklens.runs.pipeline import edit_and_renew

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
    verdicts: list[Verdict | None] = []
    with opened(engine):
        for run in runs:
            with (
                run.directory.locked(),
                start_workers(engine, run.settings.workers) as workers,
            ):
                run.save_settings()
                verdicts.append(edit_and_renew(run, selection, this_command(), workers))
    documents = [
        _print_effects(run, verdict, as_json=as_json)
        for run, verdict in zip(runs, verdicts, strict=True)
    ]
    if as_json:
        emit_json({"runs": documents})


def _print_effects(run: "Run", verdict: "Verdict | None", *, as_json: bool) -> dict[str, Any]:
    """Print the effects at the last checkpoint with edits, or return them as a document."""
    from tasklens.findings.verdict_text import use_text, verdict_document
    from tasklens.interventions.final_effects import effects_text, final_effects
    from tasklens.runs.verify import verify

    effects = run.effects()
    scores = run.score_table()
    if verdict is None and run.has_layers:
        verdict = verify(run)
    path = run.directory.effects_parquet
    if not as_json:
        emit(f"{visible(str(run.directory.path))}, {effects_text(effects, scores)}")
        emit(use_text(verdict) if verdict else NO_VERDICT, verdicts=True)
        emit_path(path)
    return {
        "run": run.directory.path,
        "seed": run.settings.seed,
        "steps": sorted({int(step) for step in effects["step"]}),
        "effects": final_effects(effects, scores),
        "use": verdict and verdict_document(verdict)["use"],
        "table": path,
    }

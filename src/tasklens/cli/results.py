"""The commands that read finished runs: show, verify, follow, compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasklens.cli.options import Json, Position, RunPath, check_out, scores_document
from tasklens.cli.output import emit, emit_json, emit_path
from tasklens.core.errors import InputError
from tasklens.core.progress import inform
from tasklens.core.text import aligned, visible

if TYPE_CHECKING:
    from tasklens.runs.compare import ComparedRuns
    from tasklens.runs.directory import RunDir


def show(path: RunPath, as_json: Json = False) -> None:
    """Print the final ARI and the accuracy.

    The rows are hidden states, the columns are splits.
    """
    from tasklens.runs.load_run import load_run
    from tasklens.scoring.final_scores import scores_text

    run = load_run(path)
    if as_json:
        emit_json(scores_document(run))
    else:
        emit(scores_text(run.score_table(all_k=True), run.step_names))


def verify(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Run directories that differ in their seed, or scores.parquet."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The verdict as JSON. [default: verdict.json, in RUN if there is only one]",
        ),
    ] = None,
    shuffled: Annotated[
        bool,
        typer.Option("--shuffled", help="Shuffle the tasks first: a control that should fail."),
    ] = False,
    require: Annotated[
        str | None,
        typer.Option(
            "--require", metavar="use", help="Checks that should hold, too: those of the group use."
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Test the paper's findings on runs.

    Prints for each finding whether it holds, and the checks that it rests on, with intervals. The
    result in one sentence comes last. One model, with or without its untrained twin, has findings
    of its own: see docs/reference/findings.md. The exit status is 0 if all findings hold and 1 if
    one fails or is undecided. The group use stands apart: are the clusters used? It counts only
    with --require use.
    """
    from tasklens.core.files import write_file
    from tasklens.findings.use import USE
    from tasklens.findings.verdict_text import (
        headline_text,
        verdict_document,
        verdict_json,
        verdict_text,
    )
    from tasklens.runs.directory import RunDir
    from tasklens.runs.verify import verify as verify_runs

    if require not in (None, "use"):
        raise InputError(f"--require {require}: no such group of checks; there is use")
    check_out(out, runs)
    verdict = verify_runs(runs, shuffled=shuffled)
    if require and verdict.use.untested:
        raise InputError(
            f"--require use: {verdict.use.untested}: tasklens intervene RUN makes them"
        )
    content = verdict_json(verdict)
    if len(runs) == 1 and runs[0].is_dir() and not shuffled and not out:
        out = _keep_verdict(RunDir(runs[0]), content)
    else:
        own = b"" if out else b'"intervals over"'  # a key of each verdict
        out = out or Path("verdict.json")
        write_file(out, content, own)
    if as_json:
        emit_json(verdict_document(verdict) | {"file": out})
    else:
        emit(verdict_text(verdict), verdicts=True)
        emit(headline_text(verdict))
        if out:
            emit_path(out)
    required = [verdict.outcome(finding) for finding in USE if require]
    return 0 if verdict.holds and set(required) <= {"holds"} else 1


def _keep_verdict(directory: "RunDir", content: bytes) -> Path | None:
    """Write the verdict into its run and return its path; None if this user may only read there."""
    path = directory.verdict
    if directory.is_intact(path) and path.read_bytes() == content:
        return path
    if not directory.is_writable:
        inform(f"{directory.path} cannot be written: the verdict is only printed; or give --out")
        return None
    directory.write(path, content)
    return path


def follow(
    path: RunPath,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer", metavar="NAME", help="A hidden state, e.g. block5. [default: the best one]"
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="NAME", help="E.g. val_subset. [default: the first unseen one]"
        ),
    ] = None,
    space: Annotated[
        str, typer.Option("--space", metavar="raw|tsne", help="The space of the clusters.")
    ] = "raw",
    position: Position = None,
    as_json: Json = False,
) -> None:
    """Follow tasks and clusters through training.

    Prints the step from which each task has a cluster of its own. Then prints how many clusters
    split and merged on the way to each checkpoint.
    """
    from tasklens.runs.load_run import load_run
    from tasklens.runs.verify import follow_run
    from tasklens.scoring.cluster_tracking import followed_text

    run = load_run(path)
    position = run.position(position)
    state, split, followed, names = follow_run(run, layer, split, space, position)
    if as_json:
        tasks = [
            {"task": names[task], "formed": formed, "overlap": followed.overlap[:, i]}
            for i, (task, formed) in enumerate(zip(followed.tasks, followed.formed, strict=True))
        ]
        cell = {"run": path, "layer": state, "split": split, "space": space}
        cell["position"] = position
        changes = {"splits": followed.splits, "merges": followed.merges}
        emit_json({**cell, "steps": followed.steps, "tasks": tasks, **changes})
    else:
        at = f" at {position}" if len(run.positions) > 1 else ""
        emit(
            f"{state} on {split}{at} ({space}):\n\n{followed_text(followed, names, run.step_names)}"
        )


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    second: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Another run directory.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps",
            metavar="NAMES",
            help="Of a single RUN: stages or steps to compare, e.g. base,sft. [default: all "
            "stages, or the first and the last step]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs, or the stages or steps of one run.

    Of two runs it compares the settings, the final scores and the findings. Runs of both kinds can
    be compared if they share splits and hidden states. Of one run it compares each stage with the
    one before it, and the last with the first, on the same prompts. Differences are second minus
    first, with 95 % intervals over resampled instructions and near-best starts of KMeans.
    """
    from tasklens.findings.compare_text import steps_data, steps_text
    from tasklens.runs.compare import compare_runs, compare_steps
    from tasklens.runs.load_run import load_run

    if second is None:
        run = load_run(first)
        pairs = compare_steps(run, steps.split(",") if steps else ())
        if as_json:
            emit_json({"run": first, "differences": steps_data(pairs)})
        else:
            emit(steps_text(pairs))
        return
    if steps:
        raise InputError(f"--steps {steps}: compares the steps of one run; leave out {second}")
    compared = compare_runs(first, second)
    if as_json:
        emit_json(_comparison_document(compared))
    else:
        emit(_comparison_text(compared), verdicts=True)


def _comparison_document(compared: "ComparedRuns") -> dict[str, Any]:
    from tasklens.findings.compare_text import comparison_data
    from tasklens.findings.verdict_text import verdict_document

    return {
        "runs": compared.paths,
        "settings": {key: list(values) for key, values in compared.settings.items()},
        **comparison_data(compared.scores),
        "verdicts": [verdict and verdict_document(verdict) for verdict in compared.verdicts],
    }


def _comparison_text(compared: "ComparedRuns") -> str:
    """Return two runs side by side as plain text."""
    from tasklens.findings.compare_text import comparison_lines

    scores, names = compared.scores, [str(path) for path in compared.paths]
    lines = [f"first: {names[0]}", f"second: {names[1]}", ""]
    if compared.settings:
        lines.append("settings that differ:")
        width = max(map(len, compared.settings))
        lines += [
            f"  {key:<{width}}  {_setting(values[0])} | {_setting(values[1])}"
            for key, values in compared.settings.items()
        ]
    else:
        lines.append("settings that differ: none")
    best = [f"{cell[0]} ({cell[1]})" if cell else "none" for cell in scores.best]
    lines += ["", *comparison_lines(scores, "first", "second")]
    lines.append(f"best hidden state: {best[0]} | {best[1]}")
    if any(compared.verdicts):
        each = [verdict.findings if verdict else {} for verdict in compared.verdicts]
        rows = [["finding", "first", "second"]]
        for finding in {**each[0], **each[1]}:
            pairs = zip(compared.verdicts, each, strict=True)
            rows.append(
                [finding, *(v.outcome(finding) if v and finding in f else "-" for v, f in pairs)]
            )
        lines += ["", *aligned(rows)]
        lines += [f"{v.doubt}." for v in compared.verdicts if v and v.doubt]
    return "\n".join(map(visible, lines))


def _setting(value: Any) -> str:
    return "-" if value is None else str(list(value) if isinstance(value, tuple) else value)

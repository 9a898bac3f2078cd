"""`tasklens series`: a series of checkpoints is checked before any weights are fetched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasklens.cli.options import Json
from tasklens.cli.output import emit, emit_json
from tasklens.core.errors import InputError
from tasklens.core.text import aligned, visible

if TYPE_CHECKING:
    from tasklens.models.series_table import Revision

#: The value of --revision for all branches and tags.
ALL = "all"


def series(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ORG/NAME|DIR",
            help="A name on the hub, or a directory with directories checkpoint-N.",
        ),
    ],
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision",
            metavar="NAMES|all",
            help="Revisions of a name on the hub, e.g. step0,step1000. [default: all branches, "
            "and the tags of other commits]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a series of checkpoints before any weights are fetched.

    Prints the step, the tokens, the commit, the size and the hash of the weights of each revision,
    then what is odd: equal weights, missing steps, names without a step, revisions without weights.
    The hub is asked for names, sizes and hashes only. Of a directory, weights are read if they may
    be equal.
    """
    from tasklens.models.series_table import doubts_of_each, doubts_of_series, in_order

    names = revision.split(",") if revision and revision != ALL else []
    ordered = in_order(_find(name, names))
    each, doubts = doubts_of_each(ordered), doubts_of_series(ordered)
    if as_json:
        emit_json(
            {
                "series": name,
                "revisions": [_record(*pair) for pair in zip(ordered, each, strict=True)],
                "odd": doubts,
            }
        )
        return
    rows = [["revision", "step", "tokens", "commit", "weights", "SHA-256", "odd"]]
    rows += [_row(*pair) for pair in zip(ordered, each, strict=True)]
    used = [column for column in zip(*rows, strict=True) if any(column[1:])]
    lines = aligned([*zip(*used, strict=True)])
    odd = [f"odd: {doubt}" for doubt in doubts] or ["nothing is odd"]
    emit("\n".join([*lines, "", *map(visible, odd)]))


def _find(name: str, names: list[str]) -> "list[Revision]":
    """Return the revisions of a series on the hub or on the disk."""
    from tasklens.models.disk_series import find_directories
    from tasklens.models.hub_series import find_revisions

    path = Path(name).expanduser()
    if not path.exists():
        return find_revisions(name, names)
    if names:
        raise InputError(f"--revision: {name} is on the disk; only the hub has revisions")
    return find_directories(path)


def _record(revision: "Revision", odd: list[str]) -> dict[str, Any]:
    return {
        "revision": revision.name,
        "step": revision.step,
        "tokens": revision.tokens,
        "commit": revision.commit or None,
        "bytes": revision.size,
        "sha256": revision.sha256 or None,
        "odd": odd,
    }


def _row(revision: "Revision", odd: list[str]) -> list[str]:
    numbers = ["" if n is None else f"{n:,}" for n in (revision.step, revision.tokens)]
    size = f"{revision.size / 1e9:,.3f} GB" if revision.size else ""
    return [
        revision.name,
        *numbers,
        revision.commit[:10],
        size,
        revision.sha256[:12],
        ", ".join(odd),
    ]

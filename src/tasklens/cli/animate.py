"""`tasklens animate`: a map of a run that moves, as an animated GIF."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tasklens.cli.options import Position, RunPath, check_out
from tasklens.cli.output import emit_path


def animate(
    path: RunPath,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="A hidden state. [default: the best layer]"),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="A split. [default: the first unseen one]"),
    ] = None,
    color: Annotated[
        str,
        typer.Option(
            "--color",
            metavar="task|cluster|input|output|distribution",
            help="What colours and shapes stand for.",
        ),
    ] = "task",
    map_name: Annotated[
        str, typer.Option("--map", metavar="tsne|pca|centroids", help="The map.")
    ] = "tsne",
    position: Position = None,
    family: Annotated[
        str | None,
        typer.Option(
            "--family", metavar="NAME", help="A family of tasks. [default: the first one]"
        ),
    ] = None,
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="The height.")] = 480,
    pace: Annotated[
        float, typer.Option("--pace", metavar="SECONDS", help="From a checkpoint to the next.")
    ] = 0.5,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.gif", help="The file. [default: animation.gif]"),
    ] = None,
) -> None:
    """Write an animated GIF of a map through the checkpoints of a run.

    Without --layer, the map of a model that was not trained here moves through its hidden states.
    """
    from tasklens.core.files import write_file
    from tasklens.report.animation import COMMENT, animation
    from tasklens.runs.load_run import load_run

    check_out(out, [path])
    view = load_run(path).view(position, family)
    # What there is of these is checked there, because a run may lack an output.
    choices: dict[str, Any] = {"color": color, "map": map_name}
    content = animation(view, layer, split, **choices, size=size, pace=pace)
    file = out or Path("animation.gif")
    write_file(file, content, own=b"" if out else COMMENT)
    emit_path(file)

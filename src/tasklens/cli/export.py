"""`tasklens export`: the points of a run for other programs that show maps of vectors."""

from pathlib import Path
from typing import Annotated

import typer

from tasklens.cli.options import Position, RunPath, check_out
from tasklens.cli.output import emit_path
from tasklens.core.errors import InputError

ATLAS, PROJECTOR = "atlas", "projector"


def export(
    path: RunPath,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="atlas|projector", help="Embedding Atlas, or TensorBoard's projector."
        ),
    ] = ATLAS,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME|all",
            help="A hidden state; several for atlas. [default: the best layer]",
        ),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step", metavar="N|all", help="A checkpoint; several for atlas. [default: the last]"
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="A split; several are added. [default: all]"),
    ] = None,
    position: Position = None,
    family: Annotated[
        str | None,
        typer.Option(
            "--family",
            metavar="NAME",
            help="A family of tasks. [default: the first one for atlas, all for projector]",
        ),
    ] = None,
    map_name: Annotated[
        str | None,
        typer.Option(
            "--map", metavar="tsne|pca|centroids", help="The map of atlas. [default: tsne]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The file for atlas, the directory for projector. [default: atlas.parquet, "
            "projector]",
        ),
    ] = None,
) -> None:
    """Write the points of a run for Embedding Atlas or TensorBoard's projector.

    For atlas, a Parquet file has the points of the report's map (x, y) with label, prompt, answer,
    cluster, split and step. For projector, vectors.tsv has the hidden states and metadata.tsv the
    same facts. Both name the model, its licence and the hash of its weights.
    """
    from tasklens.report.view import MAPS
    from tasklens.runs.export import export_atlas, export_projector

    if to not in (ATLAS, PROJECTOR):
        raise InputError(f"--to {to}: should be {ATLAS} or {PROJECTOR}")
    check_out(out)
    layers, splits = layer or [], split or []
    steps = step or []
    if to == PROJECTOR:
        for name, values in (("--layer", layers), ("--step", steps)):
            if len(values) > 1 or "all" in values:
                raise InputError(f"{name}: the projector shows one; give one")
        if map_name is not None:
            raise InputError(f"--map {map_name}: the projector makes its own; leave it out")
        emit_path(
            export_projector(
                path,
                out,
                layer=next(iter(layers), None),
                step=next(iter(steps), None),
                splits=splits,
                position=position,
                family=family,
            )
        )
        return
    if map_name not in (None, *MAPS):
        raise InputError(f"--map {map_name}: should be {', '.join(MAPS[:-1])} or {MAPS[-1]}")
    emit_path(
        export_atlas(
            path,
            out,
            layers=layers,
            steps=steps,
            splits=splits,
            position=position,
            family=family,
            map=map_name or MAPS[0],
        )
    )

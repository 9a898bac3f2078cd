"""Export the measured points of a run to other programs that show maps of vectors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import safetensors.numpy

import tasklens
from tasklens.core.errors import InputError
from tasklens.core.files import one_line_errors, write_file, writing_file
from tasklens.core.parquet import write_parquet
from tasklens.core.progress import progress
from tasklens.core.text import visible
from tasklens.data.names import find_split, find_state
from tasklens.report.summary import best_state
from tasklens.report.view import MAPS, Map, ModelView
from tasklens.runs.frame_maker import (
    frames_name,
    has_frames,
    index_of,
    make_frames,
    points_name,
)
from tasklens.runs.load_run import load_run
from tasklens.runs.origin import VERSION, with_origin
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import Arrays, Floats, Ints
from tasklens.scoring.score_table import at_position

#: Rows of `vectors.tsv` that are written at a time.
ROWS = 4096
#: By what the files are recognised as those of tasklens.
OWN = VERSION
VECTORS, METADATA, CONFIG = "vectors.tsv", "metadata.tsv", "projector_config.pbtxt"

ATLAS_SCHEMA = pa.schema(
    [
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("label", pa.string()),
        ("prompt", pa.string()),
        ("input", pa.string()),
        ("output", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("cluster", pa.int64()),
        ("split", pa.string()),
        ("step", pa.int64()),
        ("checkpoint", pa.string()),
        ("layer", pa.string()),
        ("position", pa.string()),
    ]
)
#: Columns that have one value in the files for the projector.
_CONSTANT = ("step", "checkpoint", "layer", "position")


def export_atlas(
    run: Run | Path | str,
    out: Path | str | None = None,
    *,
    layers: str | Sequence[str] = (),
    steps: int | str | Sequence[int | str] = (),
    splits: str | Sequence[str] = (),
    position: str | None = None,
    family: str | None = None,
    map: Map = "tsne",
) -> Path:
    """Write the points of a run's maps as a Parquet file for Embedding Atlas.

    A row is a point of the report's map, with the columns of `ATLAS_SCHEMA` and those of the
    prompts that have other names. A training run has the column ``distribution``, too. The schema's
    metadata name the models, their licences and the hashes of their weights.
    ``embedding-atlas atlas.parquet --x x --y y --text prompt`` opens the file.

    Parameters
    ----------
    run : Run or path
        A measured run. The frames of its maps are made if they are missing, and kept there.
    out : path, optional
        The file, which is replaced if it is there; by default ``atlas.parquet`` in the working
        directory, unless this is a file of another program.
    layers : str or sequence of str
        Hidden states; by default the best layer. ``all`` is every one.
    steps : int or str, or sequence of them
        Checkpoints, by number or name; by default the last. ``all`` is every one.
    splits : str or sequence of str
        Splits; by default all.
    position : str, optional
        A measured position; by default the first.
    family : str, optional
        A family of tasks, if there are several; by default the first. Two of them share no map.
    map : {"tsne", "pca", "centroids"}
        The map whose coordinates are x and y.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the run is not measured, or lacks a layer, step, split or position.

    Examples
    --------
    >>> import tasklens as tl
    >>> import pandas as pd
    >>> path = tl.export_atlas("runs/smoke", "runs/atlas.parquet", layers="block2")
    >>> [*pd.read_parquet(path).columns[:4]]
    ['x', 'y', 'label', 'prompt']
    """
    run = run if isinstance(run, Run) else load_run(run)
    if map not in MAPS:
        raise InputError(f"map = {map!r}: should be {', '.join(MAPS[:-1])} or {MAPS[-1]}")
    cells = _Cells(run, _listed(layers), _listed(steps), _listed(splits), position)
    if not has_frames(run):
        with run.directory.locked():
            make_frames(run)
    family = run.family(family)
    frames = safetensors.numpy.load(run.directory.read(run.directory.frames))

    def tables() -> Iterator[pa.Table]:
        n = len(cells.steps) * len(cells.layers) * len(cells.splits)
        with progress("export", n, "map") as bar:
            for step in cells.steps:
                for layer in cells.layers:
                    for split in cells.splits:
                        points = index_of(run, split, family)[frames[points_name(split, family)]]
                        name = frames_name(run, split, layer, cells.position, family)
                        at = frames[f"{name}/{map}"][run.steps.index(step)]  # (N, 2)
                        columns = {"x": at[:, 0], "y": at[:, 1]}
                        columns |= cells.facts(step, layer, split, points)
                        yield cells.table(columns)
                        bar.update(1)

    path = Path("atlas.parquet" if out is None else out)
    with writing_file(path, own=OWN if out is None else b"") as file:
        write_parquet(file, tables())
    return path


def export_projector(
    run: Run | Path | str,
    out: Path | str | None = None,
    *,
    layer: str | None = None,
    step: int | str | None = None,
    splits: str | Sequence[str] = (),
    position: str | None = None,
    family: str | None = None,
) -> Path:
    r"""Write a hidden state for TensorBoard's projector: ``vectors.tsv`` and ``metadata.tsv``.

    All measured instances are written, in the order of the splits. The first line of the metadata
    names its columns. A tab or a line break in a text is written as ``\t`` or ``\n``. With the
    file ``projector_config.pbtxt`` beside them, ``tensorboard --logdir projector`` shows them; both
    files can also be loaded at projector.tensorflow.org.

    Parameters
    ----------
    run : Run or path
        A measured run.
    out : path, optional
        The directory, in which files of these names are replaced and others stay; by default
        ``projector`` in the working directory, unless it has files of another program.
    layer : str, optional
        A hidden state; by default the best layer.
    step : int or str, optional
        A checkpoint, by number or name; by default the last.
    splits : str or sequence of str
        Splits; by default all.
    position : str, optional
        A measured position; by default the first.
    family : str, optional
        A family of tasks, if there are several; by default all of them.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    InputError
        If the run is not measured, or lacks the layer, step, split or position.

    Examples
    --------
    >>> import tasklens as tl
    >>> path = tl.export_projector("runs/smoke", "runs/projector", layer="block2")
    >>> (path / "metadata.tsv").read_text().splitlines()[0].split("\t")[:3]
    ['label', 'prompt', 'input']
    """
    run = run if isinstance(run, Run) else load_run(run)
    steps = () if step is None else (step,)
    cells = _Cells(run, _listed(layer or ()), steps, _listed(splits), position)
    (layer,), (step,) = cells.layers, cells.steps
    path = Path("projector" if out is None else out)
    if path.exists() and not path.is_dir():
        raise InputError(f"cannot write {path}: it is a file; should be a directory")
    if out is None and path.exists() and any(path.iterdir()):
        config = path / CONFIG
        if not config.is_file() or OWN not in config.read_bytes():
            raise InputError(f"{path} is not of tasklens; move it, or name a directory with --out")
    with one_line_errors(path):
        (path / CONFIG).unlink(missing_ok=True)  # the others change from now on
    with writing_file(path / VECTORS) as vectors, writing_file(path / METADATA) as metadata:
        is_first = True
        families = [run.family(family)] if family else run.families or ("",)
        every = {
            split: np.sort(np.concatenate([index_of(run, split, name) for name in families]))
            for split in cells.splits
        }
        with progress("export", sum(map(len, every.values())), "vector") as bar:
            for split, index in every.items():
                states = run.states(layer, step, split, cells.position)
                for begin in range(0, len(index), ROWS):
                    rows = index[begin : begin + ROWS]
                    vectors.write(_tsv_of_vectors(states[rows]))
                    facts = cells.facts(step, layer, split, rows)
                    texts = cells.table(facts).drop_columns(["x", "y", *_CONSTANT])
                    metadata.write(_tsv(texts, with_header=is_first))
                    is_first = False
                    bar.update(len(rows))
    name = f"{run.name} {layer} step {step} {cells.position}"
    lines = [
        f"# {OWN.decode()} {tasklens.__version__}",
        *(f"# {visible(text)}" for text in map(_described, run.models)),
        "embeddings {",
        f"  tensor_name: {json.dumps(visible(name), ensure_ascii=False)}",
        f'  tensor_path: "{VECTORS}"',
        f'  metadata_path: "{METADATA}"',
        "}",
    ]
    write_file(path / CONFIG, ("\n".join(lines) + "\n").encode())
    return path


class _Cells:
    """The cells of a run that are exported, and what is known of their points."""

    def __init__(
        self,
        run: Run,
        layers: tuple[str, ...],
        steps: tuple[Any, ...],
        splits: tuple[str, ...],
        position: str | None,
    ) -> None:
        run.need("measure")
        self.run, self.position = run, run.position(position)
        self._clusters: tuple[int, Arrays] | None = None
        self.steps = (
            run.steps if "all" in steps else tuple(run.find_step(str(step)) for step in steps)
        )
        self.steps = self.steps or run.steps[-1:]
        self.splits = tuple(find_split(split, run.splits) for split in splits) or (*run.splits,)
        names = run.state_names
        if "all" in layers:
            layers = names
        table = at_position(run.score_table(), self.position)
        best = best_state(table, next(iter(run.splits)), names, run.steps[-1])
        self.layers = tuple(find_state(layer, names) for layer in layers) or (best,)

    def facts(self, step: int, layer: str, split: str, points: Ints) -> dict[str, Any]:
        """Return the columns of some points (N,) of a split, without their coordinates."""
        run, n = self.run, len(points)
        known, names = run.instances_at(self.position)[split], run.names_at(self.position)
        if self._clusters is None or self._clusters[0] != step:
            self._clusters = step, run.clusters(step)
        clusters = self._clusters[1]
        labels = clusters[run.cell(split, layer, "raw", self.position).name("labels")]
        answers = clusters[f"{split}/answer"][points].astype(np.int64)
        tokens, index = np.unique(answers, return_inverse=True)
        called = run.token_names(step, tokens)
        correct = clusters.get(f"{split}/correct")
        texts = run.texts(split)
        columns: dict[str, Any] = {
            part: [names[part][int(value)] for value in values[points]]
            for part, values in (known.parts | {"distribution": known.distribution}).items()
            if values is not None
        }
        columns["label"] = columns.pop("task")
        columns |= {
            "prompt": [texts[i] for i in points],
            "answer": [called[i] for i in index],
            "cluster": labels[0][points].astype(np.int64),
            "split": [split] * n,
            "step": [step] * n,
            "checkpoint": [run.step_title(step)] * n,
            "layer": [layer] * n,
            "position": [self.position] * n,
        }
        if correct is not None:
            columns["correct"] = [None if c < 0 else bool(c) for c in correct[points]]
        first = run.splits[split].start
        for name, values in run.columns.items():
            if name not in (*ATLAS_SCHEMA.names, "task", "text") and _is_plain(values):
                own = [values[first + i] for i in points]
                columns[name] = [None if value is None else str(value) for value in own]
        return columns

    def table(self, columns: Mapping[str, Any]) -> pa.Table:
        """Return columns as a table of `ATLAS_SCHEMA` and the prompts' own columns, all texts."""
        own = [(name, pa.string()) for name in columns if name not in ATLAS_SCHEMA.names]
        schema = with_origin(pa.schema([*ATLAS_SCHEMA, *own]), self.run)
        n = len(columns["label"])
        arrays = [pa.array(columns.get(f.name, [None] * n), type=f.type) for f in schema]
        return pa.Table.from_arrays(arrays, schema=schema)


def _listed(values: Any) -> tuple[Any, ...]:
    """Return one value, or several, as a tuple."""
    return (values,) if isinstance(values, str | int) else tuple(values)


def _is_plain(values: Sequence[Any]) -> bool:
    return all(value is None or isinstance(value, str | int | float) for value in values)


def _tsv_of_vectors(x: Floats) -> bytes:
    """Return the rows of (N, D) as lines of numbers, from which the same float32 are read."""
    columns = [pa.array(column) for column in np.ascontiguousarray(x.T)]
    table = pa.Table.from_arrays(columns, names=[str(i) for i in range(len(columns))])
    sink = pa.BufferOutputStream()
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t")
    pyarrow.csv.write_csv(table, sink, options)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _tsv(table: pa.Table, *, with_header: bool) -> bytes:
    """Return a table of values as lines of texts, which have no tab and no line break."""
    rows = [table.column_names] if with_header else []
    rows += zip(*(column.to_pylist() for column in table.columns), strict=True)
    lines = ("\t".join("" if v is None else visible(str(v)) for v in row) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def _described(model: ModelView) -> str:
    licence = f"licence {model.licence}" if model.licence else "trained by the run"
    return f"{model.name}: {licence}, SHA-256 of the weights {model.weights or 'not kept'}"

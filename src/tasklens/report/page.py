"""Write the report: one HTML file with the data of some runs, which loads nothing else."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa

from tasklens import __version__
from tasklens.core.text import visible
from tasklens.data.instances import SPLIT_MEANINGS
from tasklens.findings.verdict import Verdict
from tasklens.findings.verdict_text import interval_text, location_lines, number_text, verdict_json
from tasklens.report.edits_page import edits_data, pack_moves
from tasklens.report.page_arrays import Packer, script_json
from tasklens.report.view import MAPS, PLANES, SplitView, View
from tasklens.scoring.crossed_text import SCORES as CROSSED_SCORES
from tasklens.scoring.crossed_text import crossed_columns
from tasklens.scoring.score_table import CONTROLS, summarise, to_frame

#: The scripts of the page, in the order in which they run.
SCRIPTS = (
    *("vendor/d3.min.js", "vendor/plot.umd.min.js"),
    *(
        "unpack.js",
        "look.js",
        "symbols.js",
        "maps.js",
        "charts.js",
        "ends.js",
        "curves.js",
        "names.js",
        "cloud.js",
        "moves.js",
        "legend.js",
        "contents.js",
        "parts.js",
        "verdicts.js",
        "world.js",
        "edits.js",
        "dials.js",
        "play.js",
        "stage.js",
        "multiples.js",
        "beside.js",
        "controls.js",
        "zoom.js",
        "select.js",
        "search.js",
        "svg_pen.js",
        "save.js",
        "film.js",
        "address.js",
    ),
    "main.js",
)
#: The metrics of a hidden state that the page shows by step.
METRICS = (
    *("ari", "ami", "ari_shuffled", "ari_distribution", "ari_input", "ari_output"),
    *("variance_task", "variance_distribution", "variance_input", "variance_output"),
    *("probe_task", "centroid_task", "neighbours_task"),
)
#: Decimal places of a score: more than a screen shows.
DIGITS = 4

#: What every page has, by which it is recognised.
GENERATOR = b'<meta name="generator" content="tasklens">'


def page(
    views: Sequence[Sequence[View]], verdicts: Sequence[Verdict | None], command: str
) -> bytes:
    """Return the page of some runs as HTML.

    Text from a user's files is data in the page, and the page shows it as text. The page's content
    security policy allows only the scripts of this package, which it identifies by their hashes,
    and no requests.

    Parameters
    ----------
    views : sequence of sequences of View
        Of each run, of which there is at least one, the view at each measured position of each
        family of tasks.
    verdicts : sequence of Verdict or None
        One verdict on all runs, or one per run; None if a model has no layers to judge.
    command : str
        The command that wrote the page.
    """
    runs, texts = zip(*map(run_data, views), strict=True)
    arrays = [
        f'<script type="text/plain" id="packed-{i}-{j}-{k}">{text}</script>'
        for i, by_position in enumerate(texts)
        for j, by_split in enumerate(by_position)
        for k, text in enumerate(by_split)
    ]
    story = {
        "version": __version__,
        "command": command,
        "runs": runs,
        "verdicts": [verdict and verdict_data(verdict) for verdict in verdicts],
    }
    story_element = f'<script type="application/json" id="story">{script_json(story)}</script>'
    scripts = [_asset(name) for name in SCRIPTS]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src "
    policy += " ".join(map(_script_source, scripts))
    filled = {
        "{{policy}}": html.escape(policy),
        "{{title}}": html.escape(visible(_title(views, verdicts))),
        "{{description}}": html.escape(" ".join(v.headline for v in verdicts if v)),
        "{{style}}": _asset("page.css"),
        "{{data}}": "\n".join([story_element, *arrays]),
        "{{licences}}": "\n".join(_asset(f"vendor/{name}.LICENSE") for name in ("d3", "plot")),
        "{{scripts}}": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    # The page is split at each mark, not searched and replaced: the data may contain later marks.
    text, content = _asset("page.html"), []
    for mark, value in filled.items():
        before, text = text.split(mark)
        content += [before, value]
    return "".join([*content, text]).encode()


def _title(views: Sequence[Sequence[View]], verdicts: Sequence[Verdict | None]) -> str:
    """Return the title of the window: the runs and, if there is one verdict, its result."""
    names = ", ".join(first.run for first, *_ in views)
    results = [verdict.title for verdict in verdicts if verdict]
    return (
        f"{names}: {results[0]} (tasklens)"
        if len(results) == 1 == len(verdicts)
        else f"{names} (tasklens)"
    )


def _asset(name: str) -> str:
    """Return the text of a file in `page_assets`."""
    return resources.files("tasklens.report").joinpath("page_assets", name).read_text("utf-8")


def _script_source(script: str) -> str:
    """Return the source of a script in a content security policy: the hash of its text."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON, with thresholds as text."""
    data: dict[str, Any] = json.loads(verdict_json(verdict))
    data["where_text"] = [line.strip() for line in location_lines(verdict)]
    for finding in (*data["findings"], *data["use"]["findings"]):
        for check, plain in zip(
            verdict.checks_of(finding["finding"]), finding["checks"], strict=True
        ):
            plain["threshold"] = check.rule.threshold
        deciding = verdict.deciding(finding["finding"])
        finding["deciding"] = deciding and {
            "number": number_text(deciding),
            "interval": interval_text(deciding),
            "split": deciding.split,
            "statistic": deciding.rule.statistic,
        }
    data["stages"] = {name: verdict_data(stage) for name, stage in verdict.stages.items()}
    return data


def run_data(views: Sequence[View]) -> tuple[dict[str, Any], list[list[str]]]:
    """Return the data of a run as JSON, and its packed arrays as text by position and split.

    There is a view for each measured position and, if there are several, each family of tasks.
    """
    positions, texts = zip(*map(_position_data, views), strict=True)
    view = views[0]
    world, manifest = view.world, view.manifest
    data = {
        "name": view.run,
        "seed": view.seed,
        "kind": view.kind,
        "steps": view.steps,
        "step_names": [view.step_names.get(step, str(step)) for step in view.steps]
        if view.step_names
        else None,
        "states": view.states,
        "answers": view.answers,
        "positions": positions,
        "world": {
            "tasks": [vars(task) | {"function": [*task.function.items()]} for task in world.tasks],
            "sizes": dict(world.sizes),
            "same_output": _matrix(world.same_output),
            "same_symbols": _matrix(world.same_symbols),
        },
        "settings": view.settings,
        "models": [model._asdict() for model in view.models],
        "origin": {key: manifest.get(key) for key in ("command", "versions", "machine")},
        "stages": {
            stage: {key: value for key, value in mark.items() if key not in ("inputs", "files")}
            for stage, mark in manifest.get("stages", {}).items()
            if stage != "report"
        },
        "hashes": {
            path: digest
            for path, digest in manifest.get("files", {}).items()
            if path != "report.html"
        },
    }
    return data, list(texts)


def _position_data(view: View) -> tuple[dict[str, Any], list[str]]:
    """Return the data of a run at a position, of one family, and each split's packed arrays."""
    packed = {name: _pack(split) for name, split in view.splits.items()}
    moves = view.edits.moves if view.edits else {}
    moved = {name: pack_moves(packed[name], of_split) for name, of_split in moves.items()}
    data = {
        "position": view.position,
        "family": view.family,
        "best": view.state(),
        "names": view.names,
        "splits": [
            {"name": name, "meaning": view.family or SPLIT_MEANINGS.get(name, "")}
            | {"arrays": packed[name].directory, "moves": moved.get(name)}
            | _split_data(split)
            for name, split in view.splits.items()
        ],
        "scores": _scores(view, view.table),
        "means": None if view.means is None else _scores(view, view.means),
        "crossed": _crossed(view),
        "edits": edits_data(view),
    }
    return data, [packer.text() for packer in packed.values()]


def _split_data(split: SplitView) -> dict[str, Any]:
    """Return the data of a split as JSON, without its arrays."""
    return {
        "n": len(split),
        "instructions": sorted(set(split.instruction)),
        "shown_variance": {
            plane: {state: _rounded(split.shown_variance[plane, state]) for state in split.assigned}
            for plane in PLANES
        },
        "shown_between": {s: _rounded(share) for s, share in split.shown_between.items()},
        "followed": {
            state: {
                "tasks": followed.tasks.tolist(),
                "formed": followed.formed,
                "overlap": [_rounded(row) for row in followed.overlap],
            }
            for state, followed in split.followed.items()
        },
    }


def _pack(split: SplitView) -> Packer:
    """Pack the arrays of a split; its instructions are indices into their sorted names."""
    packer = Packer()
    for part, numbers in split.parts.items():
        packer.add(part, numbers)
    number = {text: i for i, text in enumerate(sorted(set(split.instruction)))}
    packer.add("instruction", np.array([number[text] for text in split.instruction]))
    packer.add("answer", split.answer + 1)  # 0: unknown
    if split.right is not None:
        packer.add("right", split.right.astype(int))
    for state, assigned in split.assigned.items():
        packer.add(f"cluster/{state}", assigned)
    for name in MAPS:
        for state in split.assigned:
            packer.add_map(f"{name}/{state}", split.maps[name, state], by="input")
    return packer


def _scores(view: View, table: pa.Table) -> dict[str, Any]:
    """Return scores of a table by split, line and metric: by step, [mean, lowest, highest] or null.

    A line is a hidden state, a control or "model"; a control has one step. The mean is over cluster
    seeds; the range of the ARI is over near-best starts, too.
    """
    scores: dict[str, Any] = {split: {} for split in view.splits}
    columns = ("split", "layer", "space", "metric", "step")
    crossed = [f"{score}_{name}" for name in _crossed(view) for score in CROSSED_SCORES]
    summary = summarise(to_frame(table, {*METRICS, *crossed, "accuracy"}), columns)
    for key, *values in summary[["mean", "low", "high"]].itertuples():
        split, line, space, metric, step = key
        control, state = line in CONTROLS, line in view.states and space == "raw"
        shown = state or metric == ("ari" if control else "accuracy")
        if split in scores and shown:
            n = 1 if control else len(view.steps)
            course = scores[split].setdefault(line, {}).setdefault(metric, [None] * n)
            course[0 if control else view.steps.index(step)] = _rounded(values)
    return scores


def _crossed(view: View) -> list[str]:
    """Return the names of the columns that are crossed with the task."""
    return crossed_columns(view.table["metric"].unique().to_pylist())


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Round values to `DIGITS`; a value that is not finite is None."""
    return [round(float(v), DIGITS) if np.isfinite(v) else None for v in values]


def _matrix(values: Any) -> list[list[float | None]] | None:
    """Return the rounded rows of a matrix, if there is one."""
    return None if values is None else [_rounded(row) for row in values]
